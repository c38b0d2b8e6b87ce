-- Why a run of the re-encryption job rests, and what it has to put back once it ends.

ALTER TABLE "token_encryption_runs" ADD COLUMN "throttled_by" TEXT;

CREATE TABLE "token_encryption_vacuum" (
    "table_name" TEXT NOT NULL,
    "former" JSONB NOT NULL,
    "set_at" TIMESTAMPTZ(6) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "token_encryption_vacuum_pkey" PRIMARY KEY ("table_name")
);
