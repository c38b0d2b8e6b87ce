#!/usr/bin/env bash
# @prisma/adapter-pg 7.10.1 on PostgreSQL 18.
# Guess: its option `schema`, like `?schema=` of Prisma's addresses before it, sets the search path for raw SQL; and raw SQL
# returns any column that PostgreSQL can print.
# Seen: neither the option nor the parameter of the address does anything for raw SQL, without a word; only the connection's
# own `options` do. Columns such as xmin (optimistic locking), pg_lsn and interval make the whole query fail.
. "$(dirname "$0")/lib/setup.sh"
install @prisma/adapter-pg@7.10.1 pg@8.23.0 embedded-postgres@18.4.0-beta.17
cat >run.mjs <<'EOF'
import { PrismaPg } from '@prisma/adapter-pg';
import { seen } from './check.mjs';
import { startPostgres } from './postgres.mjs';

const postgres = await startPostgres();
await postgres.query('CREATE SCHEMA app; CREATE TABLE app.t (id int); INSERT INTO app.t VALUES (1)');
const raw = async (sql, parameters = '', options = {}) => {
  const adapter = await new PrismaPg({ connectionString: postgres.url + parameters }, options).connect();
  try {
    return (await adapter.queryRaw({ sql, args: [], argTypes: [] })).rows;
  } catch ({ cause }) {
    return `${cause.kind}: ${cause.type}`;
  } finally {
    await adapter.dispose();
  }
};
const schema = 'SELECT current_schema()';
seen('option schema', await raw(schema, '', { schema: 'app' }), [['public']]);
seen('?schema=app', await raw(schema, '?schema=app'), [['public']]);
seen('?options=-c search_path=app', await raw(schema, '?options=-c%20search_path%3Dapp'), [['app']]);
const kinds = { xmin: 'xid', 'pg_current_wal_lsn()': 'pg_lsn', "interval '1 day'": 'interval' };
for (const [column, type] of Object.entries(kinds))
  seen(column, await raw(`SELECT ${column} FROM app.t`), `UnsupportedNativeDataType: ${type}`);
seen('xmin::text', typeof (await raw('SELECT xmin::text FROM app.t'))[0][0], 'string');
process.exit();
EOF
node run.mjs
