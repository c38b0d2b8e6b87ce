import { createCipheriv, createHash, randomBytes, scryptSync } from 'node:crypto';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { createKeyring, TokenEncryption } from '@session-gateway/keycloak-auth';
import {
  type Cluster,
  type ClusterSession,
  type Counts,
  KEY_TEXT,
  startCluster,
  startVault,
  storm,
  type TestGateway,
  until,
} from '@session-gateway/testkit';

const keyOf = (seed: string): string => createHash('sha256').update(seed).digest('base64url');
/** Key ids, the primary first; the key of `a!` is not a's. */
function keyring(...kids: string[]): string {
  const keys = kids.map((kid) => ({ kid: kid.replace('!', ''), key: keyOf(kid) }));
  return JSON.stringify({ primary: keys[0]?.kid, keys });
}

let cluster: Cluster;
let folder: string;
let file: string;
beforeAll(async () => {
  cluster = await startCluster({ redis: false, start: false });
  folder = await mkdtemp(join(tmpdir(), 'keys-'));
  file = join(folder, 'keyring.json');
});
afterAll(async () => {
  await cluster?.dispose();
  await rm(folder, { recursive: true });
});
afterEach(async () => {
  await Promise.all(cluster.gateways.splice(0).map((gateway) => gateway.kill()));
  await cluster.sql('TRUNCATE users, user_sessions, token_keys, gateway_instances CASCADE');
});

/** As a secret that is mounted, or a program that is careful, replaces a file. */
async function give(content: string, path = file): Promise<void> {
  await writeFile(`${path}.new`, content);
  await rename(`${path}.new`, path);
}
const withFile = (
  more: Record<string, string | undefined> = {},
): Record<string, string | undefined> => ({
  SESSION_TOKEN_ENCRYPTION_KEY: undefined,
  SESSION_TOKEN_KEYRING_FILE: file,
  ...more,
});

async function refusedStart(env: Record<string, string | undefined>): Promise<string[]> {
  const gateway = await cluster.startGateway(withFile(env), false);
  cluster.gateways.pop();
  expect(await gateway.exited).toBe(78);
  expect(gateway.output()).not.toMatch(/^\s+at /m);
  for (const seed of ['a', 'b', 'a!']) expect(gateway.output()).not.toContain(keyOf(seed));
  const [first, ...lines] = gateway.stderr().trim().split('\n');
  expect(first).toBe('session-gateway: the configuration is not usable:');
  return lines;
}

async function metric(gateway: TestGateway, name: string, labels: string): Promise<number> {
  const text = await (await fetch(`${gateway.managementUrl}/metrics`)).text();
  return Number(
    new RegExp(`^session_gateway_${name}_total\\{${labels}\\} (\\d+)$`, 'm').exec(text)?.[1] ?? 0,
  );
}
const reloads = (gateway: TestGateway, outcome: string): Promise<number> =>
  metric(gateway, 'keyring_reloads', `outcome="${outcome}"`);
const reloaded = (gateway: TestGateway, outcome: string, times: number): Promise<true> =>
  until(async () => (await reloads(gateway, outcome)) >= times, {
    timeoutMs: 20_000,
    what: `${times} keyrings ${outcome}`,
  });

const kidOf = async ({ id }: ClusterSession): Promise<string | undefined> =>
  (
    await cluster.sql<{ value: string }>(
      'SELECT access_token AS value FROM user_sessions WHERE id = $1',
      [id],
    )
  )[0]?.value.split('.')[1];

/** Requests and refreshes without a pause, until they are stopped; what became of them. */
function load(sessions: readonly ClusterSession[]): { stop(): Promise<Counts> } {
  let stopped = false;
  const counts: Counts = {};
  const running = storm(6, async (worker) => {
    for (let i = 0; !stopped; i++) {
      const { cookie } = sessions[(worker + i) % sessions.length] ?? { cookie: '' };
      const answer = await (i % 5 === 0
        ? cluster.ask(i, '/auth/refresh?force=true', { cookie, method: 'POST' })
        : cluster.ask(i, '/api/x', { cookie }));
      const outcome = answer.code ?? answer.status;
      counts[outcome] = (counts[outcome] ?? 0) + 1;
    }
    return 'stopped';
  });
  return {
    async stop() {
      stopped = true;
      expect(await running).toEqual({ stopped: 6 });
      return counts;
    },
  };
}

