-- What happened to sessions, for whoever has to find out later: who, when, why; never a token or a cookie. Rows outlive
-- their sessions, so nothing refers to them.
SET LOCAL lock_timeout = '200ms';

CREATE TABLE "session_events" (
    "id" BIGSERIAL NOT NULL,
    "at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "event" TEXT NOT NULL,
    "session_id" TEXT,
    "subject" TEXT,
    "sid" TEXT,
    "reason" TEXT,
    "actor" TEXT NOT NULL,
    "ip_address" TEXT,

    CONSTRAINT "session_events_pkey" PRIMARY KEY ("id")
);
CREATE INDEX "session_events_at_idx" ON "session_events"("at");
CREATE INDEX "session_events_session_id_idx" ON "session_events"("session_id");
CREATE INDEX "session_events_subject_at_idx" ON "session_events"("subject", "at");

-- A login that is under way while its session is ended at the provider must find that out.
ALTER TABLE "logout_tokens" ADD COLUMN "sid" TEXT, ADD COLUMN "subject" TEXT;
CREATE INDEX "logout_tokens_created_at_idx" ON "logout_tokens"("created_at");

-- Ended sessions are purged by the time they ended, which rows from before may not say.
DO $$
BEGIN
  IF current_setting('session_gateway.backfilled', true) IS DISTINCT FROM 'on' THEN
    UPDATE "user_sessions" SET "ended_at" = "updated_at" WHERE NOT "is_active" AND "ended_at" IS NULL;
  END IF;
END $$;
