import {
  type Cluster,
  findSecrets,
  type HttpAnswer,
  HttpBrowser,
  type Secret,
  startCluster,
} from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import { type Recorder, startRecorder } from '../harness/recorder.js';

const KEY_TEXT = 'canary key text: 8f3c2ad1c07e49b6a5d4';
const CLIENT_SECRET = 'canary-client-secret-51f0b7d2e6';

await runGoal('B7', async ({ full, random, progress }) => {
  const keyring = (kids: string[]): string =>
    JSON.stringify({ primary: kids[0], keys: kids.map((kid) => ({ kid, key: keys[kid] })) });
  const keys: Record<string, string> = {
    one: random.bytes(32).toString('base64url'),
    two: random.bytes(32).toString('base64url'),
  };
  const answers: HttpAnswer[] = [];
  const cluster = await startCluster({
    start: false,
    provider: { clientSecret: CLIENT_SECRET, accessTokenLifespanSeconds: 60 },
  });
  const provider = cluster.provider;
  if (!provider) throw new Error('there is no provider');
  const issuer = new URL(provider.issuer);
  const recorder = await startRecorder(issuer.origin);
  try {
    const env = {
      LOG_LEVEL: 'trace',
      SESSION_TOKEN_ENCRYPTION_KEY: KEY_TEXT,
      SESSION_TOKEN_KEYRING: keyring(['one', 'two']),
      KEYCLOAK_INTERNAL_URL: recorder.url + issuer.pathname,
      REFRESH_SWEEP: '1',
      RATE_LIMIT_CALLBACK: '20',
    };
    await cluster.startGateway(env);
    const secrets = new Map<string, Secret>(
      [
        ['key text', KEY_TEXT],
        ['client secret', CLIENT_SECRET],
        ...Object.entries(keys).map(([kid, key]) => [`key ${kid}`, key]),
      ].map(([name = '', value = '']) => [value, { name, value }]),
    );
    const rounds = full ? 20 : 2;
    let stored: string[] = [];
    for (let i = 0; i < rounds; i++) {
      await live(cluster, recorder, secrets, answers, (values) => (stored = values));
      progress(
        () => `${i + 1} of ${rounds} lives, ${secrets.size + recorder.secrets.size} secrets`,
      );
    }
    const metrics = await (
      await fetch(`${cluster.gateways[0]?.managementUrl ?? ''}/metrics`)
    ).text();
    const dump = await cluster.postgres.dump(cluster.databaseUrl);
    const redis = (await cluster.redis?.scan()) ?? [];
    await cluster.gateways[0]?.stop();

    const all = [...secrets.values(), ...recorder.secrets.values()];
    const log = cluster.gateways.map((gateway) => gateway.output()).join('\n');
    const places: [string, string | Buffer][] = [
      ['log', log],
      ['metrics', metrics],
      ['database', typeof dump === 'string' ? dump : JSON.stringify(dump)],
      [
        'redis',
        Buffer.concat(
          redis.map(({ key, value }) => Buffer.concat([Buffer.from(key), ...[value].flat()])),
        ),
      ],
      // What a person is sent on purpose: their cookie, and at logout the hint for the provider, which is an ID Token.
      // The upstream here says what it was sent, so its own answers are left out.
      [
        'answers',
        answers
          .filter(
            ({ url, headers }) =>
              !url.pathname.startsWith('/api/') ||
              String(headers['content-type']).startsWith('application/problem'),
          )
          .map(
            ({ text, headers }) =>
              text + JSON.stringify({ ...headers, 'set-cookie': undefined, location: undefined }),
          )
          .join('\n'),
      ],
    ];
    const hits = places.flatMap(([place, content]) =>
      findSecrets(
        place,
        content,
        all.filter(({ name }) => place !== 'answers' || !name.startsWith('id_token')),
      ),
    );
    const sealed =
      stored.length > 0 &&
      stored.every((value) => /^v2\.(one|two)\.[A-Za-z0-9_-]{54,}$/.test(value));

    const [sample] = [...recorder.secrets.values()].filter(({ name }) => name === 'refresh_token');
    if (!sample) throw new Error('no refresh token has passed');
    const bytes = Buffer.from(sample.value);
    const leaks = {
      raw: sample.value,
      base64: bytes.toString('base64'),
      base64url: bytes.toString('base64url'),
      hex: bytes.toString('hex'),
      url: encodeURIComponent(sample.value),
    };
    const control = Object.fromEntries(
      Object.entries(leaks).map(([form, leak]) => [
        form,
        findSecrets('log', `${log.slice(0, 1_000)}{"msg":"${leak}"}`, all).length,
      ]),
    );
    const passed =
      hits.length === 0 &&
      sealed &&
      log.split('\n').length > 50 &&
      redis.length > 0 &&
      Object.values(control).every((count) => count > 0);
    return {
      passed,
      hits: hits.length,
      secrets: all.length,
      logLines: log.split('\n').length,
      databaseBytes: places[2]?.[1].length,
      redisKeys: redis.length,
      answers: answers.length,
      sealed,
      control,
      ...(hits.length > 0 ? { examples: [...new Set(hits)].slice(0, 10) } : {}),
    };
  } finally {
    recorder.close();
    await cluster.dispose();
  }
});