describe('a keyring that is replaced', () => {
  test('takes effect in every gateway without a restart and without one failed request', async () => {
    await give(keyring('a'));
    const gateways = [
      await cluster.startGateway(withFile()),
      await cluster.startGateway(withFile()),
    ];
    const sessions = [
      await cluster.session(),
      await cluster.session(),
      await cluster.session(),
      await cluster.session(),
    ];
    const pids = gateways.map(({ pid }) => pid);
    const under = load(sessions);
    // The new key is known to all before it seals, then the old one is of use no more.
    for (const [round, content] of [keyring('a', 'b'), keyring('b', 'a')].entries()) {
      await give(content);
      for (const gateway of gateways) await reloaded(gateway, 'replaced', round + 1);
    }
    for (const session of sessions)
      await until(async () => (await kidOf(session)) === 'b', {
        what: 'a refresh under the new key',
      });
    // A while later: what was under way is stored by then.
    await until(
      async () =>
        (await cluster.sql(`SELECT 1 FROM gateway_instances WHERE primary_kid = 'b'`)).length === 2,
      { timeoutMs: 20_000, what: 'the word that nothing is sealed under the old key any more' },
    );
    const counts = await under.stop();
    expect(Object.keys(counts)).toEqual(['200']);
    expect(counts['200']).toBeGreaterThan(50);
    expect(cluster.gateways.map(({ pid }) => pid)).toEqual(pids);
    const seals = await Promise.all(
      gateways.map((gateway) => metric(gateway, 'key_uses', 'kid="b",operation="seal"')),
    );
    expect(Math.max(...seals)).toBeGreaterThan(0);
    for (const gateway of gateways) {
      expect([await reloads(gateway, 'refused'), gateway.output().includes(keyOf('b'))]).toEqual([
        0,
        false,
      ]);
    }
  });

  test('is read at SIGHUP at once, whether or not the file looks changed', async () => {
    await give(keyring('a'));
    const gateway = await cluster.startGateway(withFile());
    gateway.signal('SIGHUP');
    await reloaded(gateway, 'replaced', 1);
    await gateway.said('the keyring has been read anew');
    expect((await cluster.session()).id).not.toBe('');
  });

  test('by one that is not usable is refused and told, and the one before stays, until a usable one comes', async () => {
    await give(keyring('a'));
    const gateway = await cluster.startGateway(withFile());
    const session = await cluster.session();
    const unusable: [string, string][] = [
      ['', 'SESSION_TOKEN_KEYRING_FILE names an empty file'],
      [keyring('a').slice(0, -5), 'SESSION_TOKEN_KEYRING: it is not valid JSON'],
      [keyring('b', 'a!'), 'the key a is another key than the one that this database knows'],
      [keyring('b'), 'the key a is missing, and 3 values are sealed under it'],
    ];
    for (const [index, [content, problem]] of unusable.entries()) {
      await give(content);
      await reloaded(gateway, 'refused', index + 1);
      const last = (): string | undefined =>
        gateway
          .stdout()
          .split('\n')
          .filter((line) =>
            line.includes('the new keyring is not usable; the one before stays in use'),
          )
          .at(-1);
      await until(() => last()?.includes(problem) ?? false, { what: `the log saying ${problem}` });
      expect(
        (
          await cluster.ask(0, '/auth/refresh?force=true', {
            cookie: session.cookie,
            method: 'POST',
          })
        ).status,
      ).toBe(200);
      expect(await kidOf(session)).toBe('a');
    }
    await rm(file);
    await reloaded(gateway, 'refused', unusable.length + 1);
    await give(keyring('b', 'a'));
    await reloaded(gateway, 'replaced', 1);
    expect(
      (await cluster.ask(0, '/auth/refresh?force=true', { cookie: session.cookie, method: 'POST' }))
        .status,
    ).toBe(200);
    expect(await kidOf(session)).toBe('b');
  });

  test('is looked for when the fleet turns out to have gone on without this gateway', async () => {
    await give(keyring('a'));
    const gateway = await cluster.startGateway(withFile());
    const fingerprint = createKeyring({ keyringJson: keyring('b') }).fingerprint('b');
    const canary = new TokenEncryption({
      keyring: createKeyring({ keyringJson: keyring('b') }),
    }).seal('session-gateway canary', { table: 'token_keys', column: 'canary', rowId: 'b' });
    await cluster.sql(
      'INSERT INTO token_keys (kid, fingerprint, canary, promoted_at) VALUES ($1, $2, $3, now())',
      ['b', fingerprint, canary],
    );
    await reloaded(gateway, 'refused', 1);
    await gateway.said(
      'the key b, which gateways were told to seal under, is missing: take the newest keyring',
    );
    await give(keyring('b', 'a'));
    await reloaded(gateway, 'replaced', 1);
  });

  test('while PostgreSQL is away is taken once it is back', async () => {
    await give(keyring('a'));
    const gateway = await cluster.startGateway(withFile());
    await cluster.postgres.stop();
    await give(keyring('b', 'a'));
    await reloaded(gateway, 'postponed', 1);
    await cluster.postgres.start();
    await reloaded(gateway, 'replaced', 1);
    expect(await kidOf(await cluster.session())).toBe('b');
  });
});

