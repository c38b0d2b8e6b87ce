#!/usr/bin/env bash
# PgBouncer 1.18 (Debian 12), pool_mode = transaction, PostgreSQL 18, pg 8.23.0.
# Guess: what a client SETs is left on the server connection, and the next client finds it, whatever setting it is.
# Seen: TimeZone and DateStyle stay with the client that set them, on any server connection. search_path and
# statement_timeout are left to others. application_name too, for a client that says none.
. "$(dirname "$0")/lib/setup.sh"
need pgbouncer apt-get install pgbouncer
install pg@8.23.0 embedded-postgres@18.4.0-beta.17
cat >run.mjs <<'EOF'
import { seen } from './check.mjs';
import { startPgbouncer, startPostgres } from './postgres.mjs';

const postgres = await startPostgres(['timezone=UTC']);
const pooler = await startPgbouncer(postgres);
const [first, second] = [await postgres.connect(pooler.url), await postgres.connect(pooler.url)];
const set = {
  TimeZone: 'Asia/Tokyo',
  DateStyle: 'German, DMY',
  search_path: 'app',
  statement_timeout: '7s',
  application_name: 'shop',
};
for (const [name, value] of Object.entries(set)) await first.query(`SELECT set_config('${name}', '${value}', false)`);
const settings = async (client) => {
  const found = {};
  for (const name of Object.keys(set))
    found[name] = (await client.query(`SELECT current_setting('${name}') AS value`)).rows[0].value;
  return found;
};
seen('the other client has', await settings(second), { ...set, TimeZone: 'UTC', DateStyle: 'ISO, MDY' });
seen('the client itself has', await settings(first), set);
process.exit();
EOF
node run.mjs
