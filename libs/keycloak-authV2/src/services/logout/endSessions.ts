import { setTimeout as delay } from 'node:timers/promises';
import type { KeycloakClient } from '../../client/KeycloakClient.js';
import { isAuthError } from '../../errors.js';
import type { Origin, SessionEvents } from '../audit/sessionEvents.js';
import type { SessionStore } from '../session/SessionStore.js';
import type { EndedSession, EndReason, SessionSelection, TokenVault } from '../token/TokenVault.js';

/** What ending a session takes. */
export interface Enders {
  vault: TokenVault;
  store: SessionStore;
  events: SessionEvents;
}

/** Ends sessions in the row first, then in every cache. Returns those that this call ended. */
export async function endSessions(enders: Enders, selection: SessionSelection, reason: EndReason, options: { seenVersion?: number } & Origin = {}): Promise<EndedSession[]> {
  const ended = await enders.vault.end(selection, reason, options);
  await afterEnding(enders, ended);
  return ended;
}

/** What follows the end of sessions in their rows, once that is committed: caches forget them, and it is told. */
export async function afterEnding({ store, events }: Pick<Enders, 'store' | 'events'>, ended: readonly EndedSession[]): Promise<void> {
  events.tellEnded(ended);
  await store.forget(ended.flatMap(({ cookieHash }) => (cookieHash ? [cookieHash] : [])));
}

const REVOCATION_PAUSES_MS = [500, 5_000];

/**
 * Revokes the refresh tokens of ended sessions at the provider, and with them the sessions there. Best effort, tried
 * three times: the sessions are over here whatever it answers. Sessions here that hang on one `sid` live and die together
 * there: `exceptSid` spares the one that somebody goes on with.
 */
export async function revokeAtProvider(
  { client, events }: { client: KeycloakClient; events: SessionEvents },
  ended: readonly Pick<EndedSession, 'id' | 'subject' | 'sid' | 'reason' | 'refreshToken'>[],
  options: { exceptSid?: string | null } = {},
): Promise<void> {
  await Promise.all(ended.map(async ({ id, subject, sid, reason, refreshToken }) => {
    if (!refreshToken || (sid !== null && sid === options.exceptSid)) return;
    const about = { sessionId: id, subject, sid, actor: 'gateway' };
    for (let attempt = 0; ; attempt++) {
      try {
        await client.revoke(refreshToken);
        await events.note({ event: 'revocation', reason, ...about });
        return;
      } catch (error) {
        const pause = REVOCATION_PAUSES_MS[attempt];
        if (pause === undefined || !isAuthError(error, 'provider_unavailable')) {
          await events.note({ event: 'revocation', reason: 'failed', ...about });
          return;
        }
        await delay(pause);
      }
    }
  }));
}
