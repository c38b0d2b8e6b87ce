import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { isStorageUnavailable } from '@session-gateway/database';
import { until } from '@session-gateway/testkit';
import type { AuthError } from '../../errors.js';
import { createWorld, HOUR_MS, type Node, type World } from '../../testing/world.js';
import { endSessions } from '../logout/endSessions.js';
import type { Session } from '../session/sessionMetadata.js';
import { LEASE_MS } from './RefreshTokenManager.js';
import type { TokenVault } from './TokenVault.js';

let world: World;
let nodes: Node[];
beforeAll(async () => {
  world = await createWorld({ latencyMs: 30 });
  nodes = [world.node(), world.node(), world.node(), world.node()];
});
afterAll(() => world.dispose());
beforeEach(() => world.provider.resetCounts());

const row = async (id: string) =>
  (
    await nodes[0]!.db.sql.query<{
      is_active: boolean;
      end_reason: string | null;
      access_token: string | null;
      version: number;
      refresh_lease_owner: string | null;
    }>(
      'SELECT is_active, end_reason, access_token, version, refresh_lease_owner FROM user_sessions WHERE id = $1',
      [id],
    )
  )[0]!;

/** What came too late is over at the provider, and nothing of it is left here. */
const takenBack = async ({ id, sid }: Session): Promise<void> => {
  await until(
    async () =>
      (await nodes[0]!.db.sql.query('SELECT 1 FROM provider_logouts WHERE session_id = $1', [id]))
        .length === 0,
    { what: 'the provider being told' },
  );
  expect(world.provider.isSessionAlive(sid!)).toBe(false);
};

/** As many callers as given, spread over all processes, all at once. */
const storm = (session: Session, callers: number, over: Node[] = nodes) =>
  Promise.allSettled(
    Array.from({ length: callers }, (_, i) => over[i % over.length]!.manager.refresh(session)),
  );

