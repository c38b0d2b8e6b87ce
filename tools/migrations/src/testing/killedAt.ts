import process from 'node:process';
import { type Database, openDatabase, type Sql } from '@session-gateway/database';
import { createKeyring } from '@session-gateway/keycloak-auth';
import { encryptTokens } from '../encryptTokens.js';
import { parseOptions } from '../options.js';
import { type Point, POINTS } from './points.js';

const CHECKPOINT = /^\s*WITH saved\b/;
const STATEMENTS: readonly {
  readonly text: RegExp;
  readonly before?: Point;
  readonly after?: Point;
}[] = [
  { text: /^\s*SELECT id, version\b/, before: 'before the read', after: 'after the read' },
  { text: /^\s*WITH wanted\b/, before: 'before the write', after: 'after the write' },
  { text: CHECKPOINT, after: 'after the checkpoint' },
  { text: /^\s*UPDATE token_encryption_runs SET sweep = sweep \+ 1/, after: 'between sweeps' },
];

/** The database of a job that is to die at the `nth` passing of a point. */
function deadly(db: Database, point: Point, nth: number): Database {
  let passed = 0;
  const pass = (at: Point | undefined): void => {
    if (at !== point || ++passed < nth) return;
    process.kill(process.pid, 'SIGKILL');
    // Not one more statement, however long the signal takes.
    for (;;);
  };
  const watched = (sql: Sql): Sql => ({
    async query<Row extends object>(text: string, values?: readonly unknown[]) {
      const found = STATEMENTS.find((statement) => statement.text.test(text));
      pass(found?.before);
      const rows = await sql.query<Row>(text, values);
      pass(found?.after);
      return rows;
    },
  });
  return {
    ...db,
    sql: watched(db.sql),
    async transaction(work, bounds) {
      let checkpointed = false;
      const result = await db.transaction(
        (sql) =>
          work({
            async query<Row extends object>(text: string, values?: readonly unknown[]) {
              checkpointed ||= CHECKPOINT.test(text);
              return watched(sql).query<Row>(text, values);
            },
          }),
        bounds,
      );
      if (checkpointed) pass('after the commit');
      return result;
    },
  };
}

const [point, nth, ...args] = process.argv.slice(2);
const options = parseOptions(args);
const {
  DATABASE_URL: url = '',
  SESSION_TOKEN_ENCRYPTION_KEY: keyText = '',
  SESSION_TOKEN_KEYRING: keyringJson = '',
} = process.env;
if (!options || !POINTS.some((known) => known === point))
  throw new Error(`usage: killedAt <${POINTS.join('|')}> <nth> <flags of the job>`);
const db = openDatabase({
  url,
  applicationName: 'session-gateway-encrypt-tokens',
  maxConnections: 4,
  connectTimeoutMs: 5_000,
  queryTimeoutMs: 15_000,
});
await encryptTokens(options, {
  db: deadly(db, point as Point, Number(nth)),
  keyring: createKeyring({ keyText, keyringJson }),
  stopRequested: () => false,
  watcher: { progress: () => undefined, note: () => undefined },
});
// It was to be killed: whoever gets here has not passed the point.
await db.close();
