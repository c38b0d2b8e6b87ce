-- Access tokens that were exchanged for another audience (RFC 8693), sealed; each as old as the session's tokens of one version.
CREATE TABLE "exchanged_tokens" (
    "session_id" TEXT NOT NULL,
    "audience" TEXT NOT NULL,
    "access_token" TEXT,
    "token_expires_at" TIMESTAMPTZ(6),
    "session_version" INTEGER,
    "lease_owner" TEXT,
    "lease_until" TIMESTAMPTZ(6),

    CONSTRAINT "exchanged_tokens_pkey" PRIMARY KEY ("session_id","audience")
);

ALTER TABLE "exchanged_tokens" ADD CONSTRAINT "exchanged_tokens_session_id_fkey" FOREIGN KEY ("session_id") REFERENCES "user_sessions"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- They end with their session in the same statement, whoever ends it. In a trigger, because it sees what was committed
-- while the statement waited for the row.
CREATE FUNCTION "erase_exchanged_tokens"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM "exchanged_tokens" WHERE "session_id" = NEW."id";
    RETURN NULL;
END $$;

CREATE TRIGGER "user_sessions_erase_exchanged_tokens" AFTER UPDATE OF "is_active" ON "user_sessions"
    FOR EACH ROW WHEN (OLD."is_active" AND NOT NEW."is_active") EXECUTE FUNCTION "erase_exchanged_tokens"();
