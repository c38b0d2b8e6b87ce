import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { until } from '@session-gateway/testkit';
import type { Session } from '../session/sessionMetadata.js';
import { createWorld, type Node, type World } from '../../testing/world.js';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());
beforeEach(() => world.provider.resetCounts());

const TOKENS_CHANGE = 'NEW.access_token IS NOT NULL AND NEW.access_token <> OLD.access_token';
const trigger = (body: string, kind = 'TRIGGER', when = 'BEFORE'): string =>
  `CREATE OR REPLACE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body} RETURN NEW; END $$;
   CREATE ${kind} spoil ${when} UPDATE ON user_sessions ${kind === 'TRIGGER' ? '' : 'DEFERRABLE INITIALLY DEFERRED'} FOR EACH ROW EXECUTE FUNCTION spoil()`;
const NO_TRIGGER = 'DROP TRIGGER spoil ON user_sessions';
/** Each lets leases be taken and keeps tokens from being written. */
const FAULTS: [what: string, spoil: string, mend: string][] = [
  [
    'a trigger that raises',
    trigger(`IF ${TOKENS_CHANGE} THEN RAISE EXCEPTION 'no'; END IF;`),
    NO_TRIGGER,
  ],
  [
    'a trigger that drops the write',
    trigger(`IF ${TOKENS_CHANGE} THEN RETURN NULL; END IF;`),
    NO_TRIGGER,
  ],
  [
    'a trigger that raises at the commit',
    trigger(
      `IF ${TOKENS_CHANGE} THEN RAISE EXCEPTION 'no'; END IF;`,
      'CONSTRAINT TRIGGER',
      'AFTER',
    ),
    NO_TRIGGER,
  ],
  [
    'a full disk',
    trigger(
      `IF ${TOKENS_CHANGE} THEN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END IF;`,
    ),
    NO_TRIGGER,
  ],
  [
    'a right that is missing',
    trigger(
      `IF ${TOKENS_CHANGE} THEN RAISE EXCEPTION 'permission denied' USING ERRCODE = '42501'; END IF;`,
    ),
    NO_TRIGGER,
  ],
];

describe('new tokens that PostgreSQL does not take', () => {
  let node: Node;
  beforeAll(() => {
    node = world.node();
  });
  const allOver = (): Promise<unknown> =>
    node.db.sql.query('UPDATE user_sessions SET token_expires_at = now() WHERE is_active');

  test.each(FAULTS)(
    'for %s are held, and no other refresh token is spent until a write has worked',
    async (_, spoil, mend) => {
      const own = world.node();
      const sessions: Session[] = [];
      for (let i = 0; i < 6; i++) sessions.push((await world.login(own)).session);
      await allOver();
      await own.db.sql.query(spoil);
      const refused = { code: 'storage_unavailable', retryAfterSeconds: 2 };
      for (const session of sessions)
        await expect(own.manager.refresh(session)).rejects.toMatchObject(refused);
      await own.manager.sweep();
      await expect(own.manager.refresh(sessions[0]!)).rejects.toMatchObject(refused);
      expect(world.provider.counts).toMatchObject({ refresh: 1, invalidGrants: 0 });

      await own.db.sql.query(mend);
      await own.manager.settled();
      const again = await Promise.all(sessions.map((session) => own.manager.refresh(session)));
      expect(again.map(({ version }, i) => version - sessions[i]!.version)).toEqual(
        sessions.map(() => 1),
      );
      expect(world.provider.counts).toMatchObject({ refresh: 6, invalidGrants: 0 });
    },
  );

  test('are not spent anew by another process, which takes over when the lease is kept no more', async () => {
    const [holder, other] = [world.node(), world.node()];
    const { session } = await world.login(holder);
    await node.db.sql.query(FAULTS[0]![1]);
    await expect(holder.manager.refresh(session)).rejects.toMatchObject({
      code: 'storage_unavailable',
    });
    // As if the holder had been away for longer than its lease.
    await node.db.sql.query(
      `UPDATE user_sessions SET refresh_lease_until = now() - interval '1 minute' WHERE id = $1`,
      [session.id],
    );
    await expect(other.manager.refresh(session)).rejects.toMatchObject({
      code: 'storage_unavailable',
    });
    await node.db.sql.query(NO_TRIGGER);
    await holder.manager.settled();
    // It is told soon that writes work again.
    const renewed = () => other.manager.refresh(session).catch(() => null);
    await until(async () => (await renewed())?.version === session.version + 1, {
      what: 'the tokens that the holder has written',
    });
    expect(world.provider.counts).toMatchObject({ refresh: 1, invalidGrants: 0 });
  });

  test('for one row do not keep other sessions from being renewed', async () => {
    const own = world.node();
    const [bad, good] = [await world.login(own), await world.login(own)];
    await node.db.sql.query(
      trigger(
        `IF OLD.id = '${bad.session.id}' AND ${TOKENS_CHANGE} THEN RAISE EXCEPTION 'no'; END IF;`,
      ),
    );
    await expect(own.manager.refresh(bad.session)).rejects.toMatchObject({
      code: 'storage_unavailable',
    });
    expect((await own.manager.refresh(good.session)).version).toBe(good.session.version + 1);
    await node.db.sql.query(NO_TRIGGER);
    await own.manager.settled();
    expect(await own.store.reload(bad.session.id)).toMatchObject({
      version: bad.session.version + 1,
    });
  });

  test('before the process ends are given up and told as lost, which is no sign of theft later', async () => {
    const own = world.node();
    const { session } = await world.login(own);
    await node.db.sql.query(FAULTS[0]![1]);
    await expect(own.manager.refresh(session)).rejects.toMatchObject({
      code: 'storage_unavailable',
    });
    await own.manager.settled(50);
    expect(own.outcomes).toContain('tokens_lost');
    await node.db.sql.query(NO_TRIGGER);
    await node.db.sql.query(
      'UPDATE user_sessions SET refresh_lease_owner = NULL, refresh_lease_until = NULL WHERE id = $1',
      [session.id],
    );
    await expect(own.manager.refresh(session)).rejects.toMatchObject({
      code: 'reauthentication_required',
    });
    expect(own.told.map(({ event, reason }) => [event, reason])).toEqual([
      ['refresh_failed', 'write_failed'],
      ['session_ended', 'grant_ended'],
      ['refresh_failed', 'reuse'],
    ]);
  });
});
