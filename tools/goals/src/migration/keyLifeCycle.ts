import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { findPrismaDir, migrate, openDatabase } from '@session-gateway/database';
import {
  ConfigError,
  confirmKeys,
  createKeyring,
  type Keyring,
  TokenEncryption,
} from '@session-gateway/keycloak-auth';
import {
  type Cluster,
  type ClusterSession,
  startCluster,
  startPostgres,
  type TestGateway,
  until,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import type { Random } from '../harness/random.js';

const COLUMNS = ['access_token', 'refresh_token', 'id_token'] as const;
const V2 = /^v2\.([a-z0-9]{1,16})\.[A-Za-z0-9_-]{54,}$/;

interface Document {
  primary: string;
  keys: { kid: string; key: string; status?: string }[];
}

await runGoal('F11', async ({ random, full, progress }) => {
  const keyText = random.text(48);
  const matrix = await pairs(random, full ? 20 : 3, progress);
  const life = await lifeCycles({ random, keyText, rounds: full ? 10 : 1, progress });
  const passed =
    matrix.wrong.length === 0 && life.wrong.length === 0 && matrix.control > 0 && life.control > 0;
  const wrong = [...matrix.wrong, ...life.wrong];
  return {
    passed,
    pairs: matrix.pairs,
    started: matrix.started,
    refused: matrix.refused,
    valuesOpened: matrix.opened,
    rotations: life.rotations,
    steps: life.steps,
    refusals: life.refusals,
    requests: life.requests,
    valuesChecked: life.values,
    controls: {
      'started without the check': matrix.control,
      'promoted before all know': life.control,
    },
    ...(wrong.length > 0 ? { wrong: wrong.slice(0, 10) } : {}),
  };
});

/**
 * Every key set after every other one on one database: what one process has sealed, the next one opens, or it refuses
 * to start. Who must refuse is worked out from the bytes of the keys alone.
 */
async function pairs(random: Random, rows: number, progress: (line: () => string) => void) {
  const [textA, textB] = [random.text(40), random.text(40)];
  const [k1, k2, otherK2, k3] = [
    random.bytes(32),
    random.bytes(32),
    random.bytes(32),
    random.bytes(32),
  ];
  const ring = (primary: string, keys: Record<string, Buffer>, keyText?: string): Keyring =>
    createKeyring({
      keyText,
      keyringJson: JSON.stringify({
        primary,
        keys: Object.entries(keys).map(([kid, key]) => ({ kid, key: key.toString('base64url') })),
      }),
    });
  const sets: Record<string, Keyring> = {
    'key text': createKeyring({ keyText: textA }),
    'another key text': createKeyring({ keyText: textB }),
    k1: ring('k1', { k1 }),
    'k1, k2 waits': ring('k1', { k1, k2 }),
    'k2, k1 opens': ring('k2', { k2, k1 }),
    k2: ring('k2', { k2 }, textA),
    'another k2, k1 opens': ring('k2', { k2: otherK2, k1 }),
    k3: ring('k3', { k3 }),
  };
  const postgres = await startPostgres();
  const url = await postgres.createDatabase();
  await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
  const db = openDatabase({ url });
  const tally = { pairs: 0, started: 0, refused: 0, opened: 0, control: 0, wrong: [] as string[] };
  const opensAll = (
    keyring: Keyring,
    stored: readonly { id: string; access_token: string }[],
  ): number => {
    const encryption = new TokenEncryption({ keyring });
    return stored.filter(
      ({ id, access_token: value }) =>
        attempt(() =>
          encryption.open(value, { table: 'user_sessions', column: 'access_token', rowId: id }),
        ) === `token of ${id}`,
    ).length;
  };
  const changes = Object.entries(sets).flatMap(([firstName, first]) =>
    Object.entries(sets).map(([secondName, second]) => ({
      pair: `${secondName} after ${firstName}`,
      first,
      second,
    })),
  );
  try {
    for (const { pair, first, second } of changes) {
      tally.pairs++;
      await db.sql.query('TRUNCATE users, user_sessions, token_keys CASCADE');
      await db.sql.query(`INSERT INTO users (id, keycloak_id) VALUES ('u', 'u')`);
      await confirmKeys(db, first, 'v2+plan');
      const ids = Array.from({ length: rows }, (_, row) => `row-${row}`);
      const sealed = ids.map((id) =>
        new TokenEncryption({ keyring: first }).seal(`token of ${id}`, {
          table: 'user_sessions',
          column: 'access_token',
          rowId: id,
        }),
      );
      await db.sql.query(
        `INSERT INTO user_sessions (id, user_id, expires_at, access_token) SELECT id, 'u', now() + interval '1 hour', value FROM unnest($1::text[], $2::text[]) AS t(id, value)`,
        [ids, sealed],
      );
      const stored = await db.sql.query<{ id: string; access_token: string }>(
        'SELECT id, access_token FROM user_sessions',
      );
      const mustRefuse =
        second.fingerprint(first.primary) !== first.fingerprint(first.primary) ||
        second.kids.some(
          (kid) => first.kids.includes(kid) && first.fingerprint(kid) !== second.fingerprint(kid),
        );
      const problems = await confirmKeys(db, second, 'v2+plan').then(
        () => [],
        (error: unknown) => {
          if (!(error instanceof ConfigError)) throw error;
          return error.problems;
        },
      );
      if (problems.length > 0 !== mustRefuse)
        tally.wrong.push(`${pair}: ${mustRefuse ? 'started' : `refused: ${problems.join('; ')}`}`);
      if (problems.some((problem) => !/SESSION_TOKEN_(KEYRING|ENCRYPTION_KEY)/.test(problem)))
        tally.wrong.push(`${pair}: a problem names no variable`);
      const opened = opensAll(second, stored);
      if (problems.length > 0) {
        tally.refused++;
        // The same harness on a fleet that starts whoever comes.
        tally.control += stored.length - opened;
      } else {
        tally.started++;
        tally.opened += opened;
      }
      if (problems.length === 0 && opened !== stored.length)
        tally.wrong.push(`${pair}: ${stored.length - opened} values do not open`);
      progress(() => `${tally.pairs} pairs of key sets, ${tally.refused} refused`);
    }
  } finally {
    await db.close();
    await postgres.dispose();
  }
  return tally;
}

/** Rotations of a fleet of two built gateways by the built commands, with every wrong step tried on the way. */
async function lifeCycles({
  random,
  keyText,
  rounds,
  progress,
}: {
  random: Random;
  keyText: string;
  rounds: number;
  progress: (line: () => string) => void;
}) {
  const tally = {
    rotations: 0,
    steps: 0,
    refusals: 0,
    requests: 0,
    values: 0,
    control: 0,
    wrong: [] as string[],
  };
  const folder = await mkdtemp(join(tmpdir(), 'F11-'));
  const files = [join(folder, 'new.json'), join(folder, 'old.json')] as const;
  const cluster = await startCluster({
    redis: false,
    start: false,
    gateways: 2,
    env: { SESSION_TOKEN_ENCRYPTION_KEY: keyText },
  });
  const judge = (what: string, right: boolean): void => {
    tally.steps++;
    if (!right) tally.wrong.push(what);
  };
  const keys = async (...args: string[]): Promise<Ran> =>
    program(['keys', ...args], {
      DATABASE_URL: cluster.databaseUrl,
      SESSION_TOKEN_ENCRYPTION_KEY: keyText,
      SESSION_TOKEN_KEYRING_FILE: files[0],
    });
  const refused = async (what: string, message: RegExp, ...args: string[]): Promise<void> => {
    const before = await readFile(files[0], 'utf8');
    const { code, text } = await keys(...args);
    tally.refusals++;
    judge(
      `${what}: exit ${code}: ${text}`,
      code === 1 && message.test(text) && (await readFile(files[0], 'utf8')) === before,
    );
  };
  const startRefused = async (what: string, message: RegExp, document: Document): Promise<void> => {
    const file = join(folder, 'wrong.json');
    await writeFile(file, JSON.stringify(document));
    const gateway = await cluster.startGateway({ SESSION_TOKEN_KEYRING_FILE: file }, false);
    cluster.gateways.pop();
    const code = await within(gateway.exited, 30_000);
    if (code === undefined) await gateway.kill();
    tally.refusals++;
    judge(
      `${what}: exit ${code}: ${gateway.stderr()}`,
      code === 78 &&
        message.test(gateway.stderr()) &&
        /SESSION_TOKEN_KEYRING/.test(gateway.stderr()),
    );
  };
  const check = async (when: string, sessions: ClusterSession[]): Promise<void> => {
    // One that no gateway remembers anything of: what the first seals, the others read from the row.
    sessions.push(await cluster.session(`person${sessions.length}`));
    const unserved = await serve(cluster, sessions, tally);
    const unopened = await unreadable(
      cluster,
      createKeyring({ keyringJson: JSON.stringify(everyKey) }),
      tally,
    );
    judge(
      `${when}: ${[...unserved, ...unopened].join(', ')}`,
      unserved.length + unopened.length === 0,
    );
  };
  /** All keys that there ever were, as the harness alone keeps them. */
  const everyKey: Document = { primary: '', keys: [] };
  const remember = (document: Document): void => {
    for (const { kid, key } of document.keys)
      if (!everyKey.keys.some((known) => known.kid === kid)) everyKey.keys.push({ kid, key });
    everyKey.primary = document.primary;
  };
  const read = async (): Promise<Document> =>
    JSON.parse(await readFile(files[0], 'utf8')) as Document;

  try {
    // Two instances from before there were keyrings.
    await cluster.startGateway();
    await cluster.startGateway();
    const sessions: ClusterSession[] = [];
    for (let i = 0; i < 3 + random.below(3); i++)
      sessions.push(await cluster.session(`person${i}`));
    judge('generate', (await keys('generate', '--out', files[0])).code === 0);
    let document = await read();
    remember(document);
    await check('with the key text alone', sessions);
    await replaceGateway(cluster, 0, files[0]);
    await check('one instance with a keyring beside one without', sessions);

    for (let round = 0; round < rounds; round++) {
      const old = document.primary;
      if (round > 0) {
        judge('add', (await keys('add')).code === 0);
        document = await read();
        remember(document);
        await reloaded(cluster, 0, document);
      }
      const next =
        document.keys.find(({ kid, status }) => kid !== old && status !== 'decrypt-only')?.kid ??
        '';
      await refused(
        `promote ${next}, which one gateway does not know`,
        /1 of 2 live gateways do not know/,
        'promote',
        next,
      );
      await refused(`retire ${old}, the primary`, /is the primary key/, 'retire', old);

      if (round === 0)
        tally.control += await promotedTooEarly(cluster, files, document, next, sessions, tally);
      else {
        await give(files[1], document);
        await reloaded(cluster, 1, document);
      }
      await check(`${next} waits everywhere`, sessions);

      judge(`promote ${next}`, (await settled(() => keys('promote', next))).code === 0);
      document = await read();
      const stale = {
        primary: old,
        keys: document.keys.filter(({ kid }) => kid !== next).map(({ kid, key }) => ({ kid, key })),
      };
      await startRefused(
        `a start without ${next}, before anything is sealed under it`,
        new RegExp(`the key ${next}, which gateways were told to seal under, is missing`),
        stale,
      );
      await reloaded(cluster, 0, document);
      await give(files[1], document);
      await reloaded(cluster, 1, document);
      const everyOther = [...sessions.entries()].filter(([index]) => index % 2 === 0);
      for (const [index, session] of everyOther) await refresh(cluster, index, session);
      await check(`${next} seals`, sessions);
      await settled(async () =>
        (await keys('retire', old)).text.includes('still seal')
          ? { code: 1, text: '' }
          : { code: 0, text: '' },
      );
      await refused(
        `retire ${old}, which holds values`,
        /values are still sealed under/,
        'retire',
        old,
      );
      await startRefused(
        `a start without ${old}, which holds values`,
        new RegExp(`the key ${old} is missing, and \\d+ values are sealed under it`),
        { primary: next, keys: document.keys.filter(({ kid }) => kid === next) },
      );
      await startRefused(
        `a start with another key under ${next}`,
        new RegExp(`the key ${next} is another key`),
        {
          primary: next,
          keys: document.keys.map((key) =>
            key.kid === next ? { kid: next, key: random.bytes(32).toString('base64url') } : key,
          ),
        },
      );

      for (const flag of ['--execute', '--verify']) {
        judge(
          `encrypt-tokens ${flag}`,
          (
            await program(['encrypt-tokens', flag], {
              DATABASE_URL: cluster.databaseUrl,
              SESSION_TOKEN_KEYRING_FILE: files[0],
              SESSION_TOKEN_ENCRYPTION_KEY: keyText,
            })
          ).code === 0,
        );
      }
      judge(`retire ${old}`, (await keys('retire', old)).code === 0);
      document = await read();
      judge(
        `${old} is out of the keyring`,
        document.keys.every(({ kid }) => kid !== old),
      );
      await reloaded(cluster, 0, document);
      await give(files[1], document);
      await reloaded(cluster, 1, document);
      await check(`${old} is retired`, sessions);
      tally.rotations++;
      progress(
        () =>
          `${tally.rotations} rotations, ${tally.refusals} refusals, ${tally.requests} requests`,
      );
    }
  } finally {
    await cluster.dispose();
    await rm(folder, { recursive: true });
  }
  return tally;
}

/**
 * The known-bad fleet: somebody edits the one keyring by hand before the other gateway has the key. The same check must
 * find sessions that the other one cannot serve; and once it has the key, that nothing was lost. How many it found.
 */
async function promotedTooEarly(
  cluster: Cluster,
  files: readonly [string, string],
  document: Document,
  kid: string,
  sessions: ClusterSession[],
  tally: { requests: number; wrong: string[] },
): Promise<number> {
  await give(files[0], { ...document, primary: kid });
  await reloaded(cluster, 0, { ...document, primary: kid });
  sessions.push(await cluster.session('early'));
  const found = await serve(cluster, sessions, tally);
  if (found.some((what) => !what.includes('token_unreadable')))
    tally.wrong.push(`control: ${found.join(', ')}`);
  await give(files[0], document);
  await reloaded(cluster, 0, document);
  await give(files[1], document);
  await replaceGateway(cluster, 1, files[1]);
  return found.length;
}

/** A request for each session at each gateway; those that did not reach the API with their own person's token. */
async function serve(
  cluster: Cluster,
  sessions: readonly ClusterSession[],
  tally: { requests: number },
): Promise<string[]> {
  const unserved: string[] = [];
  for (const gateway of cluster.gateways.keys()) {
    for (const session of sessions) {
      tally.requests++;
      const answer = await cluster.ask(gateway, '/api/x', { cookie: session.cookie });
      const subject =
        answer.status === 200
          ? (JSON.parse(answer.text) as { claims: { sub?: string } | null }).claims?.sub
          : undefined;
      if (subject !== session.subject)
        unserved.push(
          `gateway ${gateway} answers ${session.username} with ${answer.status} ${answer.code ?? ''}`,
        );
    }
  }
  return unserved;
}

/** Stored values that are in the clear or do not open in their place with the harness's own copy of the keys. */
async function unreadable(
  cluster: Cluster,
  keyring: Keyring,
  tally: { values: number },
): Promise<string[]> {
  const encryption = new TokenEncryption({ keyring, readPolicy: 'v2' });
  const rows = await cluster.sql<Record<'id' | (typeof COLUMNS)[number], string>>(
    `SELECT id, ${COLUMNS.join(', ')} FROM user_sessions`,
  );
  return rows.flatMap((row) =>
    COLUMNS.flatMap((column) => {
      tally.values++;
      const token = V2.test(row[column])
        ? attempt(() =>
            encryption.open(row[column], { table: 'user_sessions', column, rowId: row.id }),
          )
        : null;
      return token === null ? [`${column} of ${row.id} is lost or in the clear`] : [];
    }),
  );
}

async function refresh(
  cluster: Cluster,
  gateway: number,
  { cookie }: ClusterSession,
): Promise<void> {
  const { status, code } = await cluster.ask(gateway, '/auth/refresh?force=true', {
    cookie,
    method: 'POST',
  });
  if (status !== 200) throw new Error(`a refresh was answered with ${status} ${code ?? ''}`);
}

async function replaceGateway(cluster: Cluster, index: number, file: string): Promise<void> {
  // In order, so that it takes its name off the list of those at work.
  await cluster.gateways[index]?.stop();
  await cluster.restartGateway(index, { env: { SESSION_TOKEN_KEYRING_FILE: file } });
}

async function give(file: string, document: Document): Promise<void> {
  await writeFile(`${file}.new`, JSON.stringify(document));
  await rename(`${file}.new`, file);
}

/** Waits until a gateway says that it has this keyring: nobody restarts it, nobody signals it. */
async function reloaded(
  cluster: Cluster,
  index: number,
  { primary, keys }: Document,
): Promise<void> {
  const gateway = cluster.gateways[index] as TestGateway;
  await until(
    () => {
      const last = gateway
        .stdout()
        .split('\n')
        .filter((line) => line.includes('the keyring has been read anew'))
        .at(-1);
      if (last === undefined) return false;
      const told = JSON.parse(last) as { primary: string; kids: string[] };
      return told.primary === primary && told.kids.join() === keys.map(({ kid }) => kid).join();
    },
    {
      timeoutMs: 30_000,
      what: `gateway ${index} with ${primary} of ${keys.map(({ kid }) => kid).join()}`,
    },
  );
}

interface Ran {
  code: number | null;
  text: string;
}

function program(args: readonly string[], env: Record<string, string>): Promise<Ran> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      ['dist/tools/migrations/main.js', ...args],
      { env: { PATH: process.env['PATH'], ...env } },
      (_, stdout, stderr) => resolve({ code: child.exitCode, text: stdout + stderr }),
    );
  });
}

/** Again until it succeeds: what gateways report takes a few seconds. */
async function settled(step: () => Promise<Ran>): Promise<Ran> {
  let last: Ran = { code: null, text: '' };
  await until(async () => (last = await step()).code === 0, {
    timeoutMs: 30_000,
    everyMs: 500,
    what: 'a step that gateways object to',
  }).catch(() => undefined);
  return last;
}

async function within<Result>(promised: Promise<Result>, ms: number): Promise<Result | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms);
  });
  return Promise.race([promised, late]).finally(() => clearTimeout(timer));
}

function attempt(open: () => string): string | null {
  try {
    return open();
  } catch {
    return null;
  }
}
