import { createServer, request as nodeRequest } from 'node:http';
import {
  type Browser,
  type Cluster,
  type ClusterSession,
  freePort,
  openBrowser,
  startCluster,
  storm,
} from '@session-gateway/testkit';
import { Agent, request } from 'undici';
import { runGoal } from '../harness/goal.js';

const METHODS = ['GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH', 'DELETE', 'PROPFIND'];
const SITES = [null, 'same-origin', 'same-site', 'cross-site', 'none'];
const CSRF = [null, '1', '0'];
const TYPES = [null, 'application/x-www-form-urlencoded', 'application/json', 'text/plain'];
const SAFE = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * Everything a page of another host of the same site can send without being asked; the naive site
 * takes whatever has a cookie.
 */
const FORMS: readonly [string, string][] = [
  ['/api/form', 'application/x-www-form-urlencoded'],
  ['/api/plain', 'text/plain'],
  ['/api/multi', 'multipart/form-data'],
  ['/auth/logout', ''],
  ['/account/end-others', ''],
  ['/auth/refresh', ''],
];

interface Cell {
  method: string;
  site: string | null;
  origin: string | null;
  csrf: string | null;
  type: string | null;
}

/** Every site with every origin, with every value of the field against CSRF, with every type. */
const cellsOf = (
  method: string,
  origins: readonly (string | null)[],
  types: readonly (string | null)[],
): Cell[] =>
  SITES.flatMap((site) =>
    origins.flatMap((origin) =>
      CSRF.flatMap((csrf) => types.map((type) => ({ method, site, origin, csrf, type }))),
    ),
  );

/** The contract's words, written down a second time: the gateway's own code has no part in this. */
function allowed({ method, site, origin, csrf }: Cell, ours: string, always = false): boolean {
  if (SAFE.has(method) && !always) return true;
  if (site !== null && site !== 'same-origin') return false;
  if (origin === 'null' && site === 'same-origin') return true;
  if (origin !== null && origin !== ours) return false;
  return site !== null || origin !== null || csrf === '1';
}

const headersOf = ({ site, origin, csrf, type }: Cell, cookie: string): Record<string, string> => ({
  cookie,
  ...(site === null ? {} : { 'sec-fetch-site': site }),
  ...(origin === null ? {} : { origin }),
  ...(csrf === null ? {} : { 'x-csrf': csrf }),
  ...(type === null ? {} : { 'content-type': type }),
});

