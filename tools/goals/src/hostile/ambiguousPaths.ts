import { createServer, request as httpRequest, type Server } from 'node:http';
import { startCluster } from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import type { Random } from '../harness/random.js';
import { onTheWire } from '../harness/wire.js';

const CASES = 4_000;
const FULL_CASES = 100_000;
const CONTROL_CASES = 500;
const PARALLEL = 24;

/** What somebody else may ask for, and must never reach. */
interface Asker {
  readonly name: string;
  readonly cookie: string | null;
  readonly forbidden: readonly string[];
}

const PIECES = [
  '/',
  '//',
  '///',
  '/./',
  '/../',
  '/.',
  '/..',
  '.',
  '..',
  '%2e',
  '%2E',
  '%2e%2e',
  '.%2e',
  '%252e',
  '%25252e',
  '%2f',
  '%2F',
  '%252f',
  '%25252f',
  '%5c',
  '%255c',
  '\\',
  ';',
  ';x',
  ';x=1',
  '%3b',
  '..;',
  '..;/',
  '%00',
  '%2500',
  '#',
  '%23',
  '?',
  '%3f',
  '%ef%bc%8f',
  '%ef%bc%8e',
  '%ef%bc%bc',
  '\xef\xbc\x8f',
  '\xef\xbc\x8e',
  '%c0%af',
  '%c0%ae',
  '%e0%80%af',
  '%e2%88%95',
  '%u002f',
  '%uff0f',
  '%',
  '%2',
  'api',
  '%61pi',
  'a%70i',
  '%2561pi',
  'API',
  'admin',
  '%61dmin',
  'public',
  'files',
  'x',
  '%20',
  '%09',
  '\t',
  ' ',
  '%0d%0a',
  ':',
  '@',
  '*',
];
const WHOLE = [
  '/public/x',
  '/files/x',
  '/x',
  '/',
  '/api/x',
  '/api/admin/x',
  '/api',
  '/public/../api/x',
  '/public/..;/api/x',
  '/public/%2e%2e/api/x',
  '/files/..%2fapi/x',
  '/files/%2e%2e%2fapi/admin',
  '/public//api/x',
  '//api/x',
  '/;/api/x',
  '/api;x/y',
  '/api%3bx/y',
  '/%61pi/x',
  '/public/..\\api\\x',
  '/public\\..\\api',
  '/public%5c..%5capi',
  '/public/%252e%252e/api/x',
  '/public/x%00/../../api',
  '/public/x#/../../api/x',
  '/public/\xef\xbc\x8e\xef\xbc\x8e/api',
  '/public/%ef%bc%8e%ef%bc%8e/api',
  'http://HOST/api/x',
  'http://HOST/public/../api/x',
  'http://other.example/public/x',
  'HTTP://HOST/public/x',
  'http://HOST@other.example/api',
  '*',
  'api/x',
  '/./api/x',
  '/public/./../api/x',
  '/api/./admin/x',
  '/api/%61dmin/x',
  '/api//admin/x',
  '/api/;/admin/x',
  '/api/admin;x/y',
  '/api/x/../admin/y',
  '/api/admin%3fx',
  '/api/admin%23x',
  '/api/admin.',
  '/api/admin%20/x',
  '/api/admin::$DATA',
  '/api%3f/x',
  '/public/%3f/../api',
];

function target(random: Random, host: string): string {
  const whole = random.pick(WHOLE);
  let text = random.chance(0.35)
    ? random.pick(['/public', '/files', '/api', '']) +
      Array.from({ length: 1 + random.below(6) }, () => random.pick(PIECES)).join('')
    : whole;
  if (random.chance(0.4)) {
    const at = random.below(text.length + 1);
    text = text.slice(0, at) + random.pick(PIECES) + text.slice(at + (random.chance(0.3) ? 1 : 0));
  }
  // What cannot be written on a request line would be another test.
  return text.replaceAll('HOST', host).replace(/[\r\n]/g, '') || '/';
}

