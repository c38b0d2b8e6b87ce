import { AsyncLocalStorage } from 'node:async_hooks';
import { base } from './base.js';

/** What the requests that belong to one call share. */
interface Call {
  readonly deadline: AbortSignal;
  answerLost: boolean;
}

/** `fetch` without its `Request` objects, which cannot be sent to another address. */
export type ProviderFetch = (url: string | URL, init?: RequestInit) => Promise<Response>;

const calls = new AsyncLocalStorage<Call>();

/**
 * Runs a call to the provider, all of whose requests together get `ms`. `answerLost()` tells afterwards whether a
 * refresh token was sent and an answer to it did not arrive whole: it may be spent then.
 */
export async function providerCall<Result>(
  ms: number,
  work: (answerLost: () => boolean) => Promise<Result>,
): Promise<Result> {
  const call: Call = { deadline: AbortSignal.timeout(ms), answerLost: false };
  return calls.run(call, () => work(() => call.answerLost));
}

/**
 * `send` to the provider, by its internal address where there is one. A refresh grant whose answer is lost on a broken
 * connection is sent once more, within the same deadline. That is never worse than giving up: if the first one was not
 * carried out the second is good, and if it was, its answer is gone whoever asks next (docs/adr/0010).
 */
export function providerFetch(
  issuer: string,
  internalUrl: string | undefined,
  send: typeof fetch,
): ProviderFetch {
  const [outside, inside] = [base(issuer), internalUrl === undefined ? null : base(internalUrl)];
  const reach = (url: string): string =>
    inside !== null && (url === outside || url.startsWith(`${outside}/`))
      ? inside + url.slice(outside.length)
      : url;
  return async (input, init) => {
    const url = reach(String(input));
    const call = calls.getStore();
    if (!call) return send(url, init);
    const signal = init?.signal ? AbortSignal.any([init.signal, call.deadline]) : call.deadline;
    const attempt = (): Promise<Response> => send(url, { ...init, signal });
    if (!isRefreshGrant(init?.body)) return attempt();
    try {
      return await whole(await attempt());
    } catch (error) {
      if (wasNeverSent(error)) throw error;
      call.answerLost = true;
      if (signal.aborted) throw error;
      return whole(await attempt());
    }
  };
}

/** The answer with its body here; a failure's body is no loss. */
async function whole(response: Response): Promise<Response> {
  const { status, statusText, headers } = response;
  const body = await response.arrayBuffer().catch((error: unknown) => {
    if (response.ok) throw error;
    return new ArrayBuffer(0);
  });
  return new Response(body, { status, statusText, headers });
}

const isRefreshGrant = (body: unknown): boolean =>
  (body instanceof URLSearchParams || typeof body === 'string') &&
  new URLSearchParams(body).get('grant_type') === 'refresh_token';

const NEVER_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

function wasNeverSent(error: unknown): boolean {
  const { code, errors } = (error instanceof Error ? (error.cause ?? {}) : {}) as {
    code?: unknown;
    errors?: unknown[];
  };
  return (
    NEVER_SENT.has(String(code)) ||
    (Array.isArray(errors) &&
      errors.length > 0 &&
      errors.every((one) => NEVER_SENT.has(String((one as { code?: unknown }).code))))
  );
}
