import type { SessionEvents } from '../audit/sessionEvents.js';
import type { SessionStore } from '../session/SessionStore.js';
import type { EndedSession, EndReason } from '../audit/endedSession.js';
import type { EndOptions, SessionSelection } from '../token/endRows.js';
import type { TokenVault } from '../token/TokenVault.js';
import type { ProviderLogouts } from './ProviderLogouts.js';

/** What ending a session takes. */
export interface Enders {
  vault: TokenVault;
  store: SessionStore;
  events: SessionEvents;
  providerLogouts: Pick<ProviderLogouts, 'kick'>;
}

/** Ends sessions in the row first, then in every cache, then at the provider. Returns those that this call ended. */
export async function endSessions(
  enders: Enders,
  selection: SessionSelection,
  reason: EndReason,
  options: EndOptions = {},
): Promise<EndedSession[]> {
  const ended = await enders.vault.end(selection, reason, options);
  await afterEnding(enders, ended);
  return ended;
}

/** What follows the end of sessions in their rows, once that is committed: caches forget them, and it is told. */
export async function afterEnding(
  { store, events, providerLogouts }: Omit<Enders, 'vault'>,
  ended: readonly EndedSession[],
): Promise<void> {
  events.tellEnded(ended);
  if (ended.some(({ owedId }) => owedId !== null)) providerLogouts.kick();
  await store.forget(ended.flatMap(({ cookieHash }) => (cookieHash ? [cookieHash] : [])));
}
