-- Each use of a session writes last_accessed_at. With that column in no index, and room on the row's page, such a write
-- stays on the page and adds to no index (a heap-only update). No version has read this index: how long a session may be
-- left alone differs from row to row.
SET LOCAL lock_timeout = '200ms';

DROP INDEX IF EXISTS "user_sessions_is_active_last_accessed_at_idx";
ALTER TABLE "user_sessions" SET (fillfactor = 80);
