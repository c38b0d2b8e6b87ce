-- Which key the fleet was told to seal under, and when: a process that starts without it is too old to take part.
ALTER TABLE "token_keys" ADD COLUMN "promoted_at" TIMESTAMPTZ(6);
