import { spawn } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import {
  type Cluster,
  type ClusterSession,
  KEY_TEXT,
  startCluster,
  startVault,
  until,
  type Vault,
} from '@session-gateway/testkit';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** No token is due while gateways are restarted: one that is killed in a refresh loses its session, runbook or not. */
const OPTIONS = { redis: false, gateways: 2, provider: { accessTokenLifespanSeconds: 3_600 } };

let cluster: Cluster;
let vault: Vault;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'runbook-'));
  [cluster, vault] = await Promise.all([startCluster(OPTIONS), startVault()]);
});
afterAll(async () => {
  await Promise.all([cluster?.dispose(), vault?.dispose()]);
  await rm(folder, { recursive: true });
});

/** The commands of a document, by heading. */
async function commandsOf(name: string): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for (const section of (await readFile(join(ROOT, name), 'utf8')).split(/^## /m).slice(1)) {
    const lines = [...section.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block]) =>
      (block ?? '').trim().split('\n'),
    );
    if (lines.length > 0) found.set(section.split('\n')[0] ?? '', lines);
  }
  return found;
}

/** Programs that stand where the document's are: Nx costs seconds a call, and Vault's own is not here. */
async function programs(): Promise<string> {
  const bin = join(folder, 'bin');
  await mkdir(bin);
  await writeFile(
    join(bin, 'npx'),
    `#!/bin/sh\ncase "$1 $2 $3" in "nx run migrations:"*) ;; *) echo "not the command of the job: $*" >&2; exit 9 ;; esac\ncommand=\${3#migrations:}\nshift 4\nexec '${process.execPath}' '${ROOT}dist/tools/migrations/main.js' "$command" "$@"\n`,
  );
  await writeFile(
    join(bin, 'vault'),
    `#!${process.execPath}\nconst [, , write, force, path] = process.argv;\nfetch(process.env.VAULT_ADDR + '/v1/' + path, { method: write === 'write' && force === '-f' ? 'POST' : 'GET', headers: { 'x-vault-token': process.env.VAULT_TOKEN, 'x-vault-request': 'true' } }).then((answer) => { process.exitCode = answer.ok ? 0 : 1; });\n`,
  );
  for (const name of ['npx', 'vault']) await chmod(join(bin, name), 0o755);
  return bin;
}

test('the runbook of key rotation works as it stands, on gateways at work, and nobody is logged out', async () => {
  const file = join(folder, 'keyring.json');
  const path = `${await programs()}:${process.env['PATH'] ?? ''}`;
  const sessions: ClusterSession[] = [
    await cluster.session('anna'),
    await cluster.session('ben'),
    await cluster.session('cleo'),
  ];
  const env: Record<string, string> = {
    PATH: path,
    DATABASE_URL: cluster.databaseUrl,
    SESSION_TOKEN_KEYRING_FILE: file,
    SESSION_TOKEN_ENCRYPTION_KEY: KEY_TEXT,
    ROW: sessions[0]?.id ?? '',
  };
  const shell = (command: string): Promise<{ code: number | null; output: string }> =>
    new Promise((resolve) => {
      const child = spawn('sh', ['-euc', command], { env, stdio: ['ignore', 'pipe', 'pipe'] });
      let output = '';
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text: string) => {
          output += text;
        });
      child.once('close', (code) => resolve({ code, output }));
    });
  let last = { code: null as number | null, output: '' };
  const run = async (command: string): Promise<void> => {
    // As the person who follows it: what gateways do not know yet is tried again a little later.
    await until(async () => (last = await shell(command)).code === 0, {
      timeoutMs: 40_000,
      everyMs: 1_000,
      what: command,
    }).catch((error: unknown) => {
      throw new Error(last.output, { cause: error });
    });
  };
  const serve = async (): Promise<void> => {
    for (const session of sessions)
      for (const gateway of cluster.gateways.keys())
        expect((await cluster.ask(gateway, '/api/x', { cookie: session.cookie })).status).toBe(200);
  };
  const done: string[] = [];
  const commands = await commandsOf('docs/operate/rotate-encryption-key.md');
  const follow = async (heading: string): Promise<void> => {
    for (const command of commands.get(heading) ?? []) {
      await run(command);
      await serve();
    }
    done.push(heading);
  };

  await follow('From a key text to a keyring, once');
  for (const index of [0, 1])
    await cluster.restartGateway(index, { env: { SESSION_TOKEN_KEYRING_FILE: file } });
  await serve();
  await follow('Rotate');
  expect(last.output).toMatch(/^k26a is retired/);
  expect(
    (JSON.parse(await readFile(file, 'utf8')) as { keys: { kid: string }[] }).keys.map(
      ({ kid }) => kid,
    ),
  ).toEqual(['k26b']);
  expect(
    await cluster.sql<{ kid: string }>(
      `SELECT DISTINCT split_part(access_token, '.', 2) AS kid FROM user_sessions`,
    ),
  ).toEqual([{ kid: 'k26b' }]);
  await follow('A value does not open');
  expect(last.output).toContain('opens    yes');

  Object.assign(env, {
    VAULT_ADDR: vault.url,
    VAULT_TOKEN: vault.token,
    VAULT_TRANSIT_KEY: vault.key,
  });
  await follow('Vault around the keyring');
  expect(await readFile(file, 'utf8')).toMatch(/^vault:v2:/);
  await cluster.restartGateway(0, {
    env: {
      SESSION_TOKEN_KEYRING_FILE: file,
      VAULT_ADDR: vault.url,
      VAULT_TOKEN: vault.token,
      VAULT_TRANSIT_KEY: vault.key,
    },
  });
  await serve();
  expect(done.sort()).toEqual([...commands.keys()].sort());
}, 300_000);
