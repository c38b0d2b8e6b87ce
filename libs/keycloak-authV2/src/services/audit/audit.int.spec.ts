import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createWorld, HOUR_MS, type Node, type World } from '../../testing/world.js';
import { backchannelLogout, requireNotLoggedOut } from '../logout/backchannelLogout.js';
import { endSessions } from '../logout/endSessions.js';
import { purge } from './purge.js';

let world: World;
let node: Node;
beforeAll(async () => {
  world = await createWorld();
  node = world.node();
});
afterAll(() => world.dispose());

const eventsOf = (id: string) =>
  node.db.sql.query<{
    event: string;
    reason: string | null;
    actor: string;
    subject: string | null;
    sid: string | null;
    ip_address: string | null;
  }>(
    `SELECT event, reason, actor, subject, sid, ip_address FROM session_events WHERE session_id = $1 AND event <> 'provider_logout' ORDER BY id`,
    [id],
  );
const logout = (
  request: { sid?: string | null; subject?: string | null; jti: string },
  scope: 'sid' | 'sub' = 'sid',
) =>
  backchannelLogout(
    { ...node, issuer: world.provider.issuer },
    { sid: null, subject: null, expiresAt: new Date(Date.now() + 120_000), ...request },
    scope,
  );

describe('the audit trail', () => {
  test('tells who ended a session, when, why and from where, in the statement that ended it', async () => {
    const { session } = await world.login(node);
    await endSessions(node, { id: session.id }, 'ended_by_admin', {
      actor: 'admin:ada',
      ipAddress: '192.0.2.7',
    });
    expect(await eventsOf(session.id)).toEqual([
      {
        event: 'session_ended',
        reason: 'ended_by_admin',
        actor: 'admin:ada',
        subject: session.subject,
        sid: session.sid,
        ip_address: '192.0.2.7',
      },
    ]);
    expect(node.told.find(({ event }) => event === 'session_ended')).toMatchObject({
      sessionId: session.id,
      actor: 'admin:ada',
    });
  });

  test('has nothing of an end that was rolled back', async () => {
    const { session } = await world.login(node);
    await expect(
      node.db.transaction(async (sql) => {
        await node.vault.end({ id: session.id }, 'logout', { sql });
        throw new Error('rolled back');
      }),
    ).rejects.toThrow('rolled back');
    expect(await eventsOf(session.id)).toEqual([]);
    expect(await node.store.reload(session.id)).not.toBeNull();
  });

  test('tells a refused grant by its cause: a lost answer, an expired refresh token, a dead holder, or what nothing explains', async () => {
    const reasons = async (
      prepare: (id: string) => Promise<unknown>,
      answers: Parameters<typeof world.provider.answerNext> = [
        { status: 400, body: { error: 'invalid_grant' } },
      ],
    ) => {
      const { session } = await world.login(node);
      await prepare(session.id);
      world.provider.answerNext(...answers);
      const lonely = world.node();
      await expect(lonely.manager.refresh(session)).rejects.toMatchObject({
        code: 'reauthentication_required',
      });
      return (await eventsOf(session.id)).map(({ event, reason }) => `${event} ${reason}`);
    };
    const ended = 'session_ended grant_ended';
    expect(await reasons(async () => undefined)).toEqual([ended, 'reuse_suspected invalid_grant']);
    expect(
      await reasons((id) =>
        node.db.sql.query('UPDATE user_sessions SET refresh_expires_at = now() WHERE id = $1', [
          id,
        ]),
      ),
    ).toEqual([ended, 'refresh_failed refresh_expired']);
    expect(
      await reasons((id) =>
        node.db.sql.query(
          `UPDATE user_sessions SET refresh_lease_owner = 'dead', refresh_lease_until = now() WHERE id = $1`,
          [id],
        ),
      ),
    ).toEqual([ended, 'refresh_failed holder_died']);
    expect(await reasons(async () => undefined, [{ dropAfterSending: true }])).toEqual([
      ended,
      'refresh_failed answer_lost',
    ]);
    expect(
      await reasons((id) =>
        node.db.sql.query(
          `INSERT INTO session_events (event, session_id, reason, actor) VALUES ('refresh_failed', $1, 'answer_lost', 'provider')`,
          [id],
        ),
      ),
    ).toEqual(['refresh_failed answer_lost', ended, 'refresh_failed invalid_grant']);
  });

  test('tells no reuse of a token that the provider took from us before, and gave no other for', async () => {
    const { session } = await world.login(node);
    const lonely = world.node();
    world.provider.answerNext({
      status: 200,
      body: { access_token: 'opaque', token_type: 'Bearer', expires_in: 60 },
    });
    const renewed = await lonely.manager.refresh(session);
    world.provider.answerNext({
      status: 400,
      body: {
        error: 'invalid_grant',
        error_description: 'Maximum allowed refresh token reuse exceeded',
      },
    });
    await expect(lonely.manager.refresh(renewed)).rejects.toMatchObject({
      code: 'reauthentication_required',
    });
    expect((await eventsOf(session.id)).map(({ event, reason }) => `${event} ${reason}`)).toEqual([
      'session_ended grant_ended',
      'refresh_failed no_refresh_token',
    ]);
    // Nobody has stolen anything: the provider's session goes on.
    expect(world.provider.isSessionAlive(session.sid!)).toBe(true);
    expect(lonely.sent).toEqual([]);
  });

  test('holds no token and no cookie', async () => {
    const { session, cookie } = await world.login(node);
    const token = await node.vault.accessToken(session);
    await endSessions(node, { id: session.id }, 'logout');
    const stored = (
      await node.db.sql.query<{ text: string }>('SELECT e::text AS text FROM session_events e')
    )
      .map(({ text }) => text)
      .join('\n');
    for (const secret of [cookie, token!, token!.split('.')[2]!])
      expect(stored + JSON.stringify(node.told)).not.toContain(secret);
  });
});

