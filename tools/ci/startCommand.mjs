// Runs the README's first command in a data directory of its own, on free ports, logs the demo user in, and stops it.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const DATA_DIR = mkdtempSync(join(tmpdir(), 'session-gateway-start-'));
const [PORT, MANAGEMENT_PORT] = [await freePort(), await freePort()];
const origin = `http://localhost:${PORT}`;
// A process group of its own: the package runner does not pass signals on.
const child = spawn('npx', ['--yes', 'pnpm@12', 'start'], {
  detached: true,
  stdio: ['ignore', 'pipe', 'inherit'],
  env: {
    ...process.env,
    DATA_DIR,
    PORT: String(PORT),
    MANAGEMENT_PORT: String(MANAGEMENT_PORT),
    HOST: '127.0.0.1',
  },
});
let output = '';
child.stdout.on('data', (chunk) => {
  output += chunk;
});
const ended = new Promise((resolve) => child.once('exit', (code) => resolve(code)));
let exited = false;
ended.then(() => {
  exited = true;
});

try {
  await until(
    'the gateway answers',
    async () => (await fetch(`${origin}/health/ready`)).status === 200,
    180_000,
  );
  await until(
    'the banner names the demo user',
    async () => output.includes('log in as demo, password demo'),
    10_000,
  );
  const jar = new Map();
  const page = await follow(`${origin}/auth/login?return_to=/`, {}, jar);
  const action = /<form[^>]*action="([^"]+)"/.exec(page.body)?.[1]?.replaceAll('&amp;', '&');
  if (!action) throw new Error(`no login form at ${page.url}`);
  const home = await follow(
    new URL(action, page.url).href,
    { method: 'POST', body: new URLSearchParams({ username: 'demo', password: 'demo' }) },
    jar,
  );
  if (!home.body.includes('Log out'))
    throw new Error(`the demo user was not logged in: ${home.url} ${home.status}`);
  const session = await follow(`${origin}/auth/session`, {}, jar);
  if (JSON.parse(session.body).user.preferred_username !== 'demo')
    throw new Error('/auth/session does not say who is logged in');
  // Others than this machine are not to log in with the passwords that everybody knows.
  const realm = `${origin}/realms/neurotracker/.well-known/openid-configuration`;
  const asked = async (headers) => (await fetch(realm, { headers })).status;
  const [here, elsewhere] = [await asked({}), await asked({ 'x-forwarded-for': '192.0.2.9' })];
  if (here !== 200 || elsewhere !== 403)
    throw new Error(`the development provider answered ${here} here and ${elsewhere} elsewhere`);
  console.log(`start: ${origin} answers, the demo user logs in`);
} catch (error) {
  console.error(output);
  throw error;
} finally {
  // The server itself gets the signal: its process is the one that listens.
  for (const pid of await descendants(child.pid))
    try {
      process.kill(pid, 'SIGTERM');
    } catch {
      /* gone already */
    }
  await until('everything has stopped', async () => exited, 30_000);
  rmSync(DATA_DIR, { recursive: true, force: true });
}

async function follow(url, init, jar) {
  for (let hops = 0; hops < 10; hops++) {
    const response = await fetch(url, {
      ...init,
      redirect: 'manual',
      headers: { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; ') },
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      if (/max-age=0|1970/i.test(cookie)) jar.delete(name);
      else jar.set(name, value);
    }
    const location = response.headers.get('location');
    if (!location) return { url, status: response.status, body: await response.text() };
    [url, init] = [new URL(location, url).href, {}];
  }
  throw new Error('too many redirects');
}

async function descendants(pid) {
  const { execFileSync } = await import('node:child_process');
  const rows = execFileSync('ps', ['-eo', 'pid=,ppid=,args='], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((row) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(row));
  const found = [];
  const walk = (parent) =>
    rows.forEach((row) => {
      if (Number(row[2]) === parent) {
        walk(Number(row[1]));
        found.push({ pid: Number(row[1]), args: row[3] });
      }
    });
  walk(pid);
  // PostgreSQL is the gateway's to stop.
  return found
    .filter(({ args }) => /api-gateway\/main\.js/.test(args) && !/nx|sh -c/.test(args))
    .map((row) => row.pid);
}

async function until(what, check, timeoutMs) {
  for (
    const end = Date.now() + timeoutMs;
    Date.now() < end && !(exited && !what.includes('stopped'));
  ) {
    try {
      if (await check()) return;
    } catch {
      /* not yet */
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`waited in vain until ${what}`);
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
