import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { until } from '@session-gateway/testkit';
import { createWorld, type Node, type World } from '../../testing/world.js';
import type { Session } from '../session/sessionMetadata.js';
import type { EndReason } from '../audit/endedSession.js';
import { backchannelLogout } from './backchannelLogout.js';
import { endSessions } from './endSessions.js';
import { owedTokenAt } from './owedLogouts.js';

let world: World;
let node: Node;
beforeAll(async () => {
  world = await createWorld();
  node = world.node();
});
afterAll(() => world.dispose());
beforeEach(async () => {
  world.provider.answerAlways(null);
  await node.db.sql.query('DELETE FROM provider_logouts');
  world.provider.resetCounts();
});

interface Owed {
  id: string;
  session_id: string;
  call: string;
  attempts: number;
  refresh_token: string;
  /** How far its next attempt is off, in seconds. */
  pause: number;
}
const owed = (): Promise<Owed[]> =>
  node.db.sql.query<Owed>(
    `SELECT id, session_id, call, attempts, refresh_token, extract(epoch FROM next_attempt_at - now())::float8 AS pause FROM provider_logouts ORDER BY created_at`,
  );
const nothingOwed = () =>
  until(async () => (await owed()).length === 0, { what: 'nothing being owed' });
const eventsOf = async (id: string) =>
  (
    await node.db.sql.query<{ text: string }>(
      `SELECT concat_ws(' ', event, reason, actor) AS text FROM session_events WHERE session_id = $1 ORDER BY id`,
      [id],
    )
  ).map(({ text }) => text);
/** A process that is told nothing: what it owes stays where it is written. */
const silent = (): Node => {
  const quiet = world.node();
  quiet.providerLogouts.kick = () => undefined;
  return quiet;
};
const due = () => node.db.sql.query('UPDATE provider_logouts SET next_attempt_at = now()');
const alive = ({ sid }: Session) => world.provider.isSessionAlive(sid!);

describe("the end of a session at the provider's", () => {
  test('follows each end that somebody wants, and no other', async () => {
    const ends = async (reason: EndReason, options: { exceptSid?: string } = {}) => {
      const { session } = await world.login(node);
      await endSessions(node, { id: session.id }, reason, options);
      await nothingOwed();
      return !alive(session);
    };
    const wanted: EndReason[] = ['logout', 'ended_by_user', 'ended_by_admin', 'subject_changed'];
    for (const reason of [...wanted, 'replaced' as const])
      expect([reason, await ends(reason)]).toEqual([reason, true]);
    for (const reason of [
      'idle_timeout',
      'absolute_timeout',
      'frontchannel_logout',
      'backchannel_logout',
    ] as const)
      expect([reason, await ends(reason)]).toEqual([reason, false]);
    expect(world.provider.counts).toMatchObject({ endedSessions: 5, revocations: 0 });
  });

  test('leaves alone the session that somebody goes on with there', async () => {
    const { session } = await world.login(node);
    for (const reason of ['replaced', 'ended_by_user'] as const) {
      await node.db
        .transaction(async (sql) => {
          await node.vault.end({ id: session.id }, reason, { sql, exceptSid: session.sid });
          expect(await sql.query('SELECT 1 FROM provider_logouts')).toEqual([]);
          throw new Error('rolled back');
        })
        .catch(() => undefined);
    }
    const oldest = await node.db.transaction((sql) =>
      node.vault.endOldest(sql, {
        newestId: session.id,
        most: 0,
        idleTimeoutMs: 60_000,
        exceptSid: session.sid,
      }),
    );
    expect(oldest).toMatchObject([{ id: session.id, reason: 'session_limit', owedId: null }]);
    expect(alive(session)).toBe(true);
  });

  test('reaches what a logout token ends here by its subject and did not name', async () => {
    world.provider.setUser('erin');
    const named = (await world.login(node, 'erin')).session;
    const other = (await world.login(node, 'erin')).session;
    await backchannelLogout(
      { ...node, issuer: world.provider.issuer },
      {
        subject: named.subject,
        sid: named.sid,
        jti: 'sub-scope',
        expiresAt: new Date(Date.now() + 60_000),
      },
      'sub',
    );
    await nothingOwed();
    expect([alive(named), alive(other)]).toEqual([true, false]);
  });

  test('follows a refused grant that nothing explains, and none whose answer we lost', async () => {
    const refused = { status: 400, body: { error: 'invalid_grant' } };
    const end = async (...answers: Parameters<World['provider']['answerNext']>) => {
      const { session } = await world.login(node);
      world.provider.answerNext(...answers);
      await expect(world.node().manager.refresh(session)).rejects.toMatchObject({
        code: 'reauthentication_required',
      });
      await nothingOwed();
      return eventsOf(session.id);
    };
    expect(await end(refused)).toContain('provider_logout ended gateway');
    expect(await end({ dropAfterSending: true }, refused)).toEqual([
      'session_ended grant_ended provider',
      'refresh_failed answer_lost provider',
    ]);
  });
});

