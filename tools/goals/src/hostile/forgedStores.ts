import { randomUUID } from 'node:crypto';
import { newSessionCookie } from '@session-gateway/keycloak-auth';
import {
  type Cluster,
  type ClusterSession,
  startCluster,
  type TestRedis,
  until,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import type { Random } from '../harness/random.js';
import { variant } from '../harness/variants.js';
import { forgedEntry, keyOfCookie } from './input/cacheEntries.js';
import { POSTGRES_WRITES } from './postgresWrites.js';

const CI_ROUNDS = 2;
const FULL_ROUNDS = 50;
/** The gateway that the attacks are tried at: it has no copy of a session until it is asked. */
const ASKED = 1;
const CHANGES = 'session-gateway:changes';

/** What one attack may use: the attacker's session is known to the first gateway only. */
interface Field {
  readonly cluster: Cluster;
  readonly redis: TestRedis;
  readonly random: Random;
  readonly attacker: ClusterSession;
  readonly victim: ClusterSession;
}

/** Writes to Redis and resolves with the cookie that is to be tried and the roles that it is to have. */
type Attack = (field: Field) => Promise<{ cookie: string; expected: Seen }>;

/** What a gateway says of a cookie. */
interface Seen {
  readonly status: number;
  readonly subject: string | undefined;
  readonly session: string | undefined;
  readonly roles: string | undefined;
}

const REFUSED: Seen = { status: 401, subject: undefined, session: undefined, roles: undefined };
const valueOf = ({ cookie }: ClusterSession): string => cookie.slice('session='.length);
const header = (cookie: string): string => `session=${cookie}`;

const truthOf = ({ id, subject }: ClusterSession): Seen => ({
  status: 200,
  subject,
  session: id,
  roles: 'realm:user',
});

async function see(cluster: Cluster, cookie: string, gateway = ASKED): Promise<Seen> {
  const { status, headers } = await cluster.ask(gateway, '/auth/verify', { cookie });
  const field = (name: string): string | undefined => headers[name]?.toString();
  return {
    status,
    subject: field('x-auth-subject'),
    session: field('x-auth-session'),
    roles: field('x-auth-roles'),
  };
}

const set = (redis: TestRedis, key: string, value: Buffer | string): Promise<unknown> =>
  redis.command('SET', key, value, 'PX', 60_000);

async function entryOf(redis: TestRedis, session: ClusterSession): Promise<Buffer> {
  const value = await redis.command('GET', keyOfCookie(valueOf(session)));
  if (!Buffer.isBuffer(value)) throw new Error(`no entry of ${session.username}`);
  return value;
}

/** An entry in the place of one's own, of whatever kind: what is said of the session must stay the truth. */
const inOwnPlace =
  (write: (field: Field, key: string) => Promise<unknown>): Attack =>
  async (field) => {
    await write(field, keyOfCookie(valueOf(field.attacker)));
    return { cookie: field.attacker.cookie, expected: truthOf(field.attacker) };
  };
/** An entry for a cookie that belongs to no session. */
const inNewPlace =
  (value: (field: Field, key: string) => Promise<Buffer> | Buffer): Attack =>
  async (field) => {
    const cookie = newSessionCookie();
    await set(field.redis, keyOfCookie(cookie), await value(field, keyOfCookie(cookie)));
    return { cookie: header(cookie), expected: REFUSED };
  };
const ofType = (...command: [string, ...string[]]): Attack =>
  inOwnPlace(async ({ redis }, key) => {
    await redis.command('DEL', key);
    const [name, ...args] = command;
    await redis.command(name, key, ...args);
  });

const ADMIN = ['realm:session-admin', 'realm:admin'];

const ATTACKS: Readonly<Record<string, Attack>> = {
  "another's entry under a cookie of one's own": inNewPlace(({ redis, victim }) =>
    entryOf(redis, victim),
  ),
  'an invented entry that names a living session': inNewPlace(({ victim, random }, key) =>
    forgedEntry(
      key,
      { id: victim.id, subject: victim.subject, roles: ADMIN, version: 1 },
      random.bytes(16),
    ),
  ),
  'an invented entry of nobody': inNewPlace((_, key) =>
    forgedEntry(key, { id: randomUUID(), subject: 'nobody', roles: ADMIN, version: 1 }),
  ),
  "another's entry in one's own place": inOwnPlace(async ({ redis, victim }, key) =>
    set(redis, key, await entryOf(redis, victim)),
  ),
  "roles in one's own entry, and the highest version": inOwnPlace(({ redis, attacker }, key) =>
    set(
      redis,
      key,
      forgedEntry(key, {
        id: attacker.id,
        subject: attacker.subject,
        roles: ADMIN,
        version: 0xffff_ffff,
      }),
    ),
  ),
  'a changed byte': inOwnPlace(async ({ redis, attacker, random }, key) => {
    const entry = Buffer.from(await entryOf(redis, attacker));
    const at = 4 + random.below(entry.length - 4);
    entry.writeUInt8(entry.readUInt8(at) ^ (1 + random.below(255)), at);
    await set(redis, key, entry);
  }),
  'an entry that is cut': inOwnPlace(async ({ redis, attacker, random }, key) => {
    const entry = await entryOf(redis, attacker);
    await set(redis, key, entry.subarray(0, random.below(entry.length)));
  }),
  'bytes of no meaning': inOwnPlace(({ redis, random }, key) =>
    set(redis, key, random.bytes(1 + random.below(200))),
  ),
  'a huge value': inOwnPlace(({ redis }, key) => redis.command('SETRANGE', key, 20_000_000, 'x')),
  'a list': ofType('RPUSH', 'x'),
  'a hash': ofType('HSET', 'field', 'x'),
  'a set': ofType('SADD', 'x'),
  'a sorted set': ofType('ZADD', '1', 'x'),
  'a stream': ofType('XADD', '*', 'field', 'x'),
  'a tombstone of a living session that never ends': inOwnPlace(({ redis }, key) =>
    redis.command('SET', key, ''),
  ),
  'invalidation messages about a living session': inOwnPlace(async ({ redis }, key) => {
    await redis.command('PUBLISH', CHANGES, key);
    await redis.command('PUBLISH', CHANGES, `9999999999 ${key}`);
    await redis.command('PUBLISH', CHANGES, 'x'.repeat(10_000));
  }),
};

/** What must succeed against a gateway that believes Redis, or the attacks prove nothing. */
const FORGERIES = [
  'an invented entry that names a living session',
  'an invented entry of nobody',
  "roles in one's own entry, and the highest version",
];

interface Tally {
  tried: number;
  accepted: number;
  byKind: Record<string, number>;
}

async function attack(
  cluster: Cluster,
  random: Random,
  rounds: number,
  onProgress: (tried: number) => void,
): Promise<Tally> {
  const redis = redisOf(cluster);
  const tally: Tally = { tried: 0, accepted: 0, byKind: {} };
  for (let round = 0; round < rounds; round++) {
    const kinds = Object.entries(ATTACKS);
    const prefix = `person-${random.bytes(4).toString('hex')}`;
    const [victim, ...attackers] = await cluster.sessions(kinds.length + 1, prefix);
    for (const [i, [kind, prepare]] of kinds.entries()) {
      const attacker = attackers[i];
      if (!attacker || !victim) throw new Error('people are missing');
      const field = { cluster, redis, random, attacker, victim };
      const { cookie, expected } = await prepare(field);
      tally.tried++;
      if (isSame(await see(cluster, cookie), expected)) continue;
      tally.accepted++;
      tally.byKind[kind] = (tally.byKind[kind] ?? 0) + 1;
    }
    onProgress(tally.tried);
  }
  return tally;
}

const isSame = (seen: Seen, expected: Seen): boolean =>
  JSON.stringify(seen) === JSON.stringify(expected);

function redisOf({ redis }: Cluster): TestRedis {
  if (!redis) throw new Error('there is no Redis');
  return redis;
}

/**
 * An entry from before the end of its session, put back again and again: nobody may answer it, one
 * that starts later neither.
 */
async function replayed(cluster: Cluster): Promise<number> {
  const redis = redisOf(cluster);
  const session = await cluster.session('replayed');
  const entry = await entryOf(redis, session);
  await see(cluster, session.cookie);
  const { status } = await cluster.ask(0, '/auth/logout', { ...session, method: 'POST' });
  if (status !== 200) throw new Error(`the logout was answered with ${status}`);
  await until(async () => (await see(cluster, session.cookie)).status === 401, {
    timeoutMs: 2_000,
    what: 'the end being heard',
  });
  let answered = 0;
  const tryEverywhere = async (): Promise<void> => {
    for (const gateway of cluster.gateways.keys()) {
      await redis.command('SET', keyOfCookie(valueOf(session)), entry, 'PX', 60_000);
      if ((await see(cluster, session.cookie, gateway)).status !== 401) answered++;
    }
  };
  for (let i = 0; i < 10; i++) await tryEverywhere();
  await cluster.restartGateway(ASKED);
  await tryEverywhere();
  return answered;
}

/** Logins that a forged counter without an end holds up. */
async function heldUp(cluster: Cluster): Promise<number> {
  const redis = redisOf(cluster);
  let refused = 0;
  for (const name of ['login', 'callback', 'logout-token'])
    await redis.command('SET', `limit:${name}:127.0.0.1`, '999999999');
  for (const path of ['/auth/login', '/auth/callback?code=x&state=y']) {
    const headers = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
    const { status } = await cluster.ask(ASKED, path, { headers });
    if (status === 429) refused++;
  }
  return refused;
}

/** What a writer of PostgreSQL gets, against what SECURITY.md says. */
async function rowsSwapped(cluster: Cluster): Promise<Record<string, string>> {
  const unlike: Record<string, string> = {};
  for (const [what, { write, undo, expected }] of Object.entries(POSTGRES_WRITES)) {
    const [a, b] = [await cluster.session('ann'), await cluster.session('ben')];
    await write(cluster, a, b);
    // No copy is asked: what is in PostgreSQL is what is looked at.
    await redisOf(cluster).flush();
    const { subject } = await see(cluster, a.cookie);
    const people: Record<string, string> = { [a.subject]: 'own', [b.subject]: "the other's" };
    const upstream = await cluster.ask(ASKED, '/api/x', a);
    const sent =
      upstream.status === 200
        ? (JSON.parse(upstream.text) as { claims: { sub: string } }).claims.sub
        : undefined;
    const roles = (await see(cluster, a.cookie)).roles?.includes('realm:session-admin') ?? false;
    const seen = [
      `identity: ${people[subject ?? ''] ?? 'none'}`,
      `token: ${sent === undefined ? (upstream.code ?? upstream.status) : people[sent]}`,
      ...(roles ? ['roles: as written'] : []),
    ].join(', ');
    if (seen !== expected) unlike[what] = `${seen} instead of ${expected}`;
    await undo?.(cluster, a, b);
  }
  return unlike;
}

await runGoal('B10', async ({ random, full, progress }) => {
  const cluster = await startCluster({ gateways: 2, redis: true });
  try {
    const rounds = full ? FULL_ROUNDS : CI_ROUNDS;
    const redis = await attack(cluster, random, rounds, (tried) =>
      progress(() => `${tried} attacks on Redis`),
    );
    const loginsHeldUp = await heldUp(cluster);
    const unlikeSecurityMd = await rowsSwapped(cluster);
    const replays = await replayed(cluster);
    await cluster.restartAll({ entry: await variant('believesRedis') });
    const bad = await attack(cluster, random, 1, () => undefined);
    return {
      passed:
        redis.accepted === 0 &&
        replays === 0 &&
        loginsHeldUp === 0 &&
        Object.keys(unlikeSecurityMd).length === 0 &&
        FORGERIES.every((kind) => bad.byKind[kind] === 1),
      ...redis,
      replays,
      loginsHeldUp,
      postgresWrites: Object.keys(POSTGRES_WRITES).length,
      unlikeSecurityMd,
      control: bad.accepted,
      controls: { believesRedis: bad.byKind },
    };
  } finally {
    await cluster.dispose();
  }
});