describe('a gateway refuses to start', () => {
  test('with another key under an id that the database knows, or without a key that values are sealed under', async () => {
    await give(keyring('a', 'b'));
    await cluster.startGateway(withFile());
    await cluster.session();
    await give(keyring('a!'));
    expect(await refusedStart({})).toEqual([
      expect.stringMatching(
        /^session-gateway: {3}SESSION_TOKEN_KEYRING or SESSION_TOKEN_ENCRYPTION_KEY: the key a is another key than the one that this database knows under that id/,
      ),
    ]);
    await give(keyring('b'));
    expect(await refusedStart({})).toEqual([
      expect.stringMatching(
        /^session-gateway: {3}SESSION_TOKEN_KEYRING or SESSION_TOKEN_ENCRYPTION_KEY: the key a is missing, and 3 values are sealed under it: add it/,
      ),
    ]);
  });

  test('with a keyring that lacks the key which the fleet was told to seal under', async () => {
    await give(keyring('a', 'b'));
    await cluster.startGateway(withFile());
    await cluster.sql(`UPDATE token_keys SET promoted_at = now() WHERE kid = 'b'`);
    await give(keyring('a'));
    expect(await refusedStart({})).toEqual([
      expect.stringContaining(
        'the key b, which gateways were told to seal under, is missing: take the newest keyring',
      ),
    ]);
  });

  test('when its key is promoted away, or retired, between its look at the list and its own report', async () => {
    await give(keyring('a', 'b'));
    const other = await cluster.startGateway(withFile());
    await cluster.sql(
      `CREATE FUNCTION meanwhile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE token_keys SET promoted_at = now() WHERE kid = 'b'; RETURN NEW; END $$`,
    );
    await cluster.sql(
      `CREATE TRIGGER meanwhile BEFORE INSERT ON gateway_instances FOR EACH ROW WHEN (NEW.primary_kid = 'a' AND NOT NEW.keys ? 'b') EXECUTE FUNCTION meanwhile()`,
    );
    await give(keyring('a'));
    expect(await refusedStart({})).toEqual([
      expect.stringContaining('the key b, which gateways were told to seal under, is missing'),
    ]);
    expect(await cluster.sql('SELECT 1 FROM gateway_instances')).toHaveLength(1);
    await cluster.sql('DROP FUNCTION meanwhile CASCADE');
    await other.kill();
  });

  test('with keys that are no secret', async () => {
    await give(
      JSON.stringify({
        primary: 'a',
        keys: [{ kid: 'a', key: Buffer.alloc(32, 7).toString('base64url') }],
      }),
    );
    expect(await refusedStart({ SESSION_TOKEN_ENCRYPTION_KEY: 'abab'.repeat(10) })).toEqual([
      expect.stringContaining('SESSION_TOKEN_ENCRYPTION_KEY: the key text is no secret'),
      expect.stringContaining('SESSION_TOKEN_KEYRING: the key of a is not random'),
    ]);
    await give(
      JSON.stringify({
        primary: 'k26a',
        keys: [{ kid: 'k26a', key: 'M3hHQoVJj5Z3RjfT8dUULDLz4iR9GosqZgbWSOD6K-w' }],
      }),
    );
    expect(await refusedStart({})).toEqual([
      expect.stringContaining('SESSION_TOKEN_KEYRING: the key k26a stands in public documentation'),
    ]);
  });

  test('as soon as PostgreSQL, which was away, says that its keys are wrong; it has sealed nothing until then', async () => {
    await give(keyring('a'));
    const right = await cluster.startGateway(withFile());
    await cluster.session();
    await right.kill();
    cluster.gateways.pop();
    await give(keyring('a!'));
    await cluster.postgres.stop();
    const gateway = await cluster.startGateway(withFile());
    expect((await fetch(`${gateway.url}/health/ready`)).status).toBe(503);
    await cluster.postgres.start();
    expect(await gateway.exited).toBe(78);
    expect(gateway.stderr()).toContain('the key a is another key');
  });
});

