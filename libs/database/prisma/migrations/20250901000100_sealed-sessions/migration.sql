-- Everything the gateway adds. It runs on adopted databases too, whose tables may differ in details from 0_init, so each
-- step says what must be true afterwards rather than what to change. On a large table the steps that take long have been
-- done before, while others went on reading and writing: those up to the mark below, batches, and indexes one by one.

-- A busy table makes this fail at once and be tried again: whoever waits for such a lock makes all others wait.
SET LOCAL lock_timeout = '200ms';
-- With this time zone, timestamp becomes timestamptz without rewriting the table.
SET LOCAL timezone = 'UTC';

DO $$
DECLARE
  found record;
BEGIN
  FOR found IN
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name IN ('users', 'user_sessions') AND data_type = 'timestamp without time zone'
  LOOP
    EXECUTE format('ALTER TABLE %I ALTER COLUMN %I TYPE timestamptz', found.table_name, found.column_name);
  END LOOP;

  -- One session of the provider may carry several of ours: whatever made `sid` unique goes.
  FOR found IN
    SELECT i.indexrelid::regclass AS index_name, c.conname
    FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = 'keycloak_session_id'
    LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid
    WHERE i.indrelid = 'user_sessions'::regclass AND i.indisunique AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum
  LOOP
    IF found.conname IS NOT NULL THEN
      EXECUTE format('ALTER TABLE user_sessions DROP CONSTRAINT %I', found.conname);
    ELSE
      EXECUTE format('DROP INDEX %s', found.index_name);
    END IF;
  END LOOP;

  FOR found IN
    SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = current_schema() AND is_nullable = 'NO' AND (
      (table_name = 'users' AND column_name IN ('email', 'name')) OR
      (table_name = 'user_sessions' AND column_name IN ('keycloak_session_id', 'access_token', 'refresh_token', 'id_token',
        'token_expires_at', 'refresh_expires_at', 'fingerprint', 'ip_address', 'user_agent', 'metadata')))
  LOOP
    EXECUTE format('ALTER TABLE %I ALTER COLUMN %I DROP NOT NULL', found.table_name, found.column_name);
  END LOOP;
END $$;

ALTER TABLE "users"
  ADD COLUMN IF NOT EXISTS "email" TEXT,
  ADD COLUMN IF NOT EXISTS "name" TEXT,
  ADD COLUMN IF NOT EXISTS "created_at" TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
  ADD COLUMN IF NOT EXISTS "updated_at" TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
  ALTER COLUMN "created_at" SET DEFAULT CURRENT_TIMESTAMP,
  ALTER COLUMN "updated_at" SET DEFAULT CURRENT_TIMESTAMP;

ALTER TABLE "user_sessions"
  ADD COLUMN IF NOT EXISTS "token_expires_at" TIMESTAMPTZ,
  ADD COLUMN IF NOT EXISTS "refresh_expires_at" TIMESTAMPTZ,
  ADD COLUMN IF NOT EXISTS "fingerprint" TEXT,
  ADD COLUMN IF NOT EXISTS "ip_address" TEXT,
  ADD COLUMN IF NOT EXISTS "user_agent" TEXT,
  ADD COLUMN IF NOT EXISTS "metadata" JSONB,
  ADD COLUMN IF NOT EXISTS "is_active" BOOLEAN NOT NULL DEFAULT true,
  ADD COLUMN IF NOT EXISTS "last_accessed_at" TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
  ADD COLUMN IF NOT EXISTS "cookie_hash" BYTEA,
  ADD COLUMN IF NOT EXISTS "ended_at" TIMESTAMPTZ,
  ADD COLUMN IF NOT EXISTS "end_reason" TEXT,
  ADD COLUMN IF NOT EXISTS "version" INTEGER NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS "refresh_lease_owner" TEXT,
  ADD COLUMN IF NOT EXISTS "refresh_lease_until" TIMESTAMPTZ,
  ALTER COLUMN "is_active" SET DEFAULT true,
  ALTER COLUMN "last_accessed_at" SET DEFAULT CURRENT_TIMESTAMP,
  -- A session without a stated end is already over.
  ALTER COLUMN "expires_at" SET DEFAULT CURRENT_TIMESTAMP,
  ALTER COLUMN "created_at" SET DEFAULT CURRENT_TIMESTAMP,
  ALTER COLUMN "updated_at" SET DEFAULT CURRENT_TIMESTAMP;

