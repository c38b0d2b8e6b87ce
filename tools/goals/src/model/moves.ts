import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import {
  afterEnding,
  cookieHash,
  endSessions,
  backchannelLogout,
  isAuthError,
  type Session,
} from '@session-gateway/keycloak-auth';
import { until } from '@session-gateway/testkit';
import fc from 'fast-check';
import { ABSOLUTE_MS, IDLE_MS, type Known, type Model, type Node, type World } from './world.js';

const PEOPLE = ['ann', 'ben', 'cleo'];
const MINUTE_MS = 60_000;
const HOLDS_WITHIN_MS = 1_000;

/** What a move may choose from; taken modulo what there is. */
interface Choice {
  session: number;
  node: number;
  person: number;
  minutes: number;
}

type Act = (world: World, choice: Choice & { known: Known | undefined; at: Node }) => Promise<void>;

const isOver = (world: World, { createdAt, usedAt }: Known): boolean =>
  world.now() >= Math.min(createdAt + ABSOLUTE_MS, usedAt + IDLE_MS);
const isLive = (world: World, known: Known): boolean => !known.ended && !isOver(world, known);

/** The cookie's session as a request finds it: the way the gateway goes, an expired one being ended. */
async function found(node: Node, known: Known): Promise<Session | null> {
  const seen = node.store.recall(known.cookie) ?? (await node.store.find(known.cookie));
  if (seen === null || !('state' in seen)) return seen;
  if (seen.state === 'live') return seen.session;
  await afterEnding(node, await node.vault.endExpired(IDLE_MS, { id: known.id }));
  return null;
}

/** What must be true after every move: each session is live everywhere or nowhere, and nowhere within a second. */
async function holds(world: World): Promise<void> {
  for (const known of world.model.sessions) if (isOver(world, known)) known.ended = true;
  await Promise.all(
    world.model.sessions.flatMap((known) =>
      world.nodes.map((node, i) => holdsAt(world, known, node, i)),
    ),
  );
}

async function holdsAt(world: World, known: Known, node: Node, i: number): Promise<void> {
  if (isLive(world, known))
    assert.ok(
      await found(node, known),
      `a live session of ${known.subject} is not found by node ${i}`,
    );
  else
    await until(async () => (await found(node, known)) === null, {
      timeoutMs: HOLDS_WITHIN_MS,
      everyMs: 5,
    }).catch(() => assert.fail(`an ended session of ${known.subject} is live for node ${i}`));
}

const ofSession =
  (act: (world: World, known: Known, at: Node) => Promise<void>): Act =>
  async (world, { known, at }) => {
    if (known) await act(world, known, at);
  };
const end = (
  select: (known: Known) => Parameters<typeof endSessions>[1],
  all: (one: Known, other: Known) => boolean,
): Act =>
  ofSession(async (world, known, at) => {
    await endSessions(at, select(known), 'logout');
    for (const other of world.model.sessions) if (all(known, other)) other.ended = true;
  });