describe('old formats', () => {
  function planSeal(token: string): string {
    const iv = randomBytes(16);
    const cipher = createCipheriv(
      'aes-256-gcm',
      scryptSync(KEY_TEXT, 'session-tokens-salt', 32),
      iv,
    );
    const body = Buffer.concat([cipher.update(token), cipher.final()]).toString('hex');
    return `${iv.toString('hex')}:${cipher.getAuthTag().toString('hex')}:${body}`;
  }

  test('are read as TOKEN_READ_POLICY says, counted by class, and in the way of TOKEN_READ_POLICY=v2 until they are gone', async () => {
    const first = await cluster.startGateway();
    const session = await cluster.session();
    const ask = async () => {
      const { status, code } = await cluster.ask(0, '/api/x', { cookie: session.cookie });
      return code ?? status;
    };
    const write = (value: string) =>
      cluster.sql(
        'UPDATE user_sessions SET access_token = $2, version = version + 1 WHERE id = $1',
        [session.id, value],
      );
    const readsOf = (gateway: TestGateway, storedClass: string) =>
      metric(gateway, 'token_reads', `class="${storedClass}"`);
    const end = (gateway: TestGateway) => {
      cluster.gateways.pop();
      return gateway.stop();
    };
    expect(await ask()).toBe(200);
    expect(await readsOf(first, 'v2')).toBeGreaterThan(0);
    await end(first);

    await write('a-plaintext-token');
    const reader = await cluster.startGateway({ TOKEN_READ_POLICY: 'all' });
    expect(await ask()).toBe(200);
    expect([await readsOf(reader, 'plain'), await readsOf(reader, 'v2')]).toEqual([1, 0]);
    await end(reader);
    expect(
      await refusedStart({
        SESSION_TOKEN_ENCRYPTION_KEY: KEY_TEXT,
        SESSION_TOKEN_KEYRING_FILE: undefined,
        TOKEN_READ_POLICY: 'v2',
      }),
    ).toEqual([
      expect.stringContaining(
        'TOKEN_READ_POLICY is v2, but live sessions hold 0 values of the older format and 1 in plaintext',
      ),
    ]);

    const usual = await cluster.startGateway();
    await usual.said(
      '1 values of live sessions are in plaintext, which TOKEN_READ_POLICY=v2+plan refuses to read',
    );
    expect(await ask()).toBe('token_unreadable');
    expect(await metric(usual, 'token_unreadable', 'reason="refused_by_policy"')).toBe(1);
    await end(usual);

    await write(planSeal('a-token-of-the-older-format'));
    const plan = await cluster.startGateway();
    expect(await ask()).toBe(200);
    expect(await readsOf(plan, 'plan')).toBe(1);
    expect(cluster.upstream.requests.at(-1)?.bearer).toBe('a-token-of-the-older-format');
    await give(keyring('k26a', 'a'));
    expect(await refusedStart({})).toEqual([
      expect.stringContaining('the key k1 is missing'),
      expect.stringContaining(
        'SESSION_TOKEN_ENCRYPTION_KEY must be set: 1 values of live sessions have the older format',
      ),
    ]);

    expect(
      (await cluster.ask(0, '/auth/refresh?force=true', { cookie: session.cookie, method: 'POST' }))
        .status,
    ).toBe(200);
    await end(plan);
    const strict = await cluster.startGateway({ TOKEN_READ_POLICY: 'v2' });
    expect(await ask()).toBe(200);
    expect(await readsOf(strict, 'v2')).toBeGreaterThan(0);
    await end(strict);
    const lax = await cluster.startGateway({ TOKEN_READ_POLICY: 'all' });
    await lax.said(
      'TOKEN_READ_POLICY=all takes any text in a token column for a token, and no live session needs that',
    );
  });
});

