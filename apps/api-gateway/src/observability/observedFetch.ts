import type { Metrics } from './metrics.js';
import { notingOutcome } from './notingOutcome.js';
import { currentRequest } from './requestContext.js';
import type { Tracer } from './tracer.js';

/** The last segments of the provider's endpoints as a label may hold them. */
const ENDPOINTS = new Set([
  'openid-configuration',
  'certs',
  'token',
  'userinfo',
  'revoke',
  'logout',
  'auth',
]);

/** A `fetch` for the provider, timed by endpoint, and part of the trace of whoever asked. */
export function observedFetch(
  metrics: Pick<Metrics, 'providerSeconds'>,
  tracer: Tracer | null,
  base: typeof fetch = fetch,
): typeof fetch {
  return async (input, init) => {
    const last =
      new URL(input instanceof Request ? input.url : input).pathname.split('/').at(-1) ?? '';
    const endpoint = ENDPOINTS.has(last) ? last : 'other';
    const span = tracer?.begin(
      `provider ${endpoint}`,
      'client',
      currentRequest()?.traceparent ?? null,
    );
    const end = metrics.providerSeconds.startTimer({ endpoint });
    return notingOutcome(
      (outcome) => {
        end({ outcome });
        span?.end(
          { 'session_gateway.endpoint': endpoint, 'session_gateway.outcome': outcome },
          outcome === 'failed' || outcome === '5xx',
        );
      },
      () =>
        base(
          input,
          span
            ? {
                ...init,
                headers: {
                  ...Object.fromEntries(new Headers(init?.headers)),
                  traceparent: span.traceparent,
                },
              }
            : init,
        ),
      ({ status }) => status,
    );
  };
}
