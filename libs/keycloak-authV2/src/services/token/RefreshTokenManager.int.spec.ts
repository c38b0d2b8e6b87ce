import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { until } from '@session-gateway/testkit';
import { createWorld, type Node, type World } from '../../testing/world.js';
import { endSessions } from '../logout/endSessions.js';
import type { Session } from '../session/sessionMetadata.js';
import type { TokenVault } from './TokenVault.js';

let world: World;
let nodes: Node[];
beforeAll(async () => {
  world = await createWorld({ latencyMs: 30 });
  nodes = [world.node(), world.node(), world.node(), world.node()];
});
afterAll(() => world.dispose());
beforeEach(() => world.provider.resetCounts());

const row = async (id: string) => (await nodes[0]!.db.sql.query<{ is_active: boolean; end_reason: string | null; access_token: string | null; version: number; refresh_lease_owner: string | null }>(
  'SELECT is_active, end_reason, access_token, version, refresh_lease_owner FROM user_sessions WHERE id = $1', [id]))[0]!;

/** As many callers as given, spread over all processes, all at once. */
const storm = (session: Session, callers: number, over: Node[] = nodes) =>
  Promise.allSettled(Array.from({ length: callers }, (_, i) => over[i % over.length]!.manager.refresh(session)));

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
        const [found] = await nodes[0]!.db.sql.query<{ refresh_token: string }>('SELECT refresh_token FROM user_sessions WHERE id = $1', [id]);
        return found?.refresh_token ? { kind: 'claimed', refreshToken: world.encryption.open(found.refresh_token, { table: 'user_sessions', column: 'refresh_token', rowId: id }) } : { kind: 'ended' };
      };
      return vault;
    };
    const reckless = [world.node({ wrapVault: careless }), world.node({ wrapVault: careless }), world.node({ wrapVault: careless })];
    const { session } = await world.login(reckless[0]!);
    await storm(session, 30, reckless);
    expect(world.provider.counts.invalidGrants).toBeGreaterThan(0);
  });

  test('waits for another process that holds the lease, and takes over when that one has died', async () => {
    const { session } = await world.login(nodes[0]!);
    const dead = await nodes[0]!.vault.claimRefresh(session.id, session.version, 'a process that dies', 600);
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
    await expect(nodes[0]!.manager.refresh(session)).rejects.toMatchObject({ code: 'reauthentication_required' });
    expect(await row(session.id)).toMatchObject({ is_active: false, end_reason: 'grant_ended', access_token: null });
    expect(await nodes[0]!.store.find(cookie)).toBeNull();
  });

  test('refused with invalid_grant while somebody else has renewed it goes on with what is there', async () => {
    const { session } = await world.login(nodes[0]!);
    world.provider.answerNext({ status: 400, body: { error: 'invalid_grant' }, delayMs: 300 });
    const refused = nodes[0]!.manager.refresh(session);
    await until(() => world.provider.counts.refresh === 1, { what: 'the refresh under way' });
    await nodes[1]!.db.sql.query('UPDATE user_sessions SET version = version + 1 WHERE id = $1', [session.id]);
    expect((await refused).version).toBe(session.version + 1);
    expect((await row(session.id)).is_active).toBe(true);
  });

  test.each([
    ['an internal error', { status: 500 }, 'provider_unavailable'],
    ['an overload', { status: 429, headers: { 'retry-after': '7' } }, 'provider_unavailable'],
    ['a proxy\'s page', { status: 200, body: '<html>', headers: { 'content-type': 'text/html' } }, 'provider_unavailable'],
    ['garbage', { garbage: true }, 'provider_unavailable'],
    ['a closed connection', { drop: true }, 'provider_unavailable'],
    ['half an answer', { status: 503, truncate: true }, 'provider_unavailable'],
    ['invalid_grant with a server error\'s status', { status: 503, body: { error: 'invalid_grant' } }, 'provider_unavailable'],
    ['temporarily_unavailable', { status: 400, body: { error: 'temporarily_unavailable' } }, 'provider_unavailable'],
    ['invalid_client', { status: 401, body: { error: 'invalid_client' } }, 'provider_rejected'],
    ['unauthorized_client', { status: 400, body: { error: 'unauthorized_client' } }, 'provider_rejected'],
  ])('answered with %s keeps the session and succeeds the next time', async (_, answer, code) => {
    const { session } = await world.login(nodes[0]!);
    world.provider.answerNext(answer);
    await expect(nodes[0]!.manager.refresh(session)).rejects.toMatchObject({ code });
    expect(await row(session.id)).toMatchObject({ is_active: true, refresh_lease_owner: null, version: session.version });
    expect((await nodes[1]!.manager.refresh(session)).version).toBe(session.version + 1);
  });

  test('whose answer is about another person ends the session', async () => {
    world.provider.setUser('mallory', { sub: 'mallory-1' });
    const { session } = await world.login(nodes[0]!, 'mallory');
    world.provider.setUser('mallory', { sub: 'somebody-else' });
    await expect(nodes[0]!.manager.refresh(session)).rejects.toMatchObject({ code: 'reauthentication_required' });
    expect(await row(session.id)).toMatchObject({ is_active: false, end_reason: 'subject_changed', access_token: null });
    expect(nodes[0]!.outcomes).toContain('subject_changed');
  });

  test('that is overtaken by a logout stays ended, and what the provider sent is revoked', async () => {
    const { session, cookie } = await world.login(nodes[0]!);
    world.provider.answerNext({ delayMs: 300 });
    const refreshing = nodes[0]!.manager.refresh(session);
    refreshing.catch(() => undefined);
    await until(() => world.provider.counts.refresh === 1, { what: 'the refresh under way' });
    await endSessions(nodes[1]!, { id: session.id }, 'logout');
    await expect(refreshing).rejects.toMatchObject({ code: 'reauthentication_required' });
    expect(await row(session.id)).toMatchObject({ is_active: false, end_reason: 'logout', access_token: null });
    expect(world.provider.counts.revocations).toBe(1);
    expect(world.provider.isSessionAlive(session.sid!)).toBe(false);
    for (const node of nodes) expect(await node.store.find(cookie)).toBeNull();
  });

  test('whose new tokens meet a PostgreSQL that is away writes them once it is back', async () => {
    const { session } = await world.login(nodes[0]!);
    world.provider.answerNext({ delayMs: 400 });
    const refreshing = nodes[0]!.manager.refresh(session);
    await until(() => world.provider.counts.refresh === 1, { what: 'the refresh under way' });
    await world.postgres.stop('immediate');
    await world.postgres.start();
    expect((await refreshing).version).toBe(session.version + 1);
    expect(world.provider.counts).toMatchObject({ refresh: 1, invalidGrants: 0 });
  });

  test('in the background renews sessions in use that are due, and leaves idle ones alone', async () => {
    const [busy, idle, fresh] = [await world.login(nodes[0]!), await world.login(nodes[0]!), await world.login(nodes[0]!)];
    const { sql } = nodes[0]!.db;
    await sql.query(`UPDATE user_sessions SET token_expires_at = now() WHERE id = ANY($1)`, [[busy.session.id, idle.session.id]]);
    await sql.query(`UPDATE user_sessions SET last_accessed_at = now() - interval '2 hours' WHERE id = $1`, [idle.session.id]);
    await Promise.all(nodes.map((node) => node.manager.sweep()));
    expect(await row(busy.session.id)).toMatchObject({ version: busy.session.version + 1, is_active: true });
    expect(await row(idle.session.id)).toMatchObject({ is_active: false, end_reason: 'idle_timeout', access_token: null });
    expect((await row(fresh.session.id)).version).toBe(fresh.session.version);
  });
});