-- A session that an older gateway, still running, inserts from now on has its row id as cookie.
CREATE OR REPLACE FUNCTION "user_sessions_cookie_hash"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.cookie_hash := sha256(convert_to(NEW.id, 'UTF8'));
  RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS "user_sessions_cookie_hash" ON "user_sessions";
CREATE TRIGGER "user_sessions_cookie_hash" BEFORE INSERT ON "user_sessions"
  FOR EACH ROW WHEN (NEW.cookie_hash IS NULL) EXECUTE FUNCTION "user_sessions_cookie_hash"();

-- Until here no row is changed.

-- So has every session from before.
DO $$
BEGIN
  IF current_setting('session_gateway.backfilled', true) IS DISTINCT FROM 'on' THEN
    UPDATE "user_sessions" SET "cookie_hash" = sha256(convert_to("id", 'UTF8')) WHERE "cookie_hash" IS NULL;
  END IF;
END $$;

CREATE UNIQUE INDEX IF NOT EXISTS "users_keycloak_id_key" ON "users"("keycloak_id");
CREATE UNIQUE INDEX IF NOT EXISTS "user_sessions_cookie_hash_key" ON "user_sessions"("cookie_hash");
CREATE INDEX IF NOT EXISTS "user_sessions_user_id_idx" ON "user_sessions"("user_id");
CREATE INDEX IF NOT EXISTS "user_sessions_keycloak_session_id_idx" ON "user_sessions"("keycloak_session_id");
CREATE INDEX IF NOT EXISTS "user_sessions_is_active_token_expires_at_idx" ON "user_sessions"("is_active", "token_expires_at");
CREATE INDEX IF NOT EXISTS "user_sessions_is_active_last_accessed_at_idx" ON "user_sessions"("is_active", "last_accessed_at");
CREATE INDEX IF NOT EXISTS "user_sessions_is_active_expires_at_idx" ON "user_sessions"("is_active", "expires_at");
CREATE INDEX IF NOT EXISTS "user_sessions_ended_at_idx" ON "user_sessions"("ended_at");

CREATE TABLE "logout_tokens" (
    "issuer" TEXT NOT NULL,
    "jti" TEXT NOT NULL,
    "expires_at" TIMESTAMPTZ(6) NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "logout_tokens_pkey" PRIMARY KEY ("issuer","jti")
);
CREATE INDEX "logout_tokens_expires_at_idx" ON "logout_tokens"("expires_at");

CREATE TABLE "token_encryption_runs" (
    "id" TEXT NOT NULL,
    "table_name" TEXT NOT NULL,
    "target_kid" TEXT NOT NULL,
    "mode" TEXT NOT NULL,
    "status" TEXT NOT NULL,
    "checkpoint" TEXT,
    "sweep" INTEGER NOT NULL DEFAULT 0,
    "counters" JSONB NOT NULL DEFAULT '{}',
    "owner" TEXT,
    "started_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "finished_at" TIMESTAMPTZ(6),

    CONSTRAINT "token_encryption_runs_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "token_encryption_quarantine" (
    "table_name" TEXT NOT NULL,
    "column_name" TEXT NOT NULL,
    "row_id" TEXT NOT NULL,
    "run_id" TEXT NOT NULL,
    "reason" TEXT NOT NULL,
    "first_seen_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "last_seen_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "token_encryption_quarantine_pkey" PRIMARY KEY ("table_name","column_name","row_id")
);
