import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Guard } from './guard.js';
import { ofNode, pass, refuseOnNode } from './request.js';
import type { Spec } from './requirement.js';

type Listener = (request: IncomingMessage, response: ServerResponse) => unknown;

/** A guard for listeners of `node:http`; refusals are answered as problem documents. */
export function nodeGuard(guard: Guard) {
  return {
    /** The listener, for requests that are good. What it throws is its own. */
    protect(spec: Spec<IncomingMessage> | undefined, listener: Listener) {
      const check = guard.checker(spec);
      return async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
        try {
          const passed = await check(ofNode(request), request);
          pass(passed, request);
          for (const [name, value] of Object.entries(passed.headers))
            response.setHeader(name, value);
        } catch (error) {
          if (!refuseOnNode(error, response)) throw error;
          return;
        }
        await listener(request, response);
      };
    },
  };
}
