#!/usr/bin/env bash
# PostgreSQL 18, deadlock_timeout 1 s (the default).
# Guess: autovacuum gives way at once to an ALTER TABLE that waits for it, so a migration that tries again and again with a
# short lock_timeout, to hold nobody up, soon gets its lock.
# Seen: only what waits for deadlock_timeout or longer makes it give way. With less the same worker goes on, however often
# is tried; one try that waits longer goes through.
. "$(dirname "$0")/lib/setup.sh"
install pg@8.23.0 embedded-postgres@18.4.0-beta.17
cat >run.mjs <<'EOF'
import { seen, until } from './check.mjs';
import { startPostgres } from './postgres.mjs';

const slow = ['autovacuum_naptime=1', 'autovacuum_vacuum_cost_delay=100', 'autovacuum_vacuum_cost_limit=1'];
const postgres = await startPostgres(slow);
await postgres.query(`CREATE TABLE big AS SELECT n, repeat('x', 500) AS text FROM generate_series(1, 60000) AS n`);
await postgres.query(`UPDATE big SET text = text || 'y'`);
const worker = async () =>
  (await postgres.query(`SELECT pid FROM pg_stat_progress_vacuum WHERE relid = 'big'::regclass`))[0]?.pid;
await until('autovacuum at work', worker);
const before = await worker();
const migration = await postgres.connect();
const attempt = async (lockTimeoutMs) => {
  await migration.query(`SET lock_timeout = ${lockTimeoutMs}`);
  return migration.query('ALTER TABLE big ADD COLUMN more int').then(
    () => 'altered',
    ({ message }) => message,
  );
};
const tries = [];
for (const ms of [100, 200, 500, 900, 900, 900]) tries.push(await attempt(ms));
seen('up to 900 ms', [...new Set(tries)], ['canceling statement due to lock timeout']);
seen('the worker is the same', (await worker()) === before, true);
seen('10 s', await attempt(10_000), 'altered');
process.exit();
EOF
node run.mjs