describe('a keyring that Vault wraps', () => {
  test('is waited for at the start, kept through an outage, and opens again under a new outer key without one row being touched', async () => {
    const vault = await startVault();
    const env = withFile({
      VAULT_ADDR: vault.url,
      VAULT_TOKEN: vault.token,
      VAULT_TRANSIT_KEY: vault.key,
    });
    const wrap = async (json: string): Promise<string> => {
      const answer = await fetch(`${vault.url}/v1/transit/encrypt/${vault.key}`, {
        method: 'POST',
        headers: { 'x-vault-token': vault.token, 'x-vault-request': 'true' },
        body: JSON.stringify({ plaintext: Buffer.from(json).toString('base64') }),
      });
      return ((await answer.json()) as { data: { ciphertext: string } }).data.ciphertext;
    };
    await give(await wrap(keyring('a')));
    await vault.stop();
    const starting = await cluster.startGateway(env, false);
    await until(
      () =>
        starting
          .stderr()
          .includes('session-gateway: Vault cannot be reached (VAULT_ADDR); trying again'),
      { timeoutMs: 20_000, what: 'the news that Vault is away' },
    );
    await vault.start();
    await until(async () => (await fetch(`${starting.url}/health/ready`)).ok, {
      timeoutMs: 30_000,
      what: 'the gateway being ready',
    });
    const session = await cluster.session();
    const rows = () =>
      cluster.sql('SELECT xmin::text, access_token, refresh_token, id_token FROM user_sessions');
    const before = await rows();

    vault.seal();
    await give(await wrap('{}').catch(() => 'vault:v1:AAAA'));
    await reloaded(starting, 'postponed', 1);
    expect((await cluster.ask(0, '/api/x', { cookie: session.cookie })).status).toBe(200);
    vault.unseal();
    vault.rotate();
    await reloaded(starting, 'refused', 1);
    await give(await wrap(keyring('a')));
    await reloaded(starting, 'replaced', 1);
    vault.forbidOldVersions();
    starting.signal('SIGHUP');
    await reloaded(starting, 'replaced', 2);
    expect((await cluster.ask(0, '/api/x', { cookie: session.cookie })).status).toBe(200);
    expect(await rows()).toEqual(before);
    expect(starting.output()).not.toContain(vault.token);

    await give('vault:v2:AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHHIIIIJJJJKKKK');
    expect(await refusedStart(env)).toEqual([
      expect.stringContaining(
        'Vault refuses to decrypt the keyring (VAULT_TRANSIT_KEY): it answered 400',
      ),
    ]);
    await give(await wrap(keyring('a')));
    expect(await refusedStart({ ...env, VAULT_TOKEN: 'hvs.nobody' })).toEqual([
      expect.stringContaining('VAULT_TOKEN may not decrypt'),
    ]);
    await vault.dispose();
  });
});
