import type { Guard } from './guard.js';
import { ofFetch, pass, refusedOnFetch } from './request.js';
import type { Spec } from './requirement.js';

/** A guard for functions from a web-standard request to a response, as Next.js's route handlers are. */
export function fetchGuard(guard: Guard) {
  return {
    /** The function, for requests that are good; what else it is called with goes through. */
    protect<Rest extends unknown[]>(
      spec: Spec<Request> | undefined,
      handler: (request: Request, ...rest: Rest) => Response | Promise<Response>,
    ) {
      const check = guard.checker(spec);
      return async (request: Request, ...rest: Rest): Promise<Response> => {
        let fields: Readonly<Record<string, string>>;
        try {
          const passed = await check(ofFetch(request), request);
          pass(passed, request);
          fields = passed.headers;
        } catch (error) {
          return refusedOnFetch(error);
        }
        return withFields(await handler(request, ...rest), fields);
      };
    },
  };
}

/** A response's own fields may be fixed: then it is copied. */
function withFields(response: Response, fields: Readonly<Record<string, string>>): Response {
  if (Object.keys(fields).length === 0) return response;
  const copy = new Response(response.body, response);
  for (const [name, value] of Object.entries(fields)) copy.headers.set(name, value);
  return copy;
}
