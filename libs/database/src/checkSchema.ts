import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { PrismaPg } from '@prisma/adapter-pg';
import pg from 'pg';
import { currentSchema, withSchemaEngine } from './schemaEngine.js';

/** Operators add it once everything is sealed (`encrypt-tokens --finalize`), and `--to plain` takes it away. */
const OPERATORS_CHOICE = 'constraint user_sessions.sealed_tokens_only';

/**
 * Every way in which schema.prisma, the migrations and the database at `url` disagree, a line each; empty when they do not.
 * What the migrations make is built in a temporary schema inside a transaction that is rolled back.
 */
export async function checkSchema({ url, prismaDir }: { url: string; prismaDir: string }): Promise<string[]> {
  // Before the engine, whose way of saying that it cannot connect is long.
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on('error', () => undefined);
  await client.connect();
  try {
    const own = await currentSchema(client);
    const { waiting, migrations, schema } = await readHistory(url, own, prismaDir);
    // While migrations are missing, every difference would only say so again.
    if (waiting.length > 0) return waiting;
    const actual = await describe(client, own);
    const migrated = await build(client, migrations);
    const declared = await build(client, [schema]);
    // schema.prisma cannot say everything that a migration can.
    const sayable = new Map([...migrated].filter(([what]) => !what.startsWith('trigger ')));
    return [...differences(migrated, actual, 'the database', 'the migrations'), ...differences(declared, sayable, 'the migrations', 'schema.prisma')];
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** What the history lacks, the migrations' statements, and those that schema.prisma amounts to. */
function readHistory(url: string, own: string, prismaDir: string): Promise<{ waiting: string[]; migrations: string[]; schema: string }> {
  const filters = { externalTables: [], externalEnums: [] };
  return withSchemaEngine(prismaDir, new PrismaPg({ connectionString: url, connectionTimeoutMillis: 5_000 }, { schema: own }), async (engine, migrationsList) => {
    const waiting: string[] = [];
    const { history, editedMigrationNames, failedMigrationNames } = await engine.diagnoseMigrationHistory({ migrationsList, filters, optInToShadowDatabase: false });
    for (const name of editedMigrationNames) if (!failedMigrationNames.includes(name)) waiting.push(`migration ${name} was edited after it had been applied`);
    for (const name of failedMigrationNames) waiting.push(`migration ${name} failed half-way`);
    if (history?.diagnostic === 'databaseIsBehind') {
      for (const name of history.unappliedMigrationNames) waiting.push(`migration ${name} has not been applied: run \`nx run database:migrate\``);
    } else if (history) waiting.push('the database has migrations that this version does not know');
    const path = resolve(prismaDir, 'schema.prisma');
    const to = { tag: 'schemaDatamodel' as const, files: [{ path, content: await readFile(path, 'utf8') }] };
    const { stdout } = await engine.diff({ from: { tag: 'empty' }, to, script: true, exitCode: null, filters });
    return {
      waiting,
      migrations: migrationsList.migrationDirectories.map(({ migrationFile }) => (migrationFile.content.tag === 'ok' ? migrationFile.content.value : '')),
      schema: (stdout ?? '').replaceAll('CREATE SCHEMA IF NOT EXISTS "public";', ''),
    };
  });
}

/** What statements make in an empty schema, which is gone again afterwards. */
async function build(client: pg.Client, statements: readonly string[]): Promise<Map<string, string>> {
  await client.query('BEGIN');
  try {
    await client.query('CREATE SCHEMA session_gateway_check');
    await client.query('SET LOCAL search_path = session_gateway_check');
    for (const statement of statements) await client.query(statement);
    return await describe(client, 'session_gateway_check');
  } finally {
    await client.query('ROLLBACK');
  }
}

function differences(expected: Map<string, string>, actual: Map<string, string>, where: string, by: string): string[] {
  const found: string[] = [];
  for (const [what, how] of expected) {
    if (!actual.has(what)) found.push(`${what} is missing in ${where}`);
    else if (actual.get(what) !== how) found.push(`${what} is "${actual.get(what) ?? ''}" in ${where}, but "${how}" in ${by}`);
  }
  // Tables of other programs are none of ours.
  const ours = (what: string): boolean => expected.has(`table ${/^\w+ (\w+)/.exec(what)?.[1] ?? ''}`);
  for (const what of actual.keys()) if (!expected.has(what) && ours(what) && what !== OPERATORS_CHOICE) found.push(`${what} is in ${where}, but not in ${by}`);
  return found;
}

/** Tables, columns, indexes and triggers of a schema: what each is called, and how it is made. */
async function describe(client: pg.Client, schema: string): Promise<Map<string, string>> {
  const { rows } = await client.query<{ what: string; how: string }>(`
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
    FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid WHERE o.connamespace = quote_ident($1)::regnamespace AND o.contype IN ('p', 'f', 'c')`, [schema]);
  return new Map(rows.map(({ what, how }) => [what, how]));
}
