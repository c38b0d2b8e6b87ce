import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import {
  describeWith,
  freePort,
  HttpBrowser,
  until,
  type UpstreamRequest,
} from '@session-gateway/testkit';
import { Agent, WebSocket } from 'undici';
import { problemCode, type Stack, startStack } from './stack.js';

const recipe = readFileSync(
  fileURLToPath(new URL('../../../docs/integrate/recipes/nginx.conf', import.meta.url)),
  'utf8',
);

/** Runs the recipe as it stands, but for its three addresses. */
async function startNginx(
  folder: string,
  ports: { nginx: number; gateway: number; application: number },
): Promise<ChildProcess> {
  await mkdir(join(folder, 'logs'));
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${folder}/${name};`)
    .join(' ');
  const server = recipe
    .replace('127.0.0.1:8000', `127.0.0.1:${ports.nginx}`)
    .replace('127.0.0.1:3000', `127.0.0.1:${ports.gateway}`)
    .replace('127.0.0.1:8080', `127.0.0.1:${ports.application}`);
  await writeFile(
    join(folder, 'nginx.conf'),
    `daemon off; pid ${folder}/nginx.pid; worker_processes 1; error_log stderr; events {} http { access_log off; ${temporary}\n${server}\n}`,
  );
  const child = spawn('nginx', ['-p', folder, '-c', join(folder, 'nginx.conf')], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin` },
  });
  let said = '';
  child.stderr?.on('data', (piece: Buffer) => {
    said += piece.toString();
  });
  await until(
    async () => {
      if (child.exitCode !== null) throw new Error(`nginx ended: ${said}`);
      return fetch(`http://127.0.0.1:${ports.nginx}/`).then(
        () => true,
        () => false,
      );
    },
    { what: 'nginx being there' },
  );
  return child;
}

