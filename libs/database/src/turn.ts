import type pg from 'pg';
import { connectAlone } from './connection.js';
import { insist, type Patience, takeTurn, type Wait } from './lockTries.js';

/**
 * Runs `work` while no other process migrates. The turn is held by a transaction of a connection of its own, which
 * works behind a pooler too, has no snapshot that index builds would wait for, and ends with this process. What `work`
 * does must bear to be done twice: after a lost connection another process may begin before this one notices.
 */
export async function inTurn<Result>(
  url: string,
  patience: Patience,
  work: (turn: Turn) => Promise<Result>,
): Promise<Result> {
  const client = await connectAlone(url, 'session-gateway-migrate-turn');
  let lost = false;
  client.once('end', () => (lost = true));
  try {
    await insist<Turn>(patience, async () => begin(client));
    return await work({
      client,
      check: () => {
        if (lost)
          throw Object.assign(
            new Error('the connection that kept others from migrating was lost'),
            {
              code: 'ECONNRESET',
            },
          );
      },
    });
  } finally {
    await client.end().catch(() => undefined);
  }
}

export interface Turn {
  /**
   * In a transaction without a snapshot: may be asked without parameters (which would keep
   * one), and must change nothing.
   */
  readonly client: pg.Client;
  /** @throws once the turn is lost */
  readonly check: () => void;
}

async function begin(client: pg.Client): Promise<Turn | Wait> {
  await client.query(
    'BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = 0',
  );
  // Only newer servers have this one.
  await client.query(
    `SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout'`,
  );
  const wait = await takeTurn(client);
  if (!wait) return { client, check: () => undefined };
  await client.query('ROLLBACK');
  return wait;
}
