import pg from 'pg';

const TOKEN_BYTES = 300;

export interface OriginalApplication {
  /** What a session must hold now, by its id; null once it was deleted. */
  readonly expected: ReadonlyMap<string, { token: string; active: boolean } | null>;
  /** What every statement took, in milliseconds, since the last call. */
  readonly takeTimes: () => number[];
  /** Statements that failed; there must be none. */
  readonly failures: readonly string[];
  readonly statements: () => number;
  /** Ends it once its statements under way are answered. */
  readonly stop: () => Promise<void>;
}

/** Sessions as the plan's application had left them: tokens in the clear, one in twenty ended. */
export async function seedOriginalSessions(client: pg.ClientBase, rows: number): Promise<void> {
  await client.query(
    `INSERT INTO users (id, keycloak_id) SELECT 'u' || n, 'sub-' || n FROM generate_series(1, 100) AS n`,
  );
  const token = (column: string): string =>
    `'eyJ' || repeat(md5(n || '${column}'), ${TOKEN_BYTES / 30})`;
  for (let at = 0; at < rows; at += 20_000)
    await client.query(
      `INSERT INTO user_sessions (id, user_id, keycloak_session_id, expires_at, access_token, refresh_token, id_token, metadata, is_active)
       SELECT md5(n::text), 'u' || n % 100 + 1, 'sid-' || n, timezone('UTC', now()) + interval '1 day', ${token('a')}, ${token('r')}, ${token('i')}, '{}', n % 20 <> 0
       FROM generate_series($1::int, $2::int) AS n`,
      [at, Math.min(rows, at + 20_000) - 1],
    );
}

/**
 * The plan's application at work on the first of `rows` seeded sessions and on new ones, with statements
 * that know nothing of the gateway: one connection writes, one reads. A statement that waits for a lock
 * longer than `lockMs` fails.
 */
export async function startOriginalApplication(
  url: string,
  { rows, lockMs }: { rows: number; lockMs: number },
): Promise<OriginalApplication> {
  const expected = new Map<string, { token: string; active: boolean } | null>();
  const failures: string[] = [];
  let times: number[] = [];
  let count = 0;
  let stopped = false;
  const clients: pg.Client[] = [];
  const connect = async (): Promise<pg.Client> => {
    const client = new pg.Client({
      connectionString: url,
      application_name: 'the original application',
    });
    await client.connect();
    await client.query(`SET lock_timeout = ${lockMs}`);
    clients.push(client);
    return client;
  };
  const timed = async (
    client: pg.Client,
    text: string,
    values: unknown[],
  ): Promise<pg.QueryResult | null> => {
    const began = performance.now();
    try {
      return await client.query(text, values);
    } catch (error) {
      failures.push(`${text.slice(0, 40)}: ${(error as Error).message}`);
      return null;
    } finally {
      times.push(performance.now() - began);
      count++;
    }
  };
  const idOf = `SELECT md5($1::text) AS id`;
  const reader = await connect();
  const writer = await connect();
  const write = async (): Promise<void> => {
    for (let n = 0; !stopped; n++) {
      const {
        rows: [row],
      } = await writer.query<{ id: string }>(idOf, [String((n * 7_919) % rows)]);
      const id = row?.id ?? '';
      const token = `eyJ-${n}`;
      if (n % 5 === 1) {
        const fresh = `new-${n}`;
        await timed(
          writer,
          `INSERT INTO user_sessions (id, user_id, keycloak_session_id, expires_at, access_token) VALUES ($1, 'u1', $1, timezone('UTC', now()) + interval '1 day', $2)`,
          [fresh, token],
        );
        expected.set(fresh, { token, active: true });
      } else if (expected.get(id) === null) continue;
      else if (n % 40 === 2) {
        await timed(writer, 'DELETE FROM user_sessions WHERE id = $1', [id]);
        expected.set(id, null);
      } else {
        const active = n % 7 !== 3;
        await timed(
          writer,
          `UPDATE user_sessions SET access_token = $2, is_active = $3, updated_at = timezone('UTC', now()) WHERE id = $1`,
          [id, token, active],
        );
        expected.set(id, { token, active });
      }
    }
  };
  const read = async (): Promise<void> => {
    for (let n = 0; !stopped; n++) {
      const id = await reader.query<{ id: string }>(idOf, [String((n * 104_729) % rows)]);
      await timed(reader, 'SELECT * FROM user_sessions WHERE id = $1', [id.rows[0]?.id]);
    }
  };
  const working = Promise.all([write(), read()]);
  return {
    expected,
    failures,
    takeTimes: () => {
      const taken = times;
      times = [];
      return taken;
    },
    statements: () => count,
    stop: async () => {
      stopped = true;
      await working;
      await Promise.all(clients.map((client) => client.end()));
    },
  };
}

/**
 * Sessions that are not as the application left them, after a take-over: lost, changed, or without
 * the hash of their cookie.
 */
export async function sessionsLost(
  client: pg.ClientBase,
  { expected }: OriginalApplication,
): Promise<string[]> {
  const { rows } = await client.query<{ id: string; token: string | null; active: boolean }>(
    'SELECT id, access_token AS token, is_active AS active FROM user_sessions WHERE id = ANY($1)',
    [[...expected.keys()]],
  );
  const found = new Map(rows.map((row) => [row.id, row]));
  const lost = [...expected].flatMap(([id, wanted]) => {
    const is = found.get(id) ?? null;
    if (wanted === null) return is === null ? [] : [`${id} was deleted, and is there`];
    return is?.token === wanted.token && is.active === wanted.active
      ? []
      : [`${id} is not as written`];
  });
  const { rows: hashless } = await client.query<{ id: string }>(
    `SELECT id FROM user_sessions WHERE cookie_hash IS DISTINCT FROM sha256(convert_to(id, 'UTF8'))`,
  );
  return [...lost, ...hashless.map(({ id }) => `${id} has no hash of its cookie`)];
}
