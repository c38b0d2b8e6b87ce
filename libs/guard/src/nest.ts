import { GuardError } from './errors.js';
import type { Guard } from './guard.js';
import { type NodeRequest, ofNode, pass } from './request.js';
import type { Spec } from './requirement.js';

type NestRequest = NodeRequest & { readonly raw?: NodeRequest };
interface NestResponse {
  /** Express's. */
  setHeader?(name: string, value: string): unknown;
  /** Fastify's. */
  header?(name: string, value: string): unknown;
}
interface ExecutionContextLike {
  switchToHttp(): { getRequest(): unknown; getResponse(): unknown };
}

/**
 * A guard for NestJS, on Express and on Fastify: `@UseGuards(protect('realm:admin'))`. The fields of the
 * answer are set, and the refusal is thrown: what `exception` makes of it, or a GuardError, which Nest's
 * own filter answers and logs.
 */
export function nestGuard(
  guard: Guard,
  options: {
    /**
     * For example `(error) => new HttpException(JSON.parse(error.problem()), error.status)`, which Nest does not log.
     */
    exception?: (error: GuardError) => Error;
  } = {},
) {
  return {
    protect(spec?: Spec<NestRequest>): {
      canActivate(context: ExecutionContextLike): Promise<boolean>;
    } {
      const check = guard.checker(spec);
      return {
        async canActivate(context) {
          const http = context.switchToHttp();
          const request = http.getRequest() as NestRequest;
          const raw = request.raw ?? request;
          const set = setterOf(http.getResponse() as NestResponse);
          try {
            const passed = await check(ofNode(raw), request);
            pass(passed, request, raw);
            set(passed.headers);
            return true;
          } catch (error) {
            if (!(error instanceof GuardError)) throw error;
            set(error.headers);
            throw options.exception?.(error) ?? error;
          }
        },
      };
    },
  };
}

function setterOf(response: NestResponse): (fields: Readonly<Record<string, string>>) => void {
  return (fields) => {
    for (const [name, value] of Object.entries(fields))
      if (response.setHeader) response.setHeader(name, value);
      else response.header?.(name, value);
  };
}
