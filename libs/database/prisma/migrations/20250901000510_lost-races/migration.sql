-- Rows that a sweep of the re-encryption job lost to others, with digests of what they held: what is found in them next time
-- tells whether somebody has written it since.

CREATE TABLE "token_encryption_lost_races" (
    "run_id" TEXT NOT NULL,
    "row_id" TEXT NOT NULL,
    "digests" TEXT[],

    CONSTRAINT "token_encryption_lost_races_pkey" PRIMARY KEY ("run_id", "row_id")
);
