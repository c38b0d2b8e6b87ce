import { GuardError } from './errors.js';
import type { Guard } from './guard.js';
import { type NodeRequest, ofNode, pass } from './request.js';
import type { Spec } from './requirement.js';

interface FastifyRequestLike {
  readonly raw: NodeRequest;
}
interface FastifyReplyLike {
  code(status: number): unknown;
  headers(fields: Readonly<Record<string, string>>): unknown;
  send(body: string): unknown;
}

/** A guard for Fastify: hooks for `onRequest` or `preHandler`. */
export function fastifyGuard(guard: Guard) {
  return {
    protect(spec?: Spec<FastifyRequestLike>) {
      const check = guard.checker(spec);
      return async (request: FastifyRequestLike, reply: FastifyReplyLike): Promise<unknown> => {
        try {
          const passed = await check(ofNode(request.raw), request);
          pass(passed, request, request.raw);
          reply.headers(passed.headers);
          return undefined;
        } catch (error) {
          if (!(error instanceof GuardError)) throw error;
          reply.code(error.status);
          reply.headers({ ...error.headers, 'content-type': 'application/problem+json' });
          reply.send(error.problem());
          return reply;
        }
      };
    },
  };
}
