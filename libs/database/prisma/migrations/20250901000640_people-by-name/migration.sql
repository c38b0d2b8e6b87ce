-- Administrators find people by e-mail address and user name. Letters of either case are one, as for Keycloak.
CREATE INDEX IF NOT EXISTS "users_email_lower_idx" ON "users" (lower("email"));
CREATE INDEX IF NOT EXISTS "user_sessions_username_lower_idx" ON "user_sessions" (lower("metadata"->>'preferred_username'));
