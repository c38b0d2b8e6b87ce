#!/usr/bin/env bash
# PostgreSQL 18. A transaction elsewhere has a snapshot and has never touched the table.
# Guess: lock_timeout is about locks on tables and rows, so CREATE INDEX CONCURRENTLY, which only waits for that transaction
# to end, waits however short lock_timeout is.
# Seen: that wait is one for a lock as well. It ends with "canceling statement due to lock timeout", and the index stays,
# invalid: every write keeps it up to date, no query uses it, and its name is taken.
. "$(dirname "$0")/lib/setup.sh"
install pg@8.23.0 embedded-postgres@18.4.0-beta.17
cat >run.mjs <<'EOF'
import { seen } from './check.mjs';
import { startPostgres } from './postgres.mjs';

const postgres = await startPostgres();
await postgres.query(`CREATE TABLE items (id int); CREATE TABLE others (id int)`);
const [reader, builder] = [await postgres.connect(), await postgres.connect()];
await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM others');
await builder.query(`SET lock_timeout = '300ms'`);
const built = await builder
  .query('CREATE INDEX CONCURRENTLY items_id ON items (id)')
  .then(() => 'built', ({ code, message }) => `${code} ${message}`);
seen('beside a snapshot', built, '55P03 canceling statement due to lock timeout');
const state = `SELECT indisvalid AS valid, indisready AS kept FROM pg_index WHERE indexrelid = 'items_id'::regclass`;
seen('the index', (await builder.query(state)).rows, [{ valid: false, kept: true }]);
await reader.query('COMMIT');
const again = await builder
  .query('CREATE INDEX CONCURRENTLY items_id ON items (id)')
  .then(() => 'built', ({ code }) => code);
seen('once more', again, '42P07');
process.exit();
EOF
node run.mjs
