-- What other terminals ask of a run of the re-encryption job, and the ranges of ids that its workers share.

ALTER TABLE "token_encryption_runs"
    ADD COLUMN "request" TEXT,
    ADD COLUMN "pace" JSONB,
    ADD COLUMN "reason" TEXT,
    ADD COLUMN "last_sweep" INTEGER,
    ADD COLUMN "sweep_started_at" TIMESTAMPTZ(6);

CREATE TABLE "token_encryption_ranges" (
    "run_id" TEXT NOT NULL,
    "number" INTEGER NOT NULL,
    "after_id" TEXT,
    "up_to_id" TEXT,
    "checkpoint" TEXT,
    "owner" TEXT,
    "whole" BOOLEAN NOT NULL DEFAULT true,
    "done" BOOLEAN NOT NULL DEFAULT false,
    "wanted" INTEGER NOT NULL DEFAULT 0,
    "lost" INTEGER NOT NULL DEFAULT 0,

    CONSTRAINT "token_encryption_ranges_pkey" PRIMARY KEY ("run_id","number")
);
