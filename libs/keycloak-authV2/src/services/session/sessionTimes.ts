/**
 * How long a session may be left alone, in milliseconds, as SQL over a row `s` of `user_sessions`: the setting, or less
 * where the provider's own idle time was shorter at the login.
 */
export const idleMsSql = (settingMs: string): string =>
  `least(${settingMs}::float8, CASE jsonb_typeof(s.metadata->'idle_timeout') WHEN 'number' THEN (s.metadata->>'idle_timeout')::float8 * 1000 END)`;

/** Whether a row `s` is over by PostgreSQL's clock, which alone decides that. */
export const isOverSql = (settingMs: string): string =>
  `(s.expires_at <= now() OR s.last_accessed_at <= now() - ${idleMsSql(settingMs)} * interval '1 millisecond')`;

/** Why a row `s` whose `expires_at` has passed is over: it is the refresh token's end, or the absolute timeout. */
export const EXPIRY_REASON_SQL = `CASE WHEN s.expires_at = s.refresh_expires_at THEN 'refresh_expired' ELSE 'absolute_timeout' END`;