/** Every path that a server might take these bytes for: decoding, folding, stripping and resolving, in any order. */
function readings(received: string): Set<string> {
  const found = new Set<string>();
  const [path = ''] = received.split('?', 1);
  // What ends or vanishes as it stands is data once it is encoded.
  let fresh = [path, path.split('#', 1)[0] ?? '', path.replace(/[\t\n\r ]+/g, '')];
  for (let round = 0; round < 6 && fresh.length > 0 && found.size < 400; round++) {
    for (const path of fresh) found.add(path);
    fresh = fresh
      .flatMap((path) => [
        path.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
          String.fromCharCode(parseInt(hex, 16)),
        ),
        path.replace(/%u([0-9a-f]{4})/gi, (_, hex: string) =>
          String.fromCharCode(parseInt(hex, 16)),
        ),
        Buffer.from(path, 'latin1').toString('utf8').normalize('NFKC'),
        path.replaceAll('\\', '/'),
        path.replace(/;[^/]*/g, ''),
        path.replace(/\/{2,}/g, '/'),
        path.split('\0', 1)[0] ?? '',
        // A second decoder's query and fragment; what Windows takes off a name.
        path.split(/[?#]/, 1)[0] ?? '',
        path.replace(/[. ]+(?=\/|$)/g, ''),
        path.replace(/:[^/]*/g, ''),
        path.replace(/^[a-z]+:\/\/[^/]*/i, ''),
        resolved(path),
      ])
      .filter((path) => !found.has(path));
    fresh = [...new Set(fresh)];
  }
  return found;
}

function resolved(path: string): string {
  const kept: string[] = [];
  for (const segment of path.split('/').slice(1)) {
    if (segment === '..') kept.pop();
    else if (segment !== '.') kept.push(segment);
  }
  return `/${kept.join('/')}`;
}

const below = (path: string, root: string): boolean => path === root || path.startsWith(`${root}/`);

/** A gateway as it is often written: the rule is looked up for the path as it stands, and the bytes are passed on. */
function startNaive(upstream: string): Promise<Server> {
  const server = createServer((request, response) => {
    const path = request.url ?? '/';
    if (below(path, '/api')) return void response.writeHead(401).end();
    const outgoing = httpRequest(
      upstream,
      { path, headers: { 'x-case': request.headers['x-case'] ?? '' } },
      (answer) => answer.pipe(response.writeHead(answer.statusCode ?? 502)),
    );
    outgoing.on('error', () => response.writeHead(502).end());
    outgoing.end();
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

await runGoal('B4', async ({ random, full, progress }) => {
  const cluster = await startCluster({ redis: false, start: false });
  const { upstream } = cluster;
  const seen = new Map<string, string>();
  const takeSeen = (): void => {
    for (const { headers, url } of upstream.requests) seen.set(String(headers['x-case']), url);
    upstream.clear();
  };
  try {
    await cluster.startGateway({
      GATEWAY_ROUTES: JSON.stringify([
        { path: '/api/admin', upstream: upstream.url, protect: 'realm:admin' },
        { path: '/api', upstream: upstream.url },
        { path: '/files', upstream: upstream.url, auth: 'none', stripPrefix: true },
        { path: '/', upstream: upstream.url, auth: 'none' },
      ]),
    });
    const { cookie } = await cluster.session('demo');
    const port = Number(new URL(cluster.url).port);
    const host = new URL(cluster.url).host;
    const askers: Asker[] = [
      { name: 'nobody', cookie: null, forbidden: ['/api'] },
      { name: 'not an administrator', cookie, forbidden: ['/api/admin'] },
    ];
    const counts = {
      cases: 0,
      refused: 0,
      denied: 0,
      reached: 0,
      unanswered: 0,
      anonymousHits: 0,
      changed: 0,
    };
    const findings: string[] = [];

    const put = async (to: number, asker: Asker, sent: string, id: string): Promise<number> => {
      const { statuses } = await onTheWire(
        to,
        `GET ${sent} HTTP/1.1\r\nHost: ${host}\r\nX-Case: ${id}\r\n${asker.cookie === null ? '' : `Cookie: ${asker.cookie}\r\n`}Connection: close\r\n\r\n`,
      );
      return statuses[0] ?? 0;
    };
    const round = async (
      to: number,
      name: string,
      cases: number,
      judge: (id: string, sent: string, status: number, asker: Asker) => void,
    ): Promise<void> => {
      for (let done = 0; done < cases; done += PARALLEL) {
        await Promise.all(
          Array.from({ length: Math.min(PARALLEL, cases - done) }, async (_, i) => {
            const asker = askers[(done + i) % 2] as Asker;
            const sent = target(random, host);
            const id = `${name}-${done + i}`;
            const status = await put(to, asker, sent, id);
            takeSeen();
            judge(id, sent, status, asker);
            seen.delete(id);
          }),
        );
        progress(
          () =>
            `${name}: ${done} of ${cases}, ${counts.reached} reached, ${counts.refused} refused, ${counts.anonymousHits} hits`,
        );
      }
    };
    const leadsAstray = (received: string, { forbidden }: Asker): boolean =>
      [...readings(received)].some((path) => forbidden.some((root) => below(path, root)));

    await round(port, 'gateway', full ? FULL_CASES : CASES, (id, sent, status, asker) => {
      counts.cases++;
      const received = seen.get(id);
      if (received === undefined) {
        if (status === 0) counts.unanswered++;
        else counts[status === 400 ? 'refused' : 'denied']++;
        return;
      }
      counts.reached++;
      const path = sent.replace(/^https?:\/\/[^/]*/i, '').trim() || '/';
      // The bytes that were judged, with the prefix taken off where the route says so.
      const isSame =
        received === path ||
        (below(path.split('?', 1)[0] ?? '', '/files') &&
          received ===
            (path.slice('/files'.length).startsWith('/') ? '' : '/') + path.slice('/files'.length));
      if (!isSame) counts.changed++;
      const stripped = path !== received;
      const astray = stripped ? leadsAstray(path, asker) : leadsAstray(received, asker);
      if (astray) counts.anonymousHits++;
      if (!isSame || astray)
        findings.push(
          `${asker.name}: ${JSON.stringify(sent)} reached the API as ${JSON.stringify(received)}`,
        );
    });

    const naive = await startNaive(upstream.url);
    const control = { cases: CONTROL_CASES, anonymousHits: 0 };
    await round(
      (naive.address() as { port: number }).port,
      'control',
      CONTROL_CASES,
      (id, _sent, _status, asker) => {
        const received = seen.get(id);
        if (received !== undefined && leadsAstray(received, { ...asker, forbidden: ['/api'] }))
          control.anonymousHits++;
      },
    );
    naive.close();

    return {
      passed:
        counts.anonymousHits === 0 &&
        counts.changed === 0 &&
        counts.unanswered === 0 &&
        counts.reached > counts.cases / 50 &&
        counts.refused > 0 &&
        counts.denied > 0 &&
        control.anonymousHits > 0,
      ...counts,
      control,
      ...(findings.length > 0 ? { findings: findings.slice(0, 10) } : {}),
    };
  } finally {
    await cluster.dispose();
  }
});