describe('what is owed to the provider', () => {
  test('is sealed for its place, in the transaction that ends the session, and erased on the answer', async () => {
    const quiet = silent();
    const { session } = await world.login(quiet);
    const [stored] = await node.db.sql.query<{ refresh_token: string }>(
      'SELECT refresh_token FROM user_sessions WHERE id = $1',
      [session.id],
    );
    const at = { table: 'user_sessions', column: 'refresh_token', rowId: session.id };
    const token = world.encryption.open(stored!.refresh_token, at);
    await expect(
      quiet.db.transaction(async (sql) => {
        await quiet.vault.end({ id: session.id }, 'logout', { sql });
        throw new Error('rolled back');
      }),
    ).rejects.toThrow('rolled back');
    expect(await owed()).toEqual([]);

    await endSessions(quiet, { id: session.id }, 'logout');
    const [row] = await owed();
    expect(row).toMatchObject({ session_id: session.id, call: 'end_session', attempts: 0 });
    expect(world.encryption.open(row!.refresh_token, owedTokenAt(row!.id))).toBe(token);
    expect(() => world.encryption.open(row!.refresh_token, at)).toThrow();
    const dump = await world.postgres.dump(world.url);
    expect(dump).not.toContain(token);
    expect(dump).not.toContain(token.split('.')[2]);
    const plain = node.db.sql.query('UPDATE provider_logouts SET refresh_token = $1', [token]);
    await expect(plain).rejects.toMatchObject({ code: '23514' });

    node.providerLogouts.kick();
    await nothingOwed();
    expect(alive(session)).toBe(false);
    expect(await eventsOf(session.id)).toEqual([
      'session_ended logout user',
      'provider_logout ended gateway',
    ]);
    expect(node.told.at(-1)).toMatchObject({ event: 'provider_logout', reason: 'ended' });
  });

  test('is sent once, a few at a time, whoever asks: 60 rows by two processes', async () => {
    const quiet = silent();
    world.provider.setUser('many');
    for (let i = 0; i < 60; i++) await world.login(quiet, 'many');
    const { session } = await world.login(quiet, 'many');
    world.provider.settings.latencyMs = 20;
    await endSessions(quiet, { subject: session.subject, exceptId: session.id }, 'ended_by_user');
    const other = world.node();
    for (const sender of [node, other]) sender.providerLogouts.kick();
    await nothingOwed();
    world.provider.settings.latencyMs = 0;
    expect(world.provider.counts).toMatchObject({ logouts: 60, endedSessions: 60 });
    expect(world.provider.maxConcurrentLogouts()).toBeLessThanOrEqual(8);
    expect(alive(session)).toBe(true);
  });

  test('outlives an outage: it is tried again after pauses that grow, by any process, and the audit trail says so once', async () => {
    const { session } = await world.login(node);
    world.provider.answerAlways({ endpoint: 'logout', status: 503 });
    await endSessions(node, { id: session.id }, 'ended_by_admin', { actor: 'admin:ada' });
    const pauses: number[] = [];
    for (let attempt = 1; attempt <= 4; attempt++) {
      await until(async () => (await owed())[0]!.attempts === attempt, { what: 'an attempt' });
      await until(async () => (await owed())[0]!.pause < 20, { what: 'the pause' });
      pauses.push((await owed())[0]!.pause);
      await due();
      // The process that has just failed rests for a while; another one does not know that.
      if (attempt < 4) world.node().providerLogouts.kick();
    }
    expect(pauses.map((pause, i) => i === 0 || pause > pauses[i - 1]!)).toEqual(
      pauses.map(() => true),
    );
    world.provider.answerAlways(null);
    world.node().providerLogouts.start();
    await nothingOwed();
    expect(alive(session)).toBe(false);
    expect(await eventsOf(session.id)).toEqual([
      'session_ended ended_by_admin admin:ada',
      'provider_logout postponed gateway',
      'provider_logout ended gateway',
    ]);
  });

  test('waits where the provider refuses this client, until it is configured rightly', async () => {
    const misled = world.node();
    misled.client.useSecret('an old secret');
    const { session } = await world.login(misled);
    await endSessions(misled, { id: session.id }, 'logout');
    await until(() => misled.sent.includes('postponed'), { what: 'the refusal' });
    expect(alive(session)).toBe(true);
    await due();
    world.node().providerLogouts.kick();
    await nothingOwed();
    expect(alive(session)).toBe(false);
  });

  test('is a revocation where the provider ends no sessions from server to server, and given up where it does neither', async () => {
    for (const answer of [
      { status: 404 },
      { status: 405 },
      { status: 400, body: { error: 'invalid_request' } },
      { status: 302, headers: { location: 'https://elsewhere.test/' } },
      { status: 200, body: '<html>', headers: { 'content-type': 'text/html; charset=utf-8' } },
    ]) {
      const { session } = await world.login(node);
      world.provider.answerNext({ endpoint: 'logout', ...answer });
      await endSessions(node, { id: session.id }, 'logout');
      await nothingOwed();
      expect([answer.status, alive(session)]).toEqual([answer.status, false]);
      expect((await eventsOf(session.id)).at(-1)).toBe('provider_logout revoked gateway');
    }
    const { session } = await world.login(node);
    const unsupported = { status: 400, body: { error: 'unsupported_token_type' } };
    world.provider.answerNext({ endpoint: 'logout', status: 404 });
    world.provider.answerNext({ endpoint: 'revoke', ...unsupported });
    await endSessions(node, { id: session.id }, 'logout');
    await nothingOwed();
    expect((await eventsOf(session.id)).at(-1)).toBe('provider_logout refused gateway');
  });

  test('ends with the refresh token: nothing is sent then', async () => {
    const quiet = silent();
    const { session } = await world.login(quiet);
    await endSessions(quiet, { id: session.id }, 'logout');
    await node.db.sql.query('UPDATE provider_logouts SET expires_at = now()');
    node.providerLogouts.kick();
    await nothingOwed();
    expect(world.provider.counts.logouts).toBe(0);
    expect((await eventsOf(session.id)).at(-1)).toBe('provider_logout expired gateway');
    const late = (await world.login(quiet)).session;
    await node.db.sql.query('UPDATE user_sessions SET refresh_expires_at = now() WHERE id = $1', [
      late.id,
    ]);
    await endSessions(quiet, { id: late.id }, 'logout');
    expect(await owed()).toEqual([]);
  });

  test('is held for whoever wants to wait for it, who waits no longer than wanted', async () => {
    const { session } = await world.login(node);
    const [ended] = await endSessions(node, { id: session.id }, 'logout', { heldMs: 60_000 });
    const other = world.node();
    other.providerLogouts.kick();
    world.provider.answerNext({ endpoint: 'logout', delayMs: 400 });
    await node.providerLogouts.sendNow(ended!.owedId!, 20);
    expect(alive(session)).toBe(true);
    await other.providerLogouts.sendNow(ended!.owedId!, 5_000);
    await nothingOwed();
    expect(alive(session)).toBe(false);
    expect(world.provider.counts.logouts).toBe(1);
    await node.providerLogouts.sendNow('no such row', 5_000);
  });

  test('is left to others at once by a process that ends', async () => {
    const ending = world.node();
    const { session } = await world.login(ending);
    world.provider.answerNext({ endpoint: 'logout', delayMs: 600 });
    await endSessions(ending, { id: session.id }, 'logout');
    await until(() => world.provider.counts.logouts === 1, { what: 'the call' });
    expect((await owed())[0]!.pause).toBeGreaterThan(10);
    await ending.providerLogouts.stop(0);
    expect((await owed())[0]!.pause).toBeLessThanOrEqual(0);
    await nothingOwed();
  });

  test('of tokens that came late is spared where somebody goes on with the session there', async () => {
    const { session } = await world.login(node);
    const tokens = await world.provider.grant('demo');
    const set = {
      ...tokens,
      tokenExpiresAt: new Date(),
      tokenLifetimeSeconds: 60,
      refreshExpiresAt: null,
      identity: {
        subject: session.subject,
        sid: session.sid,
        preferredUsername: null,
        email: null,
        name: null,
        acr: null,
        roles: null,
      },
    };
    const late = {
      id: '00000000-0000-8000-8000-000000000000',
      subject: session.subject,
      sid: session.sid,
    };
    await node.vault.giveBack(late, set, 'grant_ended', 'revoke');
    node.providerLogouts.kick();
    await nothingOwed();
    expect(await eventsOf('00000000-0000-8000-8000-000000000000')).toEqual([
      'provider_logout spared gateway',
    ]);
    expect(world.provider.counts.revocations).toBe(0);
    expect(world.provider.isSessionAlive(tokens.sid)).toBe(true);
  });
});
