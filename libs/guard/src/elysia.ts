import type { Guard } from './guard.js';
import { ofFetch, pass, refusedOnFetch } from './request.js';
import type { Spec } from './requirement.js';

interface ElysiaContextLike {
  readonly request: Request;
  readonly set: { headers: Record<string, unknown> };
}

/** A guard for Elysia: a hook for `beforeHandle`; `identityOf(request)` says who. */
export function elysiaGuard(guard: Guard) {
  return {
    protect(spec?: Spec<Request>) {
      const check = guard.checker(spec);
      return async ({ request, set }: ElysiaContextLike): Promise<Response | undefined> => {
        try {
          const passed = await check(ofFetch(request), request);
          pass(passed, request);
          Object.assign(set.headers, passed.headers);
          return undefined;
        } catch (error) {
          return refusedOnFetch(error);
        }
      };
    },
  };
}