describeWith(['nginx'], 'the recipe for nginx', () => {
  let stack: Stack;
  let nginx: ChildProcess;
  let folder: string;
  let url: string;
  let browser: HttpBrowser;
  const dispatcher = new Agent();
  const last = (): UpstreamRequest => stack.upstream.requests.at(-1)!;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'session-gateway-nginx-'));
    const [port, gateway] = [await freePort(), await freePort()];
    url = `http://127.0.0.1:${port}`;
    stack = await startStack({ redis: false, start: false });
    // The person's address of the gateway is nginx's.
    await stack.startGateway({ PUBLIC_URL: url, TRUSTED_PROXIES: '127.0.0.1' });
    nginx = await startNginx(folder, {
      nginx: port,
      gateway: stack.gateways[0]?.port ?? gateway,
      application: stack.upstream.port,
    });
    browser = new HttpBrowser();
    await browser.loginThroughKeycloak(url, 'alice', 'alice', { returnTo: '/app/start' });
  });
  afterAll(async () => {
    await browser?.close();
    await dispatcher.destroy();
    if (nginx && nginx.exitCode === null) {
      nginx.kill('SIGTERM');
      await once(nginx, 'exit');
    }
    await stack?.dispose();
    await rm(folder, { recursive: true, force: true });
  });

  test('lets a logged-in person through and tells the application who it is', async () => {
    const answer = await browser.get(`${url}/app/x?a=1&b=2`, {
      headers: {
        'x-auth-subject': 'root',
        X_Auth_Roles: 'realm:admin',
        'x-forwarded-for': '1.1.1.1',
        forwarded: 'for=1.1.1.1',
      },
    });
    expect(answer.status).toBe(200);
    expect(last().url).toBe('/app/x?a=1&b=2');
    const { user, session } = (await browser.get(`${url}/auth/session`)).json() as {
      user: { sub: string; roles: string[] };
      session: { id: string };
    };
    expect(last().headers).toMatchObject({
      'x-auth-subject': user.sub,
      'x-auth-session': session.id,
      'x-auth-roles': user.roles.join(','),
      'x-forwarded-for': '127.0.0.1',
    });
    expect(last().rawHeaders.join(' ')).not.toMatch(/root|1\.1\.1\.1|realm:admin/);
  });

  test.each<[string, string | RegExp | undefined]>([
    ['a=1; COOKIE; b=2', 'a=1; b=2'],
    ['COOKIE', undefined],
    ['a=1; COOKIE', 'a=1;'],
    ['COOKIE; b=2', 'b=2'],
    ['mysession=1; COOKIE', 'mysession=1;'],
    ['a=1;  COOKIE;\tb=2', 'a=1;  b=2'],
    ['session =COOKIE; b=2', 'b=2'],
    ['a=1;\tCOOKIE', 'a=1;'],
    // With https the gateway's is `__Host-session`, and the application may have a `session` of its own.
    ['COOKIE; a=1; __Host-session=gateways', /^session=\S+; a=1;$/],
    ['__Host-session=gateways; COOKIE; a=1', /^session=\S+; a=1$/],
  ])('keeps the session cookie of %s from the application', async (sent, received) => {
    const { value } = browser.cookies.get('session')!;
    const cookie = sent.replace(
      /(session =)?COOKIE/,
      (_, name?: string) => `${name ?? 'session='}${value}`,
    );
    expect(
      (await browser.get(`${url}/app/x`, { headers: { cookie }, cookies: false })).status,
    ).toBe(200);
    if (received instanceof RegExp) expect(last().headers['cookie']).toMatch(received);
    else expect(last().headers['cookie']).toBe(received);
  });

  test('takes people to the login and tells scripts 401', async () => {
    const anonymous = new HttpBrowser();
    const before = stack.upstream.count();
    const script = await anonymous.get(`${url}/app/x`);
    expect([script.status, problemCode(script)]).toEqual([401, 'session_not_found']);
    const person = await anonymous.navigate(`${url}/app/x?a=1&b=2`);
    expect([
      person.status,
      person.location!.pathname,
      person.location!.searchParams.get('return_to'),
    ]).toEqual([302, '/auth/login', '/app/x?a=1&b=2']);
    for (const path of ['/app/a%20b', '/app/%E2%82%AC', '/app/R&D?return_to=/x&prompt=none']) {
      const { location } = await anonymous.navigate(url + path);
      expect([...location!.searchParams]).toEqual([['return_to', path]]);
      const login = await anonymous.navigate(location!);
      expect([path, login.status, login.location?.origin]).toEqual([
        path,
        302,
        new URL(stack.provider!.issuer).origin,
      ]);
    }
    expect(stack.upstream.count()).toBe(before);
    expect((await anonymous.get(`${url}/session-gateway-verify`)).status).toBe(404);
    await anonymous.close();
  });

  test('tells the application as many of 300 roles as there is room for, and that there are more', async () => {
    const realmRoles = Array.from({ length: 300 }, (_, i) => `a role with a name of its own ${i}`);
    stack.provider!.setUser('many', { realmRoles });
    stack.provider!.chooseUser('many');
    const person = new HttpBrowser();
    await person.loginThroughKeycloak(url, 'many', 'many', { returnTo: '/app/start' });
    stack.provider!.chooseUser('demo');
    expect((await person.get(`${url}/app/x`)).status).toBe(200);
    const roles = String(last().headers['x-auth-roles']);
    expect(roles.length).toBeGreaterThan(4_000);
    expect(roles.length).toBeLessThanOrEqual(4_096);
    expect(roles.split(',').every((role) => realmRoles.includes(role.slice(6)))).toBe(true);
    expect(last().headers['x-auth-roles-truncated']).toBe('true');
    await person.close();
  });

  test('says what is wrong with two session cookies', async () => {
    const answer = await browser.get(`${url}/app/x`, {
      headers: { cookie: `session=${browser.cookies.get('session')!.value}; session=other` },
      cookies: false,
    });
    expect([answer.status, problemCode(answer)]).toEqual([400, 'cookie_ambiguous']);
  });

  test('lets an unsafe method through from our own pages only', async () => {
    const post = (headers: Record<string, string>) =>
      browser.request('POST', `${url}/app/x`, { headers, body: 'a=1' });
    const before = stack.upstream.count();
    for (const headers of [
      {},
      { origin: 'https://evil.example' },
      { 'sec-fetch-site': 'cross-site' },
    ])
      expect((await post(headers as Record<string, string>)).status).toBe(403);
    expect(stack.upstream.count()).toBe(before);
    expect((await post({ origin: url })).status).toBe(200);
    expect(last().bodyBytes).toBe(3);
  });

  test('lets a WebSocket through from our own pages only', async () => {
    const cookie = `session=${browser.cookies.get('session')!.value}`;
    const opens = (origin: string): Promise<boolean> =>
      new Promise((resolve) => {
        const socket = new WebSocket(url.replace('http', 'ws') + '/app/ws', {
          headers: { cookie, origin },
          dispatcher,
        });
        socket.addEventListener('open', () => {
          socket.close();
          resolve(true);
        });
        socket.addEventListener('error', () => resolve(false));
      });
    expect([await opens('https://evil.example'), await opens(url)]).toEqual([false, true]);
  });

  test('logs nobody out while the gateway cannot tell', async () => {
    stack.postgres.freeze();
    const visitor = new HttpBrowser();
    const answer = await visitor.get(`${url}/app/x`, {
      headers: { cookie: 'session=somebody' },
      cookies: false,
    });
    expect([answer.status, answer.headers['retry-after'], answer.setCookies]).toEqual([
      503,
      '2',
      [],
    ]);
    stack.postgres.thaw();
    await visitor.close();
  });
});
