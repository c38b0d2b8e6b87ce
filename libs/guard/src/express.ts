import { GuardError } from './errors.js';
import type { Guard } from './guard.js';
import { type NodeRequest, type NodeResponse, ofNode, pass, refuseOnNode } from './request.js';
import type { Requirement, Spec } from './requirement.js';

type Next = (error?: unknown) => void;
type Middleware<Request> = (request: Request, response: NodeResponse, next: Next) => void;

export interface ExpressGuard<Request extends NodeRequest> {
  /** A middleware that lets good requests pass. */
  protect(spec?: Spec<Request>): Middleware<Request>;
  /** A middleware that asks Keycloak for permissions, `RESOURCE` or `RESOURCE:SCOPE`: all of them. */
  enforcer(
    permissions: string | readonly string[],
    options?: Pick<Requirement<Request>, 'claims'>,
  ): Middleware<Request>;
}

/** A guard for Express 4 and 5, Connect and what else calls `(request, response, next)`. */
export function expressGuard<Request extends NodeRequest = NodeRequest>(
  guard: Guard,
  options: {
    /** Answers refusals; default: problem documents. */
    onRefused?: (error: GuardError, request: Request, response: NodeResponse, next: Next) => void;
  } = {},
): ExpressGuard<Request> {
  function protect(spec?: Spec<Request>): Middleware<Request> {
    const check = guard.checker(spec);
    return (request, response, next) => {
      check(ofNode(request), request).then(
        (passed) => {
          pass(passed, request);
          for (const name in passed.headers) response.setHeader(name, passed.headers[name] ?? '');
          next();
        },
        (error: unknown) => {
          if (options.onRefused && isRefusal(error))
            options.onRefused(error, request, response, next);
          else if (!refuseOnNode(error, response)) next(error);
        },
      );
    };
  }
  return {
    protect,
    enforcer: (permissions, more = {}) => protect({ permissions, ...more }),
  };
}

const isRefusal = (error: unknown): error is GuardError => error instanceof GuardError;
