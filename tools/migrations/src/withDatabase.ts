import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Database, openDatabase } from '@session-gateway/database';
import type { JobConfig } from './config.js';
import { TableError } from './tokenTable.js';

/**
 * How PostgreSQL prints ids must not depend on role, database or server: values are sealed with the id's text. What the
 * URL itself sets (`options=-c TimeZone=…`) counts, so that what was sealed under other settings can be read.
 */
const SETTINGS = {
  TimeZone: 'UTC',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  bytea_output: 'hex',
  extra_float_digits: '1',
};

/** Runs `work` on the database that the environment names, or on the embedded one, and closes it. */
export async function withDatabase<Result>(
  { databaseUrl, dataDir }: Pick<JobConfig, 'databaseUrl' | 'dataDir'>,
  options: { name: string; queryTimeoutMs: number; connections?: number },
  work: (db: Database) => Promise<Result>,
): Promise<Result> {
  const { url, stop } =
    databaseUrl === undefined
      ? await embedded(dataDir)
      : { url: databaseUrl, stop: async () => undefined };
  const db = openDatabase({
    url,
    applicationName: `session-gateway-${options.name}`,
    maxConnections: options.connections ?? 4,
    connectTimeoutMs: 5_000,
    queryTimeoutMs: options.queryTimeoutMs,
  });
  // A connection that breaks while it is in use tells its statement; without a listener it would also end the process.
  db.pool.on('connect', (connection) => {
    connection.on('error', () => undefined);
    // Sent before any other statement. Where it fails, the next one tells.
    connection.query(prepareSession(`session-gateway-${options.name}`)).catch(() => undefined);
  });
  try {
    return await work(db);
  } finally {
    await db.close();
    await stop();
  }
}

/** A name that gateways share with the job by their URL would make it take their work for its own. */
function prepareSession(name: string): string {
  const settings = Object.entries(SETTINGS)
    .map(([setting, value]) => `('${setting}', '${value}')`)
    .join(', ');
  return `SELECT set_config(s.name, p.value, false) FROM pg_settings s JOIN (VALUES ${settings}) AS p (name, value) ON p.name = s.name WHERE s.source <> 'client'
    UNION ALL SELECT set_config('application_name', left(current_setting('application_name'), 30) || '/${name}', false) WHERE current_setting('application_name') <> '${name}'`;
}

async function embedded(dataDir: string): Promise<{ url: string; stop: () => Promise<void> }> {
  const folder = join(resolve(dataDir), 'postgres');
  if (!existsSync(folder))
    throw new TableError(
      `there is no embedded database in ${folder}: set DATABASE_URL, or start the gateway once`,
    );
  const { startEmbeddedPostgres } = await import('@session-gateway/embedded');
  return startEmbeddedPostgres({ dataDir: folder });
}
