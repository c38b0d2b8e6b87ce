import type { IncomingMessage } from 'node:http';
import type { RateLimits } from '@session-gateway/database';
import { Problem } from './errors.js';
import { remoteAddress } from './remoteAddress.js';

/** Of the request line and all headers together; more ends the connection. */
export const MAX_HEADER_BYTES = 32_768;
export const MAX_ADDRESS_BYTES = 8_192;
/** The gateway's own routes take forms of a few KB; each says how much of that it reads. */
const MAX_OWN_BODY_BYTES = 65_536;
/** So many header fields are too many: servers behind drop what is beyond their own bound without a word. */
export const TOO_MANY_FIELDS = 200;

/** Asked before anything of ours is put among the fields. */
export const hasTooManyFields = ({ rawHeaders }: Pick<IncomingMessage, 'rawHeaders'>): boolean =>
  rawHeaders.length >= 2 * TOO_MANY_FIELDS;

/** @throws Problem `address_too_long`, `request_too_large` */
export function requireSaneSize(request: IncomingMessage, answeredHere: boolean): void {
  if ((request.url ?? '').length > MAX_ADDRESS_BYTES) throw new Problem('address_too_long');
  if (answeredHere && Number(request.headers['content-length'] ?? 0) > MAX_OWN_BODY_BYTES)
    throw new Problem('request_too_large');
}

export interface RequestLimits {
  /**
   * Answers unless the address has had its share. `vouches` is asked only then: what it names is answered all the same,
   * a few times.
   * @throws Problem `rate_limited`
   */
  guard(
    request: Request,
    answer: () => Promise<Response>,
    vouches: (route: 'callback' | 'backchannel-logout') => Promise<string | null>,
  ): Promise<Response>;
}

/** How often a minute one login state, or one logout token, passes over the limit of its address. */
const PASSES = 5;

/** How many of each one address may ask in a minute. */
export interface RequestLimitNumbers {
  readonly login: number;
  readonly callback: number;
  readonly logoutToken: number;
}

/**
 * Limits by address (IPv6: by /64) what makes the provider or cryptography work for somebody unknown. What counts are
 * logins that were begun and not finished, and callbacks and logout tokens that were refused: a busy office or a
 * provider that logs thousands out is not held up. Behind a reverse proxy that is not trusted all share one address, so
 * what a stranger sends must not stop the provider's tokens or people's logins.
 */
export function createRequestLimits(
  perMinute: RequestLimitNumbers,
  limits: RateLimits,
): RequestLimits {
  const [logins, callbacks, logoutTokens] = [
    limits.limit('login', perMinute.login),
    limits.limit('callback', perMinute.callback),
    limits.limit('logout-token', perMinute.logoutToken),
  ];
  const passes = limits.limit('vouched', PASSES);
  const refuseAfter = (seconds: number | null): void => {
    if (seconds !== null) throw new Problem('rate_limited', { retryAfterSeconds: seconds });
  };
  return {
    async guard(request, answer, vouches) {
      const route = LIMITED.exec(request.url)?.[1] as LimitedRoute | undefined;
      if (route === undefined) return answer();
      const from = addressGroup(remoteAddress(request));
      if (route === 'login') {
        refuseAfter(await logins.take(from));
        const answered = await answer();
        if (answered.status !== 302) await logins.giveBack(from);
        return answered;
      }
      const refusals = route === 'callback' ? callbacks : logoutTokens;
      const wait = await refusals.look(from);
      if (wait !== null) {
        const voucher = await vouches(route);
        if (voucher === null || (await passes.take(voucher)) !== null) refuseAfter(wait);
      }
      const answered = await answer();
      // A 303 leads on from a response that logged nobody in.
      if (answered.status === 303 || (answered.status >= 400 && answered.status < 500))
        await refusals.take(from);
      else if (route === 'callback' && logsIn(answered)) await logins.giveBack(from);
      return answered;
    },
  };
}

/** With SameSite=Strict a 200 that sets the cookie leads on; one that sets none only has the browser ask again. */
const logsIn = ({ status, headers }: Response): boolean =>
  status === 302 || (status === 200 && headers.has('set-cookie'));

type LimitedRoute = 'login' | 'callback' | 'backchannel-logout';
const LIMITED = /^https?:\/\/[^/]*\/auth\/(login|callback|backchannel-logout)\/?(?:[?#]|$)/;

/** Whom an address stands for: a subscriber holds a whole /64 of IPv6 (RFC 6177). */
export function addressGroup(address: string | null): string {
  if (address === null || !address.includes(':')) return address ?? 'unknown';
  const [head = '', tail] = (address.split('%')[0] ?? '').toLowerCase().split('::');
  const [front, back] = [head, tail ?? ''].map((part) => part.split(':').filter(Boolean)) as [
    string[],
    string[],
  ];
  const groups =
    tail === undefined
      ? front
      : [
          ...front,
          ...Array<string>(Math.max(0, 8 - front.length - back.length)).fill('0'),
          ...back,
        ];
  return `${groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`;
}
