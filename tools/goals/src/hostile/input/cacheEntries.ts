import type { Session } from '@session-gateway/keycloak-auth';
import { cacheKeyOfCookie } from '../../../../../libs/keycloak-authV2/src/services/session/cookieHash.js';
import { packSession } from '../../../../../libs/keycloak-authV2/src/services/session/sessionMetadata.js';

const HOUR_MS = 3_600_000;
const TAG_BYTES = 16;
/**
 * As far ahead as a gateway takes another's clock to be. One that has just started believes nothing that was confirmed
 * before it heard of ends, so a forger claims the latest moment that is believed.
 */
const AHEAD_MS = 4_500;

/** Where the copy of a cookie's session lies in Redis. */
export const keyOfCookie = cacheKeyOfCookie;

/** What somebody who knows the format, and not the key, writes there. */
export function forgedEntry(
  key: string,
  about: Pick<Session, 'id' | 'subject' | 'roles' | 'version'>,
  tag: Buffer = Buffer.alloc(TAG_BYTES),
): Buffer {
  const now = new Date();
  const head = Buffer.alloc(4);
  head.writeUInt32BE(about.version);
  const session: Session = {
    ...about,
    sid: null,
    createdAt: now,
    lastAccessedAt: now,
    expiresAt: new Date(now.getTime() + HOUR_MS),
    tokenExpiresAt: new Date(now.getTime() + HOUR_MS),
    tokenLifetimeSeconds: 3_600,
    idleTimeoutSeconds: null,
    fingerprint: null,
    acr: null,
  };
  const confirmedAt = new Date(now.getTime() + AHEAD_MS);
  return Buffer.concat([head, packSession({ session, confirmedAt }, key), tag]);
}