describe('refreshing a session', () => {
  test('asked for by 200 callers in four processes spends the refresh token once, round after round', async () => {
    let { session } = await world.login(nodes[0]!);
    for (let round = 1; round <= 5; round++) {
      const results = await storm(session, 200);
      expect(results.filter((result) => result.status === 'rejected')).toEqual([]);
      expect(world.provider.counts).toMatchObject({ refresh: round, invalidGrants: 0 });
      session = (results[0] as PromiseFulfilledResult<Session>).value;
    }
    expect(await nodes[1]!.vault.accessToken(session)).toEqual(expect.stringMatching(/^eyJ/));
    expect((await row(session.id)).refresh_lease_owner).toBeNull();
  });

  test('without the lease spends it more than once and loses the session: the storm would show it', async () => {
    const careless = (vault: TokenVault): TokenVault => {
      vault.claimRefresh = async (id, _seen) => {
        const [found] = await nodes[0]!.db.sql.query<{ refresh_token: string }>(
          'SELECT refresh_token FROM user_sessions WHERE id = $1',
          [id],
        );
        return found?.refresh_token
          ? {
              kind: 'claimed',
              refreshToken: world.encryption.open(found.refresh_token, {
                table: 'user_sessions',
                column: 'refresh_token',
                rowId: id,
              }),
              isUsed: false,
              takenOver: false,
              accessTokenOver: false,
            }
          : { kind: 'ended' };
      };
      return vault;
    };
    const reckless = [
      world.node({ wrapVault: careless }),
      world.node({ wrapVault: careless }),
      world.node({ wrapVault: careless }),
    ];
    const { session } = await world.login(reckless[0]!);
    await storm(session, 30, reckless);
    expect(world.provider.counts.invalidGrants).toBeGreaterThan(0);
  });

  test('of one person in many sessions leaves room for others, who are not last', async () => {
    const own = world.node();
    const crowd: Session[] = [];
    for (const name of ['crowd', 'somebody-else']) world.provider.setUser(name, { sub: name });
    for (let i = 0; i < 60; i++) crowd.push((await world.login(own, 'crowd')).session);
    const { session } = await world.login(own, 'somebody-else');
    let done = 0;
    const refreshing = crowd.map((one) => own.manager.refresh(one).then(() => done++));
    await own.manager.refresh(session);
    const before = done;
    await Promise.all(refreshing);
    // Four at a time are one person's; as many as the provider bears at once would be 32.
    expect(before).toBeLessThan(30);
  });

  test('waits for another process that holds the lease, and takes over when that one has died', async () => {
    const { session } = await world.login(nodes[0]!);
    const dead = await nodes[0]!.vault.claimRefresh(
      session.id,
      session.version,
      'a process that dies',
      600,
    );
    expect(dead.kind).toBe('claimed');
    const refreshed = await nodes[1]!.manager.refresh(session);
    expect(refreshed.version).toBe(session.version + 1);
    expect(world.provider.counts).toMatchObject({ refresh: 1, invalidGrants: 0 });
  });

  test('that comes after another process has refreshed uses what is there', async () => {
    const { session } = await world.login(nodes[0]!);
    const first = await nodes[0]!.manager.refresh(session);
    const second = await nodes[1]!.manager.refresh(session);
    expect(second.version).toBe(first.version);
    expect(world.provider.counts.refresh).toBe(1);
  });

  test('that the provider refuses with invalid_grant ends the session and erases its tokens', async () => {
    const { session, cookie } = await world.login(nodes[0]!);
    world.provider.endSession(session.sid!);
    await expect(nodes[0]!.manager.refresh(session)).rejects.toMatchObject({
      code: 'reauthentication_required',
    });
    expect(await row(session.id)).toMatchObject({
      is_active: false,
      end_reason: 'grant_ended',
      access_token: null,
    });
    expect(await nodes[0]!.store.find(cookie)).toBeNull();
  });

  test('refused with invalid_grant by a provider that goes by another issuer keeps the session, and says so', async () => {
    const node = world.node();
    const { session } = await world.login(node);
    const others = await Promise.all(Array.from({ length: 8 }, () => world.login(node)));
    await node.client.ready();
    world.provider.resetCounts();
    const { issuer } = world.provider;
    const discovery = (status: number, name: string) =>
      ({ endpoint: 'discovery', status, body: { issuer: name } }) as const;
    const dead = { status: 400, body: { error: 'invalid_grant' } };
    world.provider.answerNext(dead, discovery(200, `${issuer}/elsewhere`));
    await expect(node.manager.refresh(session)).rejects.toMatchObject({
      code: 'provider_unavailable',
      reason: 'issuer_mismatch',
    });
    expect(await node.client.health()).toMatchObject({
      reason: expect.stringContaining('another issuer'),
    });
    // What cannot be seen ends nothing either.
    world.provider.answerNext(dead, discovery(503, issuer));
    await expect(node.manager.refresh(session)).rejects.toMatchObject({
      code: 'provider_unavailable',
      reason: 'issuer_unconfirmed',
    });
    expect(await row(session.id)).toMatchObject({ is_active: true, version: session.version });
    expect(node.told.map(({ event, reason }) => [event, reason])).toEqual([
      ['refresh_failed', 'issuer_mismatch'],
      ['refresh_failed', 'issuer_unconfirmed'],
    ]);
    // Many who are refused at once share the looks.
    world.provider.resetCounts();
    world.provider.answerNext(...others.map(() => dead), {
      endpoint: 'discovery',
      delayMs: 300,
    });
    await Promise.allSettled(others.map((other) => node.manager.refresh(other.session)));
    expect(world.provider.counts.discovery).toBeLessThan(others.length);
    expect((await node.manager.refresh(session)).version).toBe(session.version + 1);
    expect(await node.client.health()).toMatchObject({ reason: null });
  });

  test.each([
    ['User disabled', 'refresh_failed', 'user_disabled'],
    ['Session not active', 'refresh_failed', 'session_not_active'],
    ['Token is not active', 'refresh_failed', 'refresh_expired'],
    ['Maximum allowed refresh token reuse exceeded', 'reuse_suspected', 'reuse'],
    ['words that nobody knows', 'reuse_suspected', 'invalid_grant'],
  ])('refused with "%s" tells %s, %s', async (error_description, event, reason) => {
    const node = world.node();
    const { session } = await world.login(node);
    world.provider.answerNext({ status: 400, body: { error: 'invalid_grant', error_description } });
    await expect(node.manager.refresh(session)).rejects.toMatchObject({
      code: 'reauthentication_required',
    });
    // What the provider is owed is told whenever it has answered.
    const told = node.told.filter((one) => one.event !== 'provider_logout');
    expect(told.at(-1)).toMatchObject({ event, reason });
  });

  test('refused with invalid_grant while somebody else has renewed it goes on with what is there', async () => {
    const { session } = await world.login(nodes[0]!);
    world.provider.answerNext({ status: 400, body: { error: 'invalid_grant' }, delayMs: 300 });
    const refused = nodes[0]!.manager.refresh(session);
    await until(() => world.provider.counts.refresh === 1, { what: 'the refresh under way' });
    await nodes[1]!.db.sql.query('UPDATE user_sessions SET version = version + 1 WHERE id = $1', [
      session.id,
    ]);
    expect((await refused).version).toBe(session.version + 1);
    expect((await row(session.id)).is_active).toBe(true);
  });

  test.each([
    ['an internal error', { status: 500 }, 'provider_unavailable'],
    ['an overload', { status: 429, headers: { 'retry-after': '7' } }, 'provider_unavailable'],
    [
      "a proxy's page",
      { status: 200, body: '<html>', headers: { 'content-type': 'text/html' } },
      'provider_unavailable',
    ],
    ['garbage', { garbage: true }, 'provider_unavailable'],
    [
      'invalid_grant with another status than 400',
      { status: 403, body: { error: 'invalid_grant' } },
      'provider_unavailable',
    ],
    [
      'an error that nobody knows',
      { status: 400, body: { error: 'cloudy' } },
      'provider_unavailable',
    ],
    [
      'tokens of wrong types',
      { status: 200, body: { access_token: 7, token_type: 'Bearer' } },
      'provider_unavailable',
    ],
    ['an empty body', { status: 200, body: '' }, 'provider_unavailable'],
    ['half an answer', { status: 503, truncate: true }, 'provider_unavailable'],
    [
      "invalid_grant with a server error's status",
      { status: 503, body: { error: 'invalid_grant' } },
      'provider_unavailable',
    ],
    [
      'temporarily_unavailable',
      { status: 400, body: { error: 'temporarily_unavailable' } },
      'provider_unavailable',
    ],
    ['invalid_client', { status: 401, body: { error: 'invalid_client' } }, 'provider_rejected'],
    [
      'unauthorized_client',
      { status: 400, body: { error: 'unauthorized_client' } },
      'provider_rejected',
    ],
  ])('answered with %s keeps the session and succeeds the next time', async (_, answer, code) => {
    const { session } = await world.login(nodes[0]!);
    world.provider.answerNext(answer);
    // A process of its own: what the provider asks to wait holds for whoever heard it.
    await expect(world.node().manager.refresh(session)).rejects.toMatchObject({ code });
    expect(await row(session.id)).toMatchObject({
      is_active: true,
      refresh_lease_owner: null,
      version: session.version,
    });
    expect((await nodes[1]!.manager.refresh(session)).version).toBe(session.version + 1);
  });

  test.each([
    [
      'before anything was done is asked for once more, and nobody notices',
      { drop: true },
      { counts: { refresh: 2, invalidGrants: 0 }, alive: true },
    ],
    [
      'after the token was spent is asked for once more, which ends the session that was lost anyway',
      { dropAfterSending: true },
      { counts: { refresh: 2, invalidGrants: 1 }, alive: false },
    ],
    [
      'in the middle is asked for once more',
      { truncate: true },
      { counts: { refresh: 2, invalidGrants: 1 }, alive: false },
    ],
  ])('whose answer is lost %s', async (_, fault, { counts, alive }) => {
    const { session } = await world.login(nodes[0]!);
    world.provider.answerNext(fault);
    const outcome = await nodes[0]!.manager.refresh(session).then(
      () => 'refreshed',
      (error: unknown) => (error as AuthError).code,
    );
    expect(outcome).toBe(alive ? 'refreshed' : 'reauthentication_required');
    expect(world.provider.counts).toMatchObject(counts);
    expect((await row(session.id)).is_active).toBe(alive);
  });

  test('that meets a provider which asks for patience leaves it alone for as long, and uses what others have renewed meanwhile', async () => {
    const patient = world.node();
    const [one, two] = [await world.login(patient), await world.login(patient)];
    world.provider.answerNext({ status: 503, headers: { 'retry-after': '60' } });
    await expect(patient.manager.refresh(one.session)).rejects.toMatchObject({
      code: 'provider_unavailable',
      retryAfterSeconds: 60,
    });
    await expect(patient.manager.refresh(two.session)).rejects.toMatchObject({
      code: 'provider_unavailable',
      reason: 'circuit_open',
    });
    expect(world.provider.counts.refresh).toBe(1);
    const renewed = await nodes[1]!.manager.refresh(two.session);
    expect((await patient.manager.refresh(two.session)).version).toBe(renewed.version);
  });

  test("that fails behind a request's back is not tried anew with every request", async () => {
    const node = world.node();
    const { session } = await world.login(node);
    const due = { ...session, tokenExpiresAt: new Date(Date.now() + 5_000) };
    world.provider.answerNext({ status: 500 });
    for (let i = 0; i < 20; i++) {
      expect(await node.manager.usable(due)).toBe(due);
      await node.manager.settled();
    }
    expect(world.provider.counts.refresh).toBe(1);
  });

  test('that another holds for too long answers within 20 s, and goes on all the same', async () => {
    const { session } = await world.login(nodes[0]!);
    // A provider that takes its time over every call keeps a lease alive; here nobody ever gives it back.
    await nodes[0]!.db.sql.query(
      `UPDATE user_sessions SET refresh_lease_owner = 'x', refresh_lease_until = now() + interval '1 hour' WHERE id = $1`,
      [session.id],
    );
    const began = performance.now();
    await expect(nodes[1]!.manager.refresh(session)).rejects.toMatchObject({
      code: 'provider_unavailable',
      reason: 'lease_wait',
    });
    expect(performance.now() - began).toBeGreaterThan(13_000);
  }, 60_000);

  test.each([null, ''])(
    'without a refresh token (%j) leaves the session as it is while its access token lives, and ends it then',
    async (none) => {
      const node = world.node();
      const { session } = await world.login(node);
      await node.db.sql.query('UPDATE user_sessions SET refresh_token = $2 WHERE id = $1', [
        session.id,
        none,
      ]);
      const due = { ...session, tokenExpiresAt: new Date(Date.now() + 5_000) };
      expect(await node.manager.usable(due)).toBe(due);
      expect(
        await Promise.all([node.manager.refresh(session), node.manager.refresh({ ...session })]),
      ).toEqual([session, session]);
      expect(await row(session.id)).toMatchObject({
        is_active: true,
        refresh_lease_owner: null,
        version: session.version,
      });
      // By PostgreSQL's clock it lives.
      const over = { ...session, tokenExpiresAt: new Date(Date.now() - 1) };
      expect(await node.manager.usable(over)).toBe(over);
      await node.db.sql.query('UPDATE user_sessions SET token_expires_at = now() WHERE id = $1', [
        session.id,
      ]);
      await expect(node.manager.usable(over)).rejects.toMatchObject({
        code: 'reauthentication_required',
      });
      expect(await row(session.id)).toMatchObject({ is_active: false, end_reason: 'grant_ended' });
      expect(node.told).toContainEqual(
        expect.objectContaining({ event: 'refresh_failed', reason: 'no_refresh_token' }),
      );
      expect(world.provider.counts.refresh).toBe(0);
    },
  );

  test.each([
    ['ahead', HOUR_MS],
    ['behind', -HOUR_MS],
  ])(
    'with a clock that is an hour %s spends nothing, ends nothing, and uses what others have renewed',
    async (_, offMs) => {
      const wrong = world.node({ ownNow: () => Date.now() + offMs });
      const { session } = await world.login(wrong);
      const over = { ...session, tokenExpiresAt: new Date(Date.now() - 1) };
      await expect(wrong.manager.usable(over)).rejects.toMatchObject({
        code: 'provider_unavailable',
        reason: 'clock',
      });
      await wrong.db.sql.query(`UPDATE user_sessions SET token_expires_at = now() WHERE id = $1`, [
        session.id,
      ]);
      await wrong.manager.sweep();
      expect([await row(session.id), world.provider.counts.refresh]).toMatchObject([
        { is_active: true, version: session.version },
        0,
      ]);
      const renewed = await nodes[0]!.manager.refresh(session);
      expect(await wrong.manager.usable(over)).toEqual(renewed);
    },
  );

  test('answered with an access token whose end cannot be read takes it for one of a minute', async () => {
    const { session } = await world.login(nodes[0]!);
    const claims = Buffer.from(JSON.stringify({ exp: 'never' })).toString('base64url');
    world.provider.answerNext({
      status: 200,
      body: { access_token: `e30.${claims}.x`, token_type: 'Bearer' },
    });
    expect((await nodes[0]!.manager.refresh(session)).tokenLifetimeSeconds).toBe(60);
  });

  test('whose answer is about another person ends the session', async () => {
    world.provider.setUser('mallory', { sub: 'mallory-1' });
    const { session } = await world.login(nodes[0]!, 'mallory');
    world.provider.setUser('mallory', { sub: 'somebody-else' });
    await expect(nodes[0]!.manager.refresh(session)).rejects.toMatchObject({
      code: 'reauthentication_required',
    });
    expect(await row(session.id)).toMatchObject({
      is_active: false,
      end_reason: 'subject_changed',
      access_token: null,
    });
    expect(nodes[0]!.outcomes).toContain('subject_changed');
    await takenBack(session);
  });

  test('that is overtaken by a logout stays ended, and what the provider sent is revoked', async () => {
    const { session, cookie } = await world.login(nodes[0]!);
    world.provider.answerNext({ delayMs: 300 });
    const refreshing = nodes[0]!.manager.refresh(session);
    refreshing.catch(() => undefined);
    await until(() => world.provider.counts.refresh === 1, { what: 'the refresh under way' });
    world.provider.answerNext({ endpoint: 'logout', delayMs: 700 });
    await endSessions(nodes[1]!, { id: session.id }, 'logout');
    await expect(refreshing).rejects.toMatchObject({ code: 'reauthentication_required' });
    expect(await row(session.id)).toMatchObject({
      is_active: false,
      end_reason: 'logout',
      access_token: null,
    });
    await takenBack(session);
    expect(world.provider.counts).toMatchObject({ revocations: 1, endedSessions: 1 });
    for (const node of nodes) expect(await node.store.find(cookie)).toBeNull();
  });

  test("that is overtaken by the end of the session's time writes nothing, and what the provider sent is revoked", async () => {
    const { session } = await world.login(nodes[0]!);
    world.provider.answerNext({ delayMs: 300 });
    const refreshing = nodes[0]!.manager.refresh(session);
    refreshing.catch(() => undefined);
    await until(() => world.provider.counts.refresh === 1, { what: 'the refresh under way' });
    await nodes[1]!.db.sql.query('UPDATE user_sessions SET expires_at = now() WHERE id = $1', [
      session.id,
    ]);
    await expect(refreshing).rejects.toMatchObject({ code: 'reauthentication_required' });
    expect((await row(session.id)).version).toBe(session.version);
    await takenBack(session);
    expect(world.provider.counts).toMatchObject({ revocations: 1, endedSessions: 0 });
  });

  test('whose new tokens meet a PostgreSQL that is away writes them once it is back', async () => {
    const { session } = await world.login(nodes[0]!);
    world.provider.answerNext({ delayMs: 400 });
    const refreshing = nodes[0]!.manager.refresh(session);
    await until(() => world.provider.counts.refresh === 1, { what: 'the refresh under way' });
    await world.postgres.stop('immediate');
    await world.postgres.start();
    expect((await refreshing.catch(() => nodes[0]!.manager.refresh(session))).version).toBe(
      session.version + 1,
    );
    expect(world.provider.counts).toMatchObject({ refresh: 1, invalidGrants: 0 });
  });

  test('whose new tokens meet a PostgreSQL that stays away for longer than the lease keeps nobody waiting and loses nothing', async () => {
    const { session } = await world.login(nodes[0]!);
    world.provider.answerNext({ delayMs: 400 });
    const refreshing = nodes[0]!.manager.refresh(session).catch(isStorageUnavailable);
    await until(() => world.provider.counts.refresh === 1, { what: 'the refresh under way' });
    await world.postgres.stop('immediate');
    expect(await refreshing).toBe(true);
    expect(await nodes[0]!.manager.refresh(session).catch(isStorageUnavailable)).toBe(true);
    await delay(LEASE_MS);
    await world.postgres.start();
    const results = await storm(session, 40);
    expect(
      results.map((result) =>
        result.status === 'fulfilled' ? result.value.version : (result.reason as unknown),
      ),
    ).toEqual(Array(40).fill(session.version + 1));
    expect(world.provider.counts).toMatchObject({ refresh: 1, invalidGrants: 0 });
  });

  test('in the background renews sessions in use that are due, and leaves idle ones alone', async () => {
    const [busy, idle, fresh] = [
      await world.login(nodes[0]!),
      await world.login(nodes[0]!),
      await world.login(nodes[0]!),
    ];
    const { sql } = nodes[0]!.db;
    await sql.query(`UPDATE user_sessions SET token_expires_at = now() WHERE id = ANY($1)`, [
      [busy.session.id, idle.session.id],
    ]);
    await sql.query(
      `UPDATE user_sessions SET last_accessed_at = now() - interval '2 hours' WHERE id = $1`,
      [idle.session.id],
    );
    await Promise.all(nodes.map((node) => node.manager.sweep()));
    expect(await row(busy.session.id)).toMatchObject({
      version: busy.session.version + 1,
      is_active: true,
    });
    expect(await row(idle.session.id)).toMatchObject({
      is_active: false,
      end_reason: 'idle_timeout',
      access_token: null,
    });
    expect((await row(fresh.session.id)).version).toBe(fresh.session.version);
  });

  test('renews in time also where the refresh token ends before the access token, and says which end was met', async () => {
    const node = world.node();
    const people = [await world.login(node), await world.login(node), await world.login(node)];
    const [soon, later, over] = people.map(({ session }) => session.id);
    const ends = (id: string | undefined, seconds: number): Promise<unknown> =>
      node.db.sql.query(
        `UPDATE user_sessions SET token_expires_at = now() + interval '1 hour', metadata = metadata || '{"token_lifetime": 3600}',
           refresh_expires_at = now() + $2 * interval '1 second', expires_at = now() + $2 * interval '1 second' WHERE id = $1`,
        [id, seconds],
      );
    // Of a life of 20 s, a third is left; of one of a day, more than the lead.
    await ends(soon, 20);
    await ends(later, 300);
    await ends(over, -1);
    await node.db.sql.query(
      `UPDATE user_sessions SET metadata = metadata || '{"token_lifetime": 3640}' WHERE id = $1`,
      [soon],
    );
    const [dueNow, fresh] = [await node.store.reload(soon!), await node.store.reload(later!)];
    expect([node.manager.freshness(dueNow!), node.manager.freshness(fresh!)]).toEqual([
      'due',
      'fresh',
    ]);
    await node.manager.sweep();
    expect((await row(soon!)).version).toBe(dueNow!.version + 1);
    expect((await row(later!)).version).toBe(fresh!.version);
    expect(await row(over!)).toMatchObject({ is_active: false, end_reason: 'refresh_expired' });
    // Every way of ending it says so.
    await ends(later, -1);
    await node.vault.endExpired(HOUR_MS, { id: later! });
    expect((await row(later!)).end_reason).toBe('refresh_expired');
  });

  test("lets a session be idle for no longer than the provider's own idle time, everywhere", async () => {
    const node = world.node();
    const { session } = await world.login(node);
    await node.db.sql.query(
      `UPDATE user_sessions SET metadata = metadata || '{"idle_timeout": 300}', token_expires_at = now(),
         last_accessed_at = now() - interval '299 seconds' WHERE id = $1`,
      [session.id],
    );
    const idle = await node.store.reload(session.id);
    expect(idle).toMatchObject({ idleTimeoutSeconds: 300 });
    expect(node.store.idleExpiresAt(idle!).getTime() - idle!.lastAccessedAt.getTime()).toBe(
      300_000,
    );
    expect(await node.store.list({ subject: session.subject, limit: 200 })).toContainEqual(
      expect.objectContaining({ id: session.id }),
    );
    await node.db.sql.query(
      `UPDATE user_sessions SET last_accessed_at = now() - interval '301 seconds' WHERE id = $1`,
      [session.id],
    );
    expect(await node.store.reload(session.id)).toBeNull();
    expect(await node.vault.due(HOUR_MS, 30_000, 1_000)).not.toContain(session.id);
    expect(await node.store.list({ subject: session.subject, limit: 200 })).not.toContainEqual(
      expect.objectContaining({ id: session.id }),
    );
    await node.manager.sweep();
    expect(await row(session.id)).toMatchObject({ is_active: false, end_reason: 'idle_timeout' });
  });

  test.each(['{"token_lifetime": "an hour"}', '[60]', 'null', null])(
    'in the background is not kept from others by a session with odd metadata: %s',
    async (odd) => {
      const [strange, busy] = [await world.login(nodes[0]!), await world.login(nodes[0]!)];
      await nodes[0]!.db.sql.query(
        `UPDATE user_sessions SET token_expires_at = now(), metadata = CASE id WHEN $1 THEN $3::jsonb ELSE metadata END WHERE id IN ($1, $2)`,
        [strange.session.id, busy.session.id, odd],
      );
      await nodes[0]!.manager.sweep();
      for (const { session } of [strange, busy])
        expect((await row(session.id)).version).toBe(session.version + 1);
    },
  );
});
