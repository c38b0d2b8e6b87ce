-- What every instance must hear within a second: which copies of sessions are right no more. Each reads what has been
-- committed since its last reading. Written by triggers, so that it holds whoever ends a session: this version, an older
-- one beside it, an administrator with psql.
SET LOCAL lock_timeout = '200ms';

CREATE TABLE "session_changes" (
    "xact" BIGINT NOT NULL DEFAULT txid_current(),
    "cookie_hash" BYTEA NOT NULL,
    "version" INTEGER,
    "at" TIMESTAMPTZ(6) NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT "session_changes_pkey" PRIMARY KEY ("xact","cookie_hash")
);

-- It runs with its owner's rights: whoever may end a session needs none on the new table, and no end fails for want of
-- them. Nobody else can make a trigger of it, which would let them write into a table of their own with these rights.
CREATE FUNCTION "tell_session_change"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- An empty hash: every copy of any session.
    hash bytea := '';
    -- Null: no copy is right. A number: none of an older version is.
    newest integer;
BEGIN
    IF TG_OP <> 'TRUNCATE' THEN
        hash := OLD.cookie_hash;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF NEW.is_active AND NEW.cookie_hash = hash AND NEW.version > OLD.version THEN
            newest := NEW.version;
        END IF;
    END IF;
    EXECUTE format('INSERT INTO %I.session_changes AS told (cookie_hash, version) VALUES ($1, $2)
        ON CONFLICT (xact, cookie_hash) DO UPDATE SET version = CASE WHEN told.version IS NOT NULL THEN EXCLUDED.version END', TG_TABLE_SCHEMA)
        USING hash, newest;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION "tell_session_change"() FROM PUBLIC;

-- Of what a copy holds; a use that is noted is none of it, and costs no look at the row.
CREATE TRIGGER "user_sessions_tell_change" AFTER UPDATE OF "is_active", "version", "cookie_hash", "user_id", "keycloak_session_id",
        "expires_at", "token_expires_at", "fingerprint", "metadata" ON "user_sessions"
    FOR EACH ROW WHEN (OLD."is_active" AND OLD."cookie_hash" IS NOT NULL AND (
        NOT NEW."is_active" OR NEW."version" <> OLD."version" OR NEW."cookie_hash" IS DISTINCT FROM OLD."cookie_hash"
        OR NEW."user_id" <> OLD."user_id" OR NEW."keycloak_session_id" IS DISTINCT FROM OLD."keycloak_session_id"
        OR NEW."expires_at" <> OLD."expires_at" OR NEW."token_expires_at" IS DISTINCT FROM OLD."token_expires_at"
        OR NEW."fingerprint" IS DISTINCT FROM OLD."fingerprint" OR NEW."metadata"->'roles' IS DISTINCT FROM OLD."metadata"->'roles'))
    EXECUTE FUNCTION "tell_session_change"();
CREATE TRIGGER "user_sessions_tell_idle" AFTER UPDATE OF "last_accessed_at" ON "user_sessions"
    FOR EACH ROW WHEN (OLD."is_active" AND OLD."cookie_hash" IS NOT NULL AND NEW."last_accessed_at" < OLD."last_accessed_at")
    EXECUTE FUNCTION "tell_session_change"();
CREATE TRIGGER "user_sessions_tell_deletion" AFTER DELETE ON "user_sessions"
    FOR EACH ROW WHEN (OLD."is_active" AND OLD."cookie_hash" IS NOT NULL) EXECUTE FUNCTION "tell_session_change"();
CREATE TRIGGER "user_sessions_tell_truncation" AFTER TRUNCATE ON "user_sessions"
    FOR EACH STATEMENT EXECUTE FUNCTION "tell_session_change"();