describe('what was ended', () => {
  test('is kept as long as it is to be, and then purged with its events, batch by batch; live sessions stay', async () => {
    const { sql } = node.db;
    const [old, young, live] = [
      await world.login(node),
      await world.login(node),
      await world.login(node),
    ];
    await endSessions(node, { id: old.session.id }, 'logout');
    await endSessions(node, { id: young.session.id }, 'logout');
    await sql.query(
      `UPDATE user_sessions SET ended_at = now() - interval '2 hours' WHERE id = $1`,
      [old.session.id],
    );
    await sql.query(
      `UPDATE session_events SET at = now() - interval '2 hours' WHERE session_id = $1`,
      [old.session.id],
    );
    await sql.query(
      `UPDATE user_sessions SET ended_at = now() - interval '2 hours' WHERE id = $1`,
      [live.session.id],
    );
    await sql.query(
      `INSERT INTO logout_tokens (issuer, jti, expires_at) VALUES ('x', 'over', now() - interval '2 minutes'), ('x', 'good', now() + interval '2 minutes')`,
    );
    await sql.query(
      `INSERT INTO user_sessions (id, user_id, cookie_hash, is_active, ended_at) SELECT 'bulk-' || n, u.id, sha256(n::text::bytea), false, now() - interval '2 hours' FROM generate_series(1, 1500) n, users u WHERE u.keycloak_id = $1`,
      [old.session.subject],
    );
    expect(await purge(sql, HOUR_MS)).toBe(true);
    expect(await purge(sql, HOUR_MS)).toBe(false);
    const left = (await sql.query<{ id: string }>('SELECT id FROM user_sessions')).map(
      ({ id }) => id,
    );
    expect(left).toEqual(expect.arrayContaining([young.session.id, live.session.id]));
    expect(left.filter((id) => id === old.session.id || id.startsWith('bulk-'))).toEqual([]);
    expect(await eventsOf(old.session.id)).toEqual([]);
    expect(await eventsOf(young.session.id)).toHaveLength(1);
    expect(
      (await sql.query<{ jti: string }>(`SELECT jti FROM logout_tokens WHERE issuer = 'x'`)).map(
        ({ jti }) => jti,
      ),
    ).toEqual(['good']);
  });
});

describe('a back-channel logout', () => {
  test('that comes while the login is under way is not outlived by it', async () => {
    await logout({ sid: 'sid-1', subject: 'subject-1', jti: 'a' });
    const login = (sid: string, subject: string, sinceMs: number) =>
      node.db.transaction((sql) => requireNotLoggedOut(sql, { sid, subject, sinceMs }));
    await expect(login('sid-1', 'subject-1', 5_000)).rejects.toMatchObject({
      code: 'callback_rejected',
      reason: 'logged_out',
    });
    await expect(login('sid-2', 'subject-1', 5_000)).resolves.toBeUndefined();
    await expect(login('sid-1', 'subject-1', -1_000)).resolves.toBeUndefined();
    await logout({ subject: 'subject-1', jti: 'b' });
    await expect(login('sid-2', 'subject-1', 5_000)).rejects.toMatchObject({
      code: 'callback_rejected',
    });
    await expect(login('sid-2', 'subject-2', 5_000)).resolves.toBeUndefined();
  });

  test('waits for the login that has begun to write, and ends what it wrote', async () => {
    const { session } = await world.login(node);
    let logouts: ReturnType<typeof logout> | undefined;
    await node.db.transaction(async (sql) => {
      await requireNotLoggedOut(sql, {
        sid: session.sid,
        subject: session.subject,
        sinceMs: 5_000,
      });
      logouts = logout({ sid: session.sid, subject: session.subject, jti: 'c' });
      const waits = async () =>
        (
          await node.db.sql.query(
            `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`,
          )
        ).length > 0;
      while (!(await waits()));
    });
    expect(await logouts).toMatchObject([
      { id: session.id, reason: 'backchannel_logout', actor: 'provider' },
    ]);
  });
});