await runGoal('B6', async ({ full, progress }) => {
  const siteHost = 'site.localhost';
  const [port, evilPort] = [await freePort(), await freePort()];
  const ours = `http://app.${siteHost}:${port}`;
  const cluster = await startCluster({ redis: false, start: false });
  const gateway = await cluster.startGateway(
    {
      PORT: String(port),
      PUBLIC_URL: ours,
      RATE_LIMIT_LOGIN: '0',
      GATEWAY_ROUTES: JSON.stringify([
        { path: '/api', upstream: cluster.upstream.url },
        { path: '/ws', upstream: cluster.upstream.url, websocket: true },
      ]),
    },
    false,
  );
  const browser = await openBrowser();
  const agent = new Agent({ keepAliveTimeout: 1_000 });
  const evil = evilSite(cluster, ours);
  try {
    await new Promise<void>((resolve) => evil.listen(evilPort, '127.0.0.1', resolve));
    const local = `http://127.0.0.1:${port}`;
    for (
      let i = 0;
      !(await fetch(`${local}/health/live`).then(
        ({ ok }) => ok,
        () => false,
      ));
      i++
    ) {
      if (i > 300) throw new Error(`the gateway is not live:\n${gateway.output().slice(-2_000)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const person = await personIn(browser, ours);
    const origins = [
      null,
      ours,
      ours.toUpperCase(),
      'null',
      '',
      `https://app.${siteHost}:${port}`,
      `http://evil.${siteHost}:${evilPort}`,
      `http://app.${siteHost}`,
      `${ours}.evil.example`,
      `http://app.${siteHost}:${port}@evil.example`,
      `${ours}, ${ours}`,
    ];

    let [cells, wrong, reached] = [0, 0, 0];
    const examples: string[] = [];
    const note = (what: string): void => {
      if (examples.length < 5) examples.push(what);
    };
    const before = cluster.upstream.count();
    const matrix = METHODS.flatMap((method) => {
      const types = full || !SAFE.has(method) ? TYPES : [null];
      return cellsOf(method, origins, types);
    });
    await storm(
      matrix.length,
      async (i) => {
        const cell = matrix[i] as Cell;
        const answer = await request(`${local}/api/x`, {
          method: cell.method as 'GET',
          dispatcher: agent,
          headers: headersOf(cell, person.cookie),
          ...(SAFE.has(cell.method) || cell.type === null ? {} : { body: 'a=1' }),
        });
        const text = await answer.body.text();
        const expected = allowed(cell, ours) ? 200 : 403;
        cells++;
        if (answer.statusCode === 200) reached++;
        if (
          answer.statusCode !== expected ||
          (expected === 403 && cell.method !== 'HEAD' && !text.includes('csrf_rejected'))
        ) {
          wrong++;
          note(`${JSON.stringify(cell)}: ${answer.statusCode}`);
        }
        progress(() => `${cells} of ${matrix.length} cells, ${wrong} wrong`);
        return answer.statusCode;
      },
      { parallel: 16 },
    );
    const unaccounted = cluster.upstream.count() - before - reached;

    let upgrades = 0;
    const handshakes = cellsOf('GET', origins, [null]);
    await storm(
      handshakes.length,
      async (i) => {
        const cell = handshakes[i] as Cell;
        const status = await upgradeStatus(`${local}/ws/x`, headersOf(cell, person.cookie));
        upgrades++;
        if ((status === 403) === allowed(cell, ours, true)) {
          wrong++;
          note(`upgrade ${JSON.stringify(cell)}: ${status}`);
        }
        return status;
      },
      { parallel: 8 },
    );

    const attacks = await attack(browser, person, cluster, `http://evil.${siteHost}:${evilPort}`);
    const stillThere = await fetch(`${local}/auth/session`, { headers: { cookie: person.cookie } });
    const control = {
      'a site without the check is reached': attacks.naive,
      'our own page is let through': attacks.own,
    };
    const passed =
      wrong === 0 &&
      unaccounted === 0 &&
      attacks.unsafe === 0 &&
      attacks.planted === 400 &&
      stillThere.status === 200 &&
      attacks.naive >= 4 &&
      attacks.own === 2;
    return {
      passed,
      cells,
      upgrades,
      reached,
      wrong,
      unaccounted,
      siblingAttacks: attacks.sent,
      siblingReached: attacks.unsafe,
      plantedCookie: attacks.planted,
      sessionAlive: stillThere.status === 200,
      control,
      ...(examples.length > 0 ? { examples } : {}),
    };
  } finally {
    await browser.close();
    evil.close();
    await agent.destroy();
    await cluster.dispose();
  }
});

type Context = Awaited<ReturnType<Browser['newContext']>>;
interface Person extends Pick<ClusterSession, 'cookie'> {
  context: Context;
  ours: string;
}

async function personIn(browser: Browser, ours: string): Promise<Person> {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${ours}/auth/login`);
  await page.waitForURL(`${ours}/`);
  const cookie = (await context.cookies()).find(({ name }) => name === 'session');
  if (!cookie) throw new Error('nobody is logged in');
  return { context, ours, cookie: `session=${cookie.value}` };
}

function evilSite(cluster: Cluster, ours: string) {
  return createServer((request, response) => {
    const to = new URL(request.url ?? '/', 'http://x').searchParams.get('to') ?? ours;
    const forms = FORMS.map(
      ([path, type], i) =>
        `<form id="f${i}" method="post" action="${to}${path}" ${type ? `enctype="${type}"` : ''} target="t${i}"><input name="a" value="1"></form><iframe name="t${i}"></iframe>`,
    ).join('');
    response
      .writeHead(200, { 'content-type': 'text/html' })
      .end(`<!doctype html><title>evil</title>${forms}`);
  });
}

async function attack(
  browser: Browser,
  { context, ours }: Person,
  { upstream }: Cluster,
  evilUrl: string,
) {
  const unsafeHits = (): number =>
    upstream.requests.filter(({ method }) => !SAFE.has(method)).length;
  const run = async (to: string): Promise<number> => {
    const page = await context.newPage();
    await page.goto(`${evilUrl}/?to=${encodeURIComponent(to)}`);
    const sent = await page.evaluate<number>(`(async () => {
      const to = ${JSON.stringify(to)};
      let sent = 0;
      for (const form of document.forms) { form.submit(); sent++; }
      const tries = [
        ...['POST', 'PUT', 'PATCH', 'DELETE'].map((method) => () => fetch(to + '/api/fetch', { method, mode: method === 'POST' ? 'no-cors' : 'cors', credentials: 'include', body: 'x' })),
        () => fetch(to + '/api/json', { method: 'POST', credentials: 'include', headers: { 'content-type': 'application/json', 'x-csrf': '1' }, body: '{}' }),
        async () => navigator.sendBeacon(to + '/api/beacon', 'x'),
        () => new Promise((resolve) => { const socket = new WebSocket(to.replace('http', 'ws') + '/ws/x'); socket.onerror = socket.onclose = socket.onopen = resolve; }),
      ];
      for (const one of tries) { await one().catch(() => undefined); sent++; }
      return sent;
    })()`);
    await page.waitForTimeout(1_500);
    await page.close();
    return sent;
  };
  upstream.clear();
  const sent = await run(ours);
  const unsafe = unsafeHits() + upstream.requests.filter(({ url }) => url.startsWith('/ws')).length;

  // The same page against a site that asks for the cookie only: its requests do arrive.
  upstream.clear();
  await run(
    `http://naive.${new URL(ours).hostname.split('.').slice(1).join('.')}:${upstream.port}`,
  );
  const naive = unsafeHits();

  upstream.clear();
  const page = await context.newPage();
  await page.goto(`${ours}/account`);
  await page.evaluate(
    'Promise.all([fetch("/api/own", { method: "POST" }), fetch("/api/own", { method: "DELETE" })])',
  );
  const own = unsafeHits();
  await page.close();

  // A sibling host plants a second session cookie: refused, whichever comes first.
  const planter = await browser.newContext();
  const [victim] = (await context.cookies()).filter(({ name }) => name === 'session');
  if (victim)
    await planter.addCookies([
      victim,
      {
        name: 'session',
        value: 'planted',
        domain: `.${new URL(ours).hostname.split('.').slice(1).join('.')}`,
        path: '/',
      },
    ]);
  const planted = (await (await planter.newPage()).goto(`${ours}/auth/session`))?.status() ?? 0;
  await planter.close();
  return { sent, unsafe, naive, own, planted };
}

function upgradeStatus(url: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = nodeRequest(url, {
      headers: {
        ...headers,
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      },
    });
    asked.on('response', (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
    asked.on('upgrade', (answer, socket) => {
      socket.destroy();
      resolve(answer.statusCode ?? 0);
    });
    asked.on('error', reject);
    asked.end();
  });
}
