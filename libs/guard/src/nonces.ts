import { createHmac, randomBytes } from 'node:crypto';

/** Where the nonces come from that DPoP proofs have to hold (RFC 9449 §9). */
export interface NonceSource {
  /** The nonce that clients should use now. */
  current(): string | Promise<string>;
  accepts(nonce: string): boolean | Promise<boolean>;
}

/**
 * Nonces that change with time and are stored nowhere: the current one and the one before are good. Processes that
 * share a secret share their nonces; without one, each process has its own. `everySeconds`: 60 by default.
 */
export function rotatingNonces(
  options: { secret?: string; everySeconds?: number; now?: () => number } = {},
): NonceSource {
  const { secret = randomBytes(32), everySeconds = 60, now = Date.now } = options;
  const of = (period: number): string =>
    createHmac('sha256', secret).update(`dpop nonce ${period}`).digest('base64url').slice(0, 22);
  const period = (): number => Math.floor(now() / (everySeconds * 1000));
  return {
    current: () => of(period()),
    accepts: (nonce) => [of(period()), of(period() - 1)].includes(nonce),
  };
}
