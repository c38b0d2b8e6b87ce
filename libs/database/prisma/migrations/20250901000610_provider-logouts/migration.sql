-- What ended sessions still owe the provider: its own session is to end there too. A refresh token moves here, sealed anew,
-- in the transaction that ends its session, and goes when the provider has answered or the token has expired.
CREATE TABLE "provider_logouts" (
    "id" TEXT NOT NULL,
    "session_id" TEXT NOT NULL,
    "subject" TEXT NOT NULL,
    "sid" TEXT,
    "reason" TEXT NOT NULL,
    "call" TEXT NOT NULL,
    "refresh_token" TEXT NOT NULL,
    "expires_at" TIMESTAMPTZ(6) NOT NULL,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "next_attempt_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "provider_logouts_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "provider_logouts_sealed" CHECK ("refresh_token" ~ '^v2\.[a-z0-9]{1,16}\.[A-Za-z0-9_-]{54,}$')
);
CREATE INDEX "provider_logouts_next_attempt_at_idx" ON "provider_logouts"("next_attempt_at");
