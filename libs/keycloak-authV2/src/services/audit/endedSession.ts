/** Why a session ended, as the row and the audit trail say it. */
export type EndReason =
  | 'logout'
  | 'backchannel_logout'
  | 'frontchannel_logout'
  | 'ended_by_user'
  | 'ended_by_admin'
  | 'replaced'
  | 'session_limit'
  | 'idle_timeout'
  | 'refresh_expired'
  | 'absolute_timeout'
  | 'grant_ended'
  | 'subject_changed';

/** A session that has just been ended. The tokens are gone from the row already. */
export interface EndedSession {
  readonly id: string;
  readonly subject: string;
  readonly sid: string | null;
  readonly reason: EndReason;
  readonly actor: string;
  /** Whether the refresh token had ended by itself, by PostgreSQL's clock. */
  readonly isRefreshTokenOver: boolean;
  readonly cookieHash: Buffer | null;
  /** Null when there is none or it does not open. */
  readonly idToken: string | null;
  /** The row of `provider_logouts` that ends the provider's session; null when nothing is owed. */
  readonly owedId: string | null;
}
