import type pg from 'pg';
import type { PrismaClient } from './generated/prisma/client.js';

/** Tokens are left out of every typed read; only statements that name their columns see them. */
const omit = { userSession: { accessToken: true, refreshToken: true, idToken: true } } as const;

/** Prisma's client without the token columns. */
export type Typed = PrismaClient<never, typeof omit>;

/**
 * Prisma's client on a pool of ours. It and its query compiler (WASM) are loaded with the first call, since a gateway
 * needs neither to judge requests. Unlike plain statements, Prisma's name a schema, so the one that holds the tables is
 * looked up first. A call that fails is not remembered.
 */
export class TypedClient {
  readonly #pool: pg.Pool;
  #client: Promise<Typed> | undefined;

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  get(): Promise<Typed> {
    this.#client ??= load(this.#pool).catch((error: unknown) => {
      this.#client = undefined;
      throw error;
    });
    return this.#client;
  }

  async close(): Promise<void> {
    const client = await this.#client?.catch(() => undefined);
    await client?.$disconnect();
  }
}

async function load(pool: pg.Pool): Promise<Typed> {
  const { rows } = await pool.query<{ schema: string | null }>(
    `SELECT coalesce(
       (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = coalesce(to_regclass('user_sessions'), to_regclass('token_encryption_runs'))),
       current_schema()) AS schema`,
  );
  const [{ PrismaPg }, { PrismaClient }] = await Promise.all([
    import('@prisma/adapter-pg'),
    import('./generated/prisma/client.js'),
  ]);
  const schema = rows[0]?.schema ?? 'public';
  return new PrismaClient({ adapter: new PrismaPg(pool, { schema }), omit });
}
