import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Database, openDatabase } from '@session-gateway/database';
import type { JobConfig } from './config.js';
import { TableError } from './tokenTable.js';

/** Runs `work` on the database that the environment names, or on the embedded one, and closes it. */
export async function withDatabase<Result>(
  { databaseUrl, dataDir }: Pick<JobConfig, 'databaseUrl' | 'dataDir'>, options: { name: string; queryTimeoutMs: number; connections?: number }, work: (db: Database) => Promise<Result>,
): Promise<Result> {
  const { url, stop } = databaseUrl === undefined ? await embedded(dataDir) : { url: databaseUrl, stop: async () => undefined };
  const db = openDatabase({ url, applicationName: `session-gateway-${options.name}`, maxConnections: options.connections ?? 4, connectTimeoutMs: 5_000, queryTimeoutMs: options.queryTimeoutMs });
  // A connection that breaks while it is in use tells its statement; without a listener it would also end the process.
  db.pool.on('connect', (connection) => connection.on('error', () => undefined));
  try {
    return await work(db);
  } finally {
    await db.close();
    await stop();
  }
}

async function embedded(dataDir: string): Promise<{ url: string; stop: () => Promise<void> }> {
  const folder = join(resolve(dataDir), 'postgres');
  if (!existsSync(folder)) throw new TableError(`there is no embedded database in ${folder}: set DATABASE_URL, or start the gateway once`);
  const { startEmbeddedPostgres } = await import('@session-gateway/embedded');
  return startEmbeddedPostgres({ dataDir: folder });
}
