import { type Database, isStorageUnavailable, type Sql } from '@session-gateway/database';
import { TokenEncryption } from '@session-gateway/keycloak-auth';
import { COLUMNS, type Column, keyring, opened, type SeedRow, tokenOf } from './jobHarness.js';

/** What the writers were promised: the tokens of each row that were committed last. */
export type Acknowledged = Map<string, Record<Column, string | null>>;

export const acknowledgedOf = (rows: readonly SeedRow[]): Acknowledged =>
  new Map(rows.map((row) => [row.id, { ...row.tokens }]));

interface Stored {
  access_token: string | null;
  refresh_token: string | null;
  id_token: string | null;
  version: number;
}

export interface Writers {
  readonly acknowledged: Acknowledged;
  readonly touched: Set<string>;
  /** Each write that was acknowledged and is gone, found in flight. */
  readonly lost: string[];
  writes(): number;
  /** From now on no plaintext is written: the last older gateway is gone. */
  sealOnly(): void;
  /** Ends them after their current write, and reports what went wrong with them. */
  stop(): Promise<void>;
}

/**
 * Programs that renew tokens while the job runs. Each has rows of its own, so that it alone knows what was committed
 * last; before each write it looks, with the row locked, whether that is what is stored.
 */
export function startWriters(
  db: Database,
  rows: readonly SeedRow[],
  next: () => number,
  options: {
    count?: number;
    /** Of a hundred writes, how many store plaintext. */ plainShare?: number;
  } = {},
): Writers {
  const { count = 4 } = options;
  const acknowledged = acknowledgedOf(rows);
  const encryption = new TokenEncryption({ keyring });
  const touched = new Set<string>();
  const lost: string[] = [];
  const state = { stop: false, writes: 0, plainShare: options.plainShare ?? 33 };
  let generation = 0;

  async function renew(
    sql: Sql,
    id: string,
    tokens: Record<Column, string | null>,
  ): Promise<Record<Column, string | null>> {
    const [row] = await sql.query<Stored>(
      'SELECT access_token, refresh_token, id_token, version FROM user_sessions WHERE id = $1 FOR UPDATE',
      [id],
    );
    if (!row) throw new Error(`row ${id} is gone`);
    for (const column of COLUMNS) {
      const found = attempt(() => opened(row[column], id, column));
      if (found !== tokens[column])
        lost.push(
          `${id}.${column}: acknowledged ${tokens[column]?.slice(0, 40)}, found ${found?.slice(0, 40)}`,
        );
    }
    const number = (generation += 1);
    const fresh = Object.fromEntries(
      COLUMNS.map((column) => [column, tokenOf(`${id}/${column}/${number}`)]),
    ) as Record<Column, string>;
    const stored = COLUMNS.map((column) =>
      number % 100 >= state.plainShare
        ? encryption.seal(fresh[column], { table: 'user_sessions', column, rowId: id })
        : fresh[column],
    );
    await sql.query(
      'UPDATE user_sessions SET access_token = $2, refresh_token = $3, id_token = $4, version = version + 1, updated_at = now() WHERE id = $1',
      [id, ...stored],
    );
    return fresh;
  }

  async function write(own: readonly SeedRow[]): Promise<void> {
    while (!state.stop) {
      const row = own[Math.floor(next() * own.length)];
      const tokens = row && acknowledged.get(row.id);
      if (!row || !tokens) throw new Error('a writer without rows');
      touched.add(row.id);
      const attempted: { fresh: Record<Column, string | null> | null } = { fresh: null };
      try {
        await db.transaction(async (sql) => {
          attempted.fresh = await renew(sql, row.id, tokens);
        });
        if (attempted.fresh) acknowledged.set(row.id, attempted.fresh);
        state.writes += 1;
      } catch (error) {
        if (!isStorageUnavailable(error) && !/ECONN|terminat|closed/i.test(String(error)))
          throw error;
        await settle(row.id, attempted.fresh);
      }
    }
  }

  /** After an outage in the middle of a commit, either outcome is right: the row says which it was. */
  async function settle(id: string, fresh: Record<Column, string | null> | null): Promise<void> {
    while (!state.stop) {
      try {
        const [row] = await db.sql.query<Stored>(
          'SELECT access_token FROM user_sessions WHERE id = $1',
          [id],
        );
        if (
          fresh &&
          row &&
          attempt(() => opened(row.access_token, id, 'access_token')) === fresh.access_token
        )
          acknowledged.set(id, fresh);
        return;
      } catch (error) {
        if (!isStorageUnavailable(error) && !/ECONN|terminat|closed/i.test(String(error)))
          throw error;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  const shares = Array.from({ length: count }, (_, share) =>
    rows.filter((__, index) => index % count === share),
  );
  const running = Promise.all(shares.map(write));
  running.catch(() => undefined);
  return {
    acknowledged,
    touched,
    lost,
    writes: () => state.writes,
    sealOnly() {
      state.plainShare = 0;
    },
    async stop() {
      state.stop = true;
      await running;
    },
  };
}

function attempt(open: () => string | null): string | null {
  try {
    return open();
  } catch {
    return '(does not open)';
  }
}

/**
 * Every row whose stored values do not open, in their own row and column and under the given policy,
 * to what was acknowledged.
 */
export async function wrongRows(
  db: Database,
  acknowledged: Acknowledged,
  policy: 'v2' | 'all' = 'v2',
): Promise<string[]> {
  const rows = await db.sql.query<Stored & { id: string }>(
    'SELECT id, access_token, refresh_token, id_token FROM user_sessions',
  );
  const wrong = rows.flatMap((row) =>
    COLUMNS.filter(
      (column) =>
        attempt(() => opened(row[column], row.id, column, policy)) !==
        (acknowledged.get(row.id)?.[column] ?? null),
    ).map((column) => `${row.id}.${column}`),
  );
  return rows.length === acknowledged.size
    ? wrong
    : [...wrong, `${rows.length} rows instead of ${acknowledged.size}`];
}
