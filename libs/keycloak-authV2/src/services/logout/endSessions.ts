import type { KeycloakClient } from '../../client/KeycloakClient.js';
import type { SessionStore } from '../session/SessionStore.js';
import type { EndedSession, EndReason, SessionSelection, TokenVault } from '../token/TokenVault.js';

/** Ends sessions in the row first, then in every cache. Returns those that this call ended. */
export async function endSessions(
  { vault, store }: { vault: TokenVault; store: SessionStore },
  selection: SessionSelection,
  reason: EndReason,
  options: { seenVersion?: number } = {},
): Promise<EndedSession[]> {
  const ended = await vault.end(selection, reason, options);
  await forgetSessions(store, ended);
  return ended;
}

export async function forgetSessions(store: SessionStore, ended: readonly EndedSession[]): Promise<void> {
  await store.forget(ended.flatMap(({ cookieHash }) => (cookieHash ? [cookieHash] : [])));
}

/** Revokes the refresh tokens of ended sessions at the provider. Best effort: the sessions are over here whatever it answers. */
export async function revokeAtProvider(client: KeycloakClient, ended: readonly EndedSession[]): Promise<void> {
  await Promise.allSettled(ended.map(({ refreshToken }) => (refreshToken ? client.revoke(refreshToken) : undefined)));
}
