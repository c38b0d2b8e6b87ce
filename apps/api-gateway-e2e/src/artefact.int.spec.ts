import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type TestGateway, until } from '@session-gateway/testkit';
import { type SessionBody, type Stack, startStack } from './stack.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const PACKAGE = join(ROOT, 'tools/package/package.mjs');
const DOCUMENT = join(ROOT, 'docs/operate/install.md');

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The commands of the document, by heading. */
async function documented(): Promise<Map<string, string[]>> {
  const sections = (await readFile(DOCUMENT, 'utf8')).split(/^## /m).slice(1);
  return new Map(
    sections.map((section) => [
      section.split('\n')[0] ?? '',
      [...section.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block]) =>
        (block ?? '').trim().split('\n'),
      ),
    ]),
  );
}

describe('the artefact, in a folder with nothing else', () => {
  let stack: Stack;
  let folder: string;
  let tarball: string;
  let commands: Map<string, string[]>;
  let gateway: TestGateway | undefined;
  const env: Record<string, string> = {};
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'artefact-'));
    [stack, commands] = await Promise.all([
      startStack({ redis: false, start: false, provider: { accessTokenLifespanSeconds: 300 } }),
      documented(),
    ]);
    execFileSync(process.execPath, [PACKAGE, join(folder, 'made')], { cwd: ROOT });
    tarball = (await readdir(join(folder, 'made'))).find((name) => name.endsWith('.gz')) ?? '';
    await symlink(join(folder, 'made', tarball), join(folder, tarball));
    Object.assign(env, {
      // No package runner, no project: Node, and the programs of the system.
      PATH: `${join(process.execPath, '..')}:/usr/bin:/bin`,
      DATABASE_URL: stack.databaseUrl,
      KEYCLOAK_ISSUER: stack.provider!.issuer,
      KEYCLOAK_CLIENT_ID: stack.provider!.clientId,
      KEYCLOAK_CLIENT_SECRET: stack.provider!.clientSecret,
      SESSION_TOKEN_KEYRING_FILE: join(folder, 'keyring.json'),
    });
  });
  afterAll(async () => {
    await stack?.dispose();
    await rm(folder, { recursive: true });
  });

  const shell = (command: string, more: Record<string, string> = {}): Promise<Outcome> =>
    new Promise((resolve) => {
      const child = spawn('sh', ['-euc', command], {
        cwd: folder,
        env: { ...env, ...more },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const said = { stdout: '', stderr: '' };
      for (const name of ['stdout', 'stderr'] as const)
        child[name].setEncoding('utf8').on('data', (text: string) => {
          said[name] += text;
        });
      child.once('close', (code) => resolve({ code, ...said }));
    });
  /** What the document says under a heading, each until it works: gateways need a moment to notice a key. */
  const follow = async (heading: string, more: Record<string, string> = {}): Promise<string[]> => {
    const said: string[] = [];
    for (const command of commands.get(heading) ?? []) {
      let last: Outcome | undefined;
      await until(async () => (last = await shell(command, more)).code === 0, {
        timeoutMs: 40_000,
        everyMs: 500,
        what: command,
      }).catch((cause: unknown) => {
        throw new Error(JSON.stringify(last), { cause });
      });
      said.push(last?.stdout ?? '');
    }
    expect(said).not.toEqual([]);
    return said;
  };

  test('is small, whole and the same each time it is made', async () => {
    await follow('Unpack');
    const unpacked = join(folder, 'session-gateway');
    const entries = await readdir(unpacked, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile());
    const sizes = await Promise.all(
      files.map(async ({ parentPath, name }) => (await stat(join(parentPath, name))).size),
    );
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(40_000_000);
    expect(entries.filter(({ name }) => name === 'node_modules' || /\.map$/.test(name))).toEqual(
      [],
    );
    // Libraries' assertions go through one module, which gives each a message: without one Node parses the program for it.
    const programs = files.filter(({ name }) => name.endsWith('.js'));
    const texts = await Promise.all(
      programs.map(({ parentPath, name }) => readFile(join(parentPath, name), 'utf8')),
    );
    expect(texts.flatMap((text) => text.match(/["'](node:)?assert["']/g) ?? [])).toEqual([
      '"node:assert"',
    ]);

    const { components } = JSON.parse(await readFile(join(unpacked, 'sbom.cdx.json'), 'utf8')) as {
      components: { name: string; version: string; licenses: unknown[] }[];
    };
    const notices = await readFile(join(unpacked, 'THIRD-PARTY-NOTICES.txt'), 'utf8');
    for (const { name, version, licenses } of components) {
      expect(licenses).toHaveLength(1);
      expect(notices).toContain(`\n${name} ${version} (`);
    }
    expect(components.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['@prisma/client', '@prisma/schema-engine-wasm', 'elysia', 'pg']),
    );

    expect(await readFile(join(unpacked, 'openapi.json'), 'utf8')).toBe(
      await readFile(join(ROOT, 'docs/integrate/openapi.json'), 'utf8'),
    );

    execFileSync(process.execPath, [PACKAGE, join(folder, 'again')], { cwd: ROOT });
    const [once, again] = await Promise.all(
      ['made', 'again'].map(async (made) =>
        createHash('sha256')
          .update(await readFile(join(folder, made, tarball)))
          .digest('hex'),
      ),
    );
    expect(again).toBe(once);
  });

  test.each([
    [
      'node session-gateway/main.js',
      78,
      'DATABASE_URL KEYCLOAK_ISSUER SESSION_TOKEN_ENCRYPTION_KEY',
    ],
    ['node session-gateway/main.js encrypt-tokens', 78, 'DATABASE_URL SESSION_TOKEN_KEYRING'],
    ['node session-gateway/main.js migrate', 78, 'DATABASE_URL'],
    ['node session-gateway/main.js sessions list', 78, 'DATABASE_URL'],
    ['node session-gateway/main.js session list', 2, 'session'],
    ['node session-gateway/main.js sessions end', 2, 'ids --sub --all'],
    ['node session-gateway/main.js sessions end --all --sub x', 2, 'one of them'],
    ['node session-gateway/main.js sessions events --since yesterday', 2, '--since'],
    ['node session-gateway/main.js serve --port 1', 2, '--port'],
  ])('has no embedded parts and no guesses: %s', async (command, code, words) => {
    const nothing = {
      DATABASE_URL: '',
      KEYCLOAK_ISSUER: '',
      KEYCLOAK_CLIENT_ID: '',
      KEYCLOAK_CLIENT_SECRET: '',
      SESSION_TOKEN_KEYRING_FILE: '',
    };
    const outcome = await shell(`exec ${command}`, nothing);
    expect({ ...outcome, stderr: '' }).toEqual({ code, stdout: '', stderr: '' });
    for (const word of words.split(' ')) expect(outcome.stderr).toContain(word);
  });

  test('migrates, serves, seals, rotates and ends sessions by the commands of its document', async () => {
    await follow('Make a key');
    await follow('Settings');
    await follow('Migrate');
    gateway = await stack.startGateway(
      {
        SESSION_TOKEN_ENCRYPTION_KEY: undefined,
        SESSION_TOKEN_KEYRING_FILE: env['SESSION_TOKEN_KEYRING_FILE'],
      },
      true,
      { entry: join(folder, 'session-gateway/main.js') },
    );
    expect(commands.get('Start')).toEqual(['node session-gateway/main.js']);

    const [browser, other] = [await stack.login('ada'), await stack.login('bob')];
    expect((await browser.get(`${stack.url}/api/x`)).status).toBe(200);
    await follow('Seal what an older version stored');
    await follow('Rotate the key');
    expect((await browser.get(`${stack.url}/api/x`)).status).toBe(200);

    const { user, session } = (
      await browser.get(`${stack.url}/auth/session`)
    ).json() as SessionBody;
    const [sid] = await stack.sql<{ sid: string }>(
      'SELECT keycloak_session_id AS sid FROM user_sessions WHERE id = $1',
      [session.id],
    );
    const [list, listJson, ended, events] = await follow('Look after sessions', { SUB: user.sub });
    expect(list).toContain(session.id);
    expect(JSON.parse(listJson!)).toEqual([
      expect.objectContaining({ id: session.id, sub: user.sub, created_at: session.created_at }),
    ]);
    expect(ended).toBe('1 session ended\n');
    expect(JSON.parse(events!)).toContainEqual(
      expect.objectContaining({
        event: 'session_ended',
        session_id: session.id,
        reason: 'ended_by_admin',
        actor: `operator:${userInfo().username}`,
      }),
    );
    await until(async () => (await browser.get(`${stack.url}/api/x`)).status === 401, {
      what: 'the gateway hearing of the end',
      timeoutMs: 1_000,
    });
    expect((await other.get(`${stack.url}/api/x`)).status).toBe(200);
    // A running gateway sends what the provider is owed.
    await until(() => !stack.provider!.isSessionAlive(sid!.sid), {
      what: "the provider's session ending",
    });

    expect(await shell(`exec node session-gateway/main.js sessions end ${session.id}`)).toEqual({
      code: 1,
      stdout: '0 sessions ended\n',
      stderr: expect.stringContaining(session.id),
    });
    expect(await shell('exec node session-gateway/main.js sessions end --all')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--yes'),
    });
    expect((await other.get(`${stack.url}/api/x`)).status).toBe(200);
    expect(
      await shell('exec node session-gateway/main.js sessions end --all --yes --json'),
    ).toEqual({ code: 0, stdout: '{"ended":1,"notFound":[]}\n', stderr: '' });
    await until(async () => (await other.get(`${stack.url}/api/x`)).status === 401, {
      what: 'the gateway hearing of the end of all',
      timeoutMs: 1_000,
    });
    expect(await shell('exec node session-gateway/main.js sessions list --json')).toMatchObject({
      stdout: '[]\n',
    });
    // The process that was started is the gateway itself.
    expect(await gateway.stop()).toBe(0);
  });
});
