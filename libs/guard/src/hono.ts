import type { Guard } from './guard.js';
import { ofFetch, pass, refusedOnFetch } from './request.js';
import type { Spec } from './requirement.js';

interface HonoContextLike {
  readonly req: { readonly raw: Request };
  header(name: string, value: string): void;
}

/** A guard for Hono: middleware; `identityOf(context.req.raw)` says who. */
export function honoGuard(guard: Guard) {
  return {
    protect(spec?: Spec<Request>) {
      const check = guard.checker(spec);
      return async (
        context: HonoContextLike,
        next: () => Promise<void>,
      ): Promise<Response | undefined> => {
        const { raw } = context.req;
        try {
          const passed = await check(ofFetch(raw), raw);
          pass(passed, raw);
          for (const [name, value] of Object.entries(passed.headers)) context.header(name, value);
        } catch (error) {
          return refusedOnFetch(error);
        }
        await next();
        return undefined;
      };
    },
  };
}
