import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { PrismaPg } from '@prisma/adapter-pg';
import pg from 'pg';
import { clientOptions, connectAlone } from './connection.js';
import { DatabaseError, saysCode } from './errors.js';
import { readHistory, readMigrations } from './history.js';
import { findHome } from './home.js';
import { type Difference, isLeftByTakeOver } from './leftByTakeOver.js';
import { withSchemaEngine } from './schemaEngine.js';

/** Operators add it once everything is sealed (`encrypt-tokens --finalize`), and `--to plain` takes it away. */
const OPERATORS_CHOICE = 'constraint user_sessions.sealed_tokens_only';

export interface SchemaCheck {
  /** Every way in which schema.prisma, the migrations and the database disagree, a line each. */
  readonly problems: readonly string[];
  /** What is worth knowing and hinders nothing. */
  readonly notes: readonly string[];
}

/**
 * Compares schema.prisma, the migrations and the database at `url`. What the migrations make is built in a temporary
 * schema inside a transaction that is rolled back. A database of a newer version must have all that this version needs.
 * @throws DatabaseError where the role lacks a right for it
 */
export async function checkSchema({
  url,
  prismaDir,
}: {
  url: string;
  prismaDir: string;
}): Promise<SchemaCheck> {
  const migrations = await readMigrations(prismaDir);
  const client = await connectAlone(url, 'session-gateway-check');
  try {
    const home = await findHome(client, url);
    const history = await readHistory(client, home, migrations);
    const notes =
      history.unknown.length === 0
        ? []
        : [
            `the database has migrations that this version does not know: ${history.unknown.join(', ')}; what they added is not looked at`,
          ];
    // While migrations are missing, every difference would only say so again.
    const waiting = [
      ...history.edited.map((name) => `migration ${name} was edited after it had been applied`),
      ...history.pending.map(
        ({ name }) => `migration ${name} has not been applied: run \`migrate\``,
      ),
    ];
    if (waiting.length > 0) return { problems: waiting, notes };
    const actual = await describe(client, home);
    const migrated = await build(
      client,
      migrations.map(({ sql }) => sql),
    );
    const declared = await build(client, [await statementsOf(url, home, prismaDir)]);
    const found = differences(migrated, actual).filter(
      ({ expected }) => expected !== null || history.unknown.length === 0,
    );
    const left = found.filter((one) => history.adopted && isLeftByTakeOver(one, actual, migrated));
    const sayable = new Map(
      [...migrated].filter(([what, definition]) => isSayable(what, definition)),
    );
    return {
      problems: [
        ...found
          .filter((one) => !left.includes(one))
          .map((one) => inWords(one, 'the database', 'the migrations')),
        ...differences(declared, sayable).map((one) =>
          inWords(one, 'the migrations', 'schema.prisma'),
        ),
      ],
      notes: [
        ...notes,
        ...left.map(
          (one) =>
            `${inWords(one, 'the database', 'the migrations')}: left by the take-over, and harmless`,
        ),
      ],
    };
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** schema.prisma has no word for triggers, checks, and indexes on expressions. */
function isSayable(what: string, definition: string): boolean {
  if (what.startsWith('trigger ') || definition.startsWith('CHECK ')) return false;
  return !(what.startsWith('index ') && /\(.*\(/s.test(definition));
}

/** The statements that schema.prisma amounts to. */
async function statementsOf(url: string, home: string, prismaDir: string): Promise<string> {
  const pool = new pg.Pool(clientOptions(url, { connectionTimeoutMillis: 5_000 }));
  pool.on('error', () => undefined);
  return withSchemaEngine(prismaDir, new PrismaPg(pool, { schema: home }), async (engine) => {
    const path = resolve(prismaDir, 'schema.prisma');
    const { stdout } = await engine.diff({
      from: { tag: 'empty' },
      to: {
        tag: 'schemaDatamodel' as const,
        files: [{ path, content: await readFile(path, 'utf8') }],
      },
      script: true,
      exitCode: null,
      filters: { externalTables: [], externalEnums: [] },
    });
    return (stdout ?? '').replaceAll('CREATE SCHEMA IF NOT EXISTS "public";', '');
  }).finally(() => pool.end());
}

/** What statements make in an empty schema, which is gone again afterwards. */
async function build(
  client: pg.Client,
  statements: readonly string[],
): Promise<Map<string, string>> {
  await client.query('BEGIN');
  try {
    await client.query('CREATE SCHEMA session_gateway_check');
    await client.query('SET LOCAL search_path = session_gateway_check');
    for (const statement of statements) await client.query(statement);
    return await describe(client, 'session_gateway_check');
  } catch (error) {
    if (!saysCode(error, '42501')) throw error;
    throw new DatabaseError(
      'rights_missing',
      `every migration has been applied; comparing tables needs a role that may create a schema (it is rolled back): check as the owner, or GRANT CREATE ON DATABASE: ${(error as Error).message}`,
      { cause: error },
    );
  } finally {
    await client.query('ROLLBACK');
  }
}

function differences(expected: Map<string, string>, actual: Map<string, string>): Difference[] {
  // Tables of other programs are none of ours.
  const ours = (what: string): boolean =>
    expected.has(`table ${/^\w+ (\w+)/.exec(what)?.[1] ?? ''}`);
  const all = new Set([...expected.keys(), ...actual.keys()]);
  return [...all]
    .map((what) => ({
      what,
      expected: expected.get(what) ?? null,
      actual: actual.get(what) ?? null,
    }))
    .filter(
      (one) =>
        one.expected !== one.actual &&
        (one.expected !== null || (ours(one.what) && one.what !== OPERATORS_CHOICE)),
    );
}

function inWords({ what, expected, actual }: Difference, where: string, by: string): string {
  if (actual === null) return `${what} is missing in ${where}`;
  return expected === null
    ? `${what} is in ${where}, but not in ${by}`
    : `${what} is "${actual}" in ${where}, but "${expected}" in ${by}`;
}

/** Tables, columns, indexes and triggers of a schema: what each is called, and how it is made. */
async function describe(client: pg.Client, schema: string): Promise<Map<string, string>> {
  const { rows } = await client.query<{ what: string; how: string }>(
    `
    SELECT 'table ' || relname AS what, 'a table' AS how FROM pg_class WHERE relnamespace = quote_ident($1)::regnamespace AND relkind IN ('r', 'p')
    UNION ALL
    SELECT 'column ' || c.relname || '.' || a.attname,
      format_type(a.atttypid, CASE WHEN format_type(a.atttypid, a.atttypmod) LIKE 'timestamp(6)%' THEN -1 ELSE a.atttypmod END)
      || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p') LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = quote_ident($1)::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'index ' || t.relname || '.' || i.relname, replace(pg_get_indexdef(x.indexrelid), quote_ident($1) || '.', '')
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid WHERE t.relnamespace = quote_ident($1)::regnamespace
    UNION ALL
    SELECT 'trigger ' || c.relname || '.' || t.tgname,
      replace(pg_get_triggerdef(t.oid), quote_ident($1) || '.', '') || CASE t.tgenabled WHEN 'D' THEN ' disabled' ELSE '' END || ' with ' || md5(f.prosrc)
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc f ON f.oid = t.tgfoid
    WHERE c.relnamespace = quote_ident($1)::regnamespace AND NOT t.tgisinternal
    UNION ALL
    SELECT 'constraint ' || c.relname || '.' || o.conname, replace(pg_get_constraintdef(o.oid), quote_ident($1) || '.', '')
    FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid WHERE o.connamespace = quote_ident($1)::regnamespace AND o.contype IN ('p', 'f', 'c')`,
    [schema],
  );
  return new Map(rows.map(({ what, how }) => [what, how]));
}