/** A whole life at debug level, and everything that can go wrong in it. */
async function live(
  cluster: Cluster,
  recorder: Recorder,
  secrets: Map<string, Secret>,
  answers: HttpAnswer[],
  seeStored: (values: string[]) => void,
): Promise<void> {
  const { url, provider } = cluster;
  if (!provider) return;
  const browser = new HttpBrowser();
  const kept = (name: string, value: string | undefined): void => {
    if (value) secrets.set(value, { name, value });
  };
  const ask = async (answer: Promise<HttpAnswer>): Promise<HttpAnswer> => {
    const seen = await answer;
    answers.push(seen);
    return seen;
  };
  const login = async (): Promise<void> => {
    const page = await browser.loginThroughKeycloak(url, 'demo', 'demo');
    answers.push(page);
    kept('cookie', browser.cookies.get('session')?.value);
  };
  await login();
  for (const path of [
    '/',
    '/account',
    '/auth/session',
    '/auth/sessions',
    '/auth/verify',
    '/api/status/404',
    '/nothing',
    '/auth/callback?code=canary-code-0123456789&state=x',
    '/api/reset',
    '/api/cut',
    '/a//b',
  ])
    await ask(browser.get(url + path)).catch(() => undefined);
  secrets.set('canary-code-0123456789', {
    name: 'code of nobody',
    value: 'canary-code-0123456789',
  });
  await ask(browser.post(`${url}/auth/refresh?force=true`));
  // The provider fails in every way; after each the session lives.
  for (const answer of [
    { status: 500 },
    { status: 401, body: { error: 'invalid_client', error_description: 'canary' } },
    { garbage: true },
    { truncate: true },
    { drop: true },
  ]) {
    provider.answerNext(answer);
    await ask(browser.post(`${url}/auth/refresh?force=true`));
    await ask(browser.post(`${url}/auth/refresh?force=true`));
  }
  // A code that the provider refuses, and a login that the person refuses.
  provider.answerNext({ status: 400, body: { error: 'invalid_grant' } });
  const other = new HttpBrowser();
  await other.loginThroughKeycloak(url, 'demo', 'demo').then(
    (page) => answers.push(page),
    () => undefined,
  );
  await ask(other.get(`${url}/auth/login?return_to=//evil`));
  await other.close();
  // Bearer tokens, good and bad.
  const bearer = await provider.bearer();
  kept('bearer', bearer);
  await ask(browser.get(`${url}/api/x`, { headers: { authorization: `Bearer ${bearer}` } }));
  await ask(browser.get(`${url}/api/x`, { headers: { authorization: `Bearer ${bearer}x` } }));
  // A stored value that does not open.
  const rows = await cluster.sql<Record<string, string | null>>(
    'SELECT access_token, refresh_token, id_token FROM user_sessions WHERE is_active',
  );
  seeStored(rows.flatMap((row) => Object.values(row).filter((value) => value !== null)));
  await cluster.sql(
    "UPDATE user_sessions SET access_token = overlay(access_token placing 'AAAA' from 30) WHERE is_active",
  );
  await ask(browser.get(`${url}/api/x`));
  // The storage and the cache go away and come back.
  await cluster.redis?.kill();
  await ask(browser.get(`${url}/auth/session`));
  await cluster.redis?.start();
  await ask(
    browser.post(`${url}/auth/backchannel-logout`, new URLSearchParams({ logout_token: bearer })),
  );
  await ask(browser.post(`${url}/auth/refresh?force=true`));
  await ask(browser.post(`${url}/auth/logout`));
  await ask(browser.get(`${url}/auth/session`));
  // Ended by the provider.
  await login();
  const [session] = await cluster.sql<{ sid: string }>(
    'SELECT keycloak_session_id AS sid FROM user_sessions WHERE is_active LIMIT 1',
  );
  const token = await provider.logoutToken({ sid: session?.sid ?? '' });
  kept('logout token', token);
  await ask(
    browser.post(`${url}/auth/backchannel-logout`, new URLSearchParams({ logout_token: token })),
  );
  await login();
  await ask(browser.get(`${url}/api/x`));
  await browser.close();
  if (recorder.secrets.size === 0) throw new Error('nothing has passed the recorder');
}
