#!/usr/bin/env bash
# PgBouncer 1.18 (Debian 12), pool_mode = transaction, PostgreSQL 18, pg 8.23.0.
# Guess: with PostgreSQL stopped, connect() fails, so that a successful one shows that the database is there.
# Seen: PgBouncer remembers the server's greeting. connect() works as ever; the first statement is what waits, and pg's
# connectionTimeoutMillis does not bound it.
. "$(dirname "$0")/lib/setup.sh"
need pgbouncer apt-get install pgbouncer
install pg@8.23.0 embedded-postgres@18.4.0-beta.17
cat >run.mjs <<'EOF'
import pg from 'pg';
import { seen, within } from './check.mjs';
import { startPgbouncer, startPostgres } from './postgres.mjs';

const postgres = await startPostgres();
const pooler = await startPgbouncer(postgres);
await postgres.stop();
const client = new pg.Client({ connectionString: pooler.url, connectionTimeoutMillis: 1_000 });
client.on('error', () => {});
seen('connect()', await within(5_000, client.connect().then(() => 'connected')), 'connected');
seen('SELECT 1 after 3 s', await within(3_000, client.query('SELECT 1')), 'still waiting');
process.exit();
EOF
node run.mjs
