import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { freePort, startKeycloak, whyMissing } from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import { compare, type Load } from './bench/load.js';

const TIMES_PEER = 5;
const PEERS = ['guard', 'keycloakConnect'] as const;
type Peer = (typeof PEERS)[number];
/** One person's tokens, in turn: a route that remembers one token only must not look good. */
const TOKENS = 8;

/** A route guarded by libs/guard and one by keycloak-connect, side by side, with the same tokens of a real Keycloak. */
await runGoal('guarded-route', async ({ full, progress }) => {
  const missing = whyMissing(['keycloak']);
  if (missing.length > 0) return { passed: false, missing };
  const [rounds, seconds] = full ? [9, 6] : [5, 3];
  const children: ChildProcess[] = [];
  const keycloak = await startKeycloak({ accessTokenLifespanSeconds: 3_600 });
  try {
    const start = async (peer: Peer): Promise<number> => {
      const port = await freePort();
      const child = fork(fileURLToPath(new URL('bench/guardPeers.mjs', import.meta.url)), [], {
        execArgv: [],
        env: {
          ...process.env,
          NODE_ENV: 'production',
          PEER: peer,
          PEER_PORT: String(port),
          PEER_REALM: 'neurotracker',
          PEER_AUTH_SERVER: keycloak.baseUrl,
          PEER_CLIENT_ID: keycloak.clientId,
        },
      });
      children.push(child);
      await once(child, 'message');
      return port;
    };
    const ports = { guard: await start('guard'), keycloakConnect: await start('keycloakConnect') };
    const tokens = await Promise.all(
      Array.from({ length: TOKENS }, () => tokenOf(keycloak.issuer)),
    );
    const wrong = await letPass(ports, tokens);
    if (wrong.length > 0) return { passed: false, wrong };
    const to = (port: number, path: string): Load => ({
      port,
      path,
      headers: tokens.map((token) => ({ authorization: `Bearer ${token}` })),
      connections: 32,
      seconds,
    });
    const by = await compare(
      {
        guard: to(ports.guard, '/protected'),
        keycloakConnect: to(ports.keycloakConnect, '/protected'),
        open: to(ports.guard, '/open'),
      },
      rounds,
      (round, name, { perSecond }) =>
        progress(() => `round ${round + 1} of ${rounds}, ${name}: ${perSecond}/s`),
    );
    const ratio = (of: { perSecond: number }): number =>
      Math.round((by.guard.perSecond / of.perSecond) * 1000) / 1000;
    const clean = Object.values(by).every(({ others }) => others === 0);
    const timesPeer = ratio(by.keycloakConnect);
    return {
      passed: clean && timesPeer >= TIMES_PEER,
      timesPeer,
      timesPeerLimit: TIMES_PEER,
      ofOpen: ratio(by.open),
      tokens: TOKENS,
      ...by,
      rounds,
      seconds,
    };
  } finally {
    for (const child of children) child.kill();
    await keycloak.dispose();
  }
});

/** What a route lets pass although it must not, or refuses although it is good: both have to do the same work. */
async function letPass(
  ports: Readonly<Record<Peer, number>>,
  tokens: readonly string[],
): Promise<string[]> {
  const wrong: string[] = [];
  const [token = ''] = tokens;
  const forged = `${token.slice(0, -8)}${token.slice(-8) === 'AAAAAAAA' ? 'BBBBBBBB' : 'AAAAAAAA'}`;
  for (const peer of PEERS)
    for (const [what, authorization, good] of [
      ['good', `Bearer ${token}`, true],
      ['forged', `Bearer ${forged}`, false],
      ['missing', '', false],
    ] as const) {
      const headers = authorization === '' ? {} : { authorization };
      const { status } = await fetch(`http://127.0.0.1:${ports[peer]}/protected`, { headers });
      if ((status === 200) !== good) wrong.push(`${peer}, ${what} token: ${status}`);
    }
  return wrong;
}

async function tokenOf(issuer: string): Promise<string> {
  const response = await fetch(`${issuer}/protocol/openid-connect/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'password',
      client_id: 'reports',
      client_secret: 'development-only-secret',
      username: 'demo',
      password: 'demo',
    }),
  });
  const { access_token: token } = (await response.json()) as { access_token?: string };
  if (token === undefined) throw new Error(`Keycloak gave no token: ${response.status}`);
  return token;
}
