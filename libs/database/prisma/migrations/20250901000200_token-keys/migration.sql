-- What the database knows of the keys that its tokens are sealed under, and which gateways are at work with which keys.

CREATE TABLE "token_keys" (
    "kid" TEXT NOT NULL,
    "fingerprint" TEXT NOT NULL,
    "canary" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "retired_at" TIMESTAMPTZ(6),

    CONSTRAINT "token_keys_pkey" PRIMARY KEY ("kid")
);

CREATE TABLE "gateway_instances" (
    "id" TEXT NOT NULL,
    "primary_kid" TEXT NOT NULL,
    "keys" JSONB NOT NULL,
    "started_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "seen_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "gateway_instances_pkey" PRIMARY KEY ("id")
);
