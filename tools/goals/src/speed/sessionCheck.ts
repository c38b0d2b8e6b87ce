import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { freePort, HttpBrowser, startCluster, whyMissing } from '@session-gateway/testkit';
import { compare } from './bench/load.js';
import { runGoal } from '../harness/goal.js';

const OF_BASELINE = 0.7;
const TIMES_PEER = 10;
/** "Who am I" against a verdict. */
const SESSION_OF_VERIFY = 0.6;
const fileOf = (name: string): string => fileURLToPath(new URL(`bench/${name}`, import.meta.url));

await runGoal('P1', async ({ full, progress }) => {
  const missing = whyMissing(['redis', 'keycloak']);
  if (missing.length > 0) return { passed: false, missing };
  const [rounds, seconds] = full ? [7, 8] : [3, 3];
  const cluster = await startCluster({
    keycloak: { accessTokenLifespanSeconds: 1_800 },
    start: false,
  });
  let peer: ChildProcess | undefined;
  try {
    // A first gateway to log in by; the second answers the same headers on a path without a look-up.
    await cluster.startGateway();
    const session = await cluster.session('demo');
    const verified = await cluster.ask(0, '/auth/verify', { cookie: session.cookie });
    const headers = Object.fromEntries(
      Object.entries(verified.headers).filter(
        ([name]) => !['date', 'connection', 'keep-alive', 'content-length'].includes(name),
      ),
    );
    const gateway = await cluster.startGateway({
      NODE_OPTIONS: `--import=${new URL('bench/baseline.mjs', import.meta.url).href}`,
      BENCH_BASELINE_HEADERS: JSON.stringify(headers),
    });

    const peerPort = await freePort();
    const keycloak = cluster.keycloak;
    if (!keycloak || !cluster.redis) throw new Error('Keycloak and Redis are not there');
    await keycloak.admin('POST', '/clients', {
      clientId: 'peer',
      secret: 'a secret for a benchmark',
      publicClient: false,
      redirectUris: [`http://127.0.0.1:${peerPort}/*`],
      standardFlowEnabled: true,
    });
    peer = fork(fileOf('keycloakConnectPeer.mjs'), [], {
      execArgv: [],
      env: {
        ...process.env,
        NODE_ENV: 'production',
        PEER_PORT: String(peerPort),
        PEER_REDIS_URL: cluster.redis.url,
        PEER_REALM: 'neurotracker',
        PEER_AUTH_SERVER: keycloak.baseUrl,
        PEER_CLIENT_ID: 'peer',
        PEER_CLIENT_SECRET: 'a secret for a benchmark',
      },
    });
    await once(peer, 'message');
    const browser = new HttpBrowser();
    const page = await browser.loginAt(`http://127.0.0.1:${peerPort}/protected`, 'demo', 'demo');
    if (page.status !== 200) throw new Error(`the login at the peer ended with ${page.status}`);
    const peerCookie = browser.cookies.header(page.url);
    await browser.close();

    const to = (port: number, path: string, cookie: string) => ({
      port,
      path,
      headers: { cookie },
      connections: 32,
      seconds,
    });
    const by = await compare(
      {
        verify: to(gateway.port, '/auth/verify', session.cookie),
        session: to(gateway.port, '/auth/session', session.cookie),
        baseline: to(gateway.port, '/baseline', session.cookie),
        peer: to(peerPort, '/protected', peerCookie),
      },
      rounds,
      (round, name, { perSecond }) =>
        progress(() => `round ${round + 1} of ${rounds}, ${name}: ${perSecond}/s`),
    );
    const [ofBaseline, timesPeer, sessionOfVerify] = [
      by.verify.perSecond / by.baseline.perSecond,
      by.verify.perSecond / by.peer.perSecond,
      by.session.perSecond / by.verify.perSecond,
    ].map((ratio) => Math.round(ratio * 1000) / 1000) as [number, number, number];
    const clean = Object.values(by).every(({ others }) => others === 0);
    return {
      passed:
        clean &&
        ofBaseline >= OF_BASELINE &&
        timesPeer >= TIMES_PEER &&
        sessionOfVerify >= SESSION_OF_VERIFY,
      ofBaseline,
      limit: OF_BASELINE,
      timesPeer,
      timesPeerLimit: TIMES_PEER,
      sessionOfVerify,
      sessionLimit: SESSION_OF_VERIFY,
      ...by,
      rounds,
      seconds,
    };
  } finally {
    peer?.kill();
    await cluster.dispose();
  }
});