const ACTS: Readonly<Record<string, Act>> = {
  'log in': async (world, { person, at }) =>
    void (await world.login(at, PEOPLE[person % PEOPLE.length] ?? 'ann')),
  request: ofSession(async (world, known, at) => {
    const session = await found(at, known);
    assert.equal(session !== null, isLive(world, known), `a request of ${known.subject}`);
    if (!session) return;
    const used = await at.store.touchNow(session);
    known.usedAt = used.lastAccessedAt.getTime();
    const token = await at.vault.accessToken(await at.manager.usable(used));
    const { sub } = JSON.parse(Buffer.from(token?.split('.')[1] ?? '', 'base64url').toString()) as {
      sub: string;
    };
    assert.equal(sub, known.subject, 'the token of somebody else');
  }),
  'refresh at once everywhere': ofSession(async (world, known) => {
    const before = world.provider.counts.refresh;
    const [row] =
      (await world.nodes[0]?.db.sql.query<{ version: number }>(
        'SELECT version FROM user_sessions WHERE id = $1',
        [known.id],
      )) ?? [];
    const session: Session = { ...known.seenAtLogin, version: row?.version ?? 0 };
    const results = await Promise.allSettled(
      world.nodes.flatMap((node) => [1, 2, 3].map(() => node.manager.refresh(session))),
    );
    if (isLive(world, known)) {
      assert.deepEqual(
        results.map((result) =>
          result.status === 'fulfilled' ? result.value.version : String(result.reason),
        ),
        results.map(() => session.version + 1),
      );
      assert.equal(world.provider.counts.refresh - before, 1, 'one refresh');
    } else if (known.ended) {
      for (const result of results)
        assert.ok(
          result.status === 'rejected' && isAuthError(result.reason, 'reauthentication_required'),
          'a refresh of an ended session',
        );
      assert.equal(world.provider.counts.refresh, before, 'no refresh');
    }
    assert.equal(world.provider.counts.invalidGrants, 0, 'a refresh token was spent twice');
  }),
  'log out': end(
    ({ id }) => ({ id }),
    (one, other) => one.id === other.id,
  ),
  "log out by the provider's session": end(
    ({ sid }) => ({ sid }),
    (one, other) => one.sid === other.sid,
  ),
  'log out everywhere': end(
    ({ subject }) => ({ subject }),
    (one, other) => one.subject === other.subject,
  ),
  'log out through the back channel': ofSession(async (world, known, at) => {
    const logout = {
      subject: known.subject,
      sid: known.sid,
      jti: randomUUID(),
      expiresAt: new Date(Date.now() + MINUTE_MS),
    };
    await backchannelLogout({ ...at, issuer: world.provider.issuer }, logout, 'sid');
    known.ended = true;
  }),
  // A request that found the session before whatever has happened since, and notes its use only now.
  'note a use late': ofSession(async (world, known, at) => {
    const late = await at.store.touchNow(known.seenAtLogin);
    if (isLive(world, known)) known.usedAt = late.lastAccessedAt.getTime();
  }),
  // A process that read the row when it was new, and puts its copy only now.
  'put a copy late': ofSession(async (world, known, at) => {
    const key = [...world.firstPuts.keys()].find(
      (held) => held === `s:${cookieHash(known.cookie).toString('base64url').slice(0, 22)}`,
    );
    const put = key === undefined ? undefined : world.firstPuts.get(key);
    if (put) await at.cache.put(put.key, put, put.ttlMs);
  }),
  'let time pass': async (world, { minutes }) => world.advance(minutes * MINUTE_MS),
  'flush Redis': async (world) => world.redis.flush(),
  'restart a node': async (world, { node }) => world.restart(node % world.nodes.length),
  'rotate the key': async (world) => world.rotate(),
  're-encrypt': async (world) => world.reencrypt(),
};
/** Restarts and time are rare, so that sessions live long enough to be done something to. */
const WEIGHT: Readonly<Record<string, number>> = {
  'log in': 4,
  request: 5,
  'refresh at once everywhere': 2,
  'note a use late': 3,
  'put a copy late': 3,
  'log out': 2,
};

/** Every move, each told to `count` when it is made. */
export function moves(count: () => void): fc.Arbitrary<fc.AsyncCommand<Model, World>>[] {
  return Object.entries(ACTS).flatMap(([name, act]) =>
    Array.from({ length: WEIGHT[name] ?? 1 }, () =>
      fc
        .record<Choice>({
          session: fc.nat(30),
          node: fc.nat(1),
          person: fc.nat(2),
          minutes: fc.integer({ min: 5, max: 70 }),
        })
        .map((choice) => ({
          check: () => true,
          async run(model: Model, world: World) {
            count();
            const known = model.sessions[choice.session % Math.max(1, model.sessions.length)];
            const at = world.nodes[choice.node % world.nodes.length];
            if (!at) throw new Error('there are no nodes');
            await act(world, { ...choice, known, at });
            await holds(world);
          },
          toString: () => `${name} ${JSON.stringify(choice)}`,
        })),
    ),
  );
}
