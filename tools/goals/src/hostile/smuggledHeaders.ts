import { createServer, type IncomingMessage, type Server } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { startCluster } from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import type { Random } from '../harness/random.js';
import { onTheWire, startRawUpstream } from '../harness/wire.js';

const CASES = 800;
const FULL_CASES = 40_000;
const CONTROL_CASES = 200;
const PARALLEL = 16;
/** What an attacker writes wherever only the gateway may speak. */
const CLAIM = 'root';

interface Attack {
  readonly kind: string;
  readonly bytes: string;
  /** Framing that two servers could read in two ways: none of it may reach the upstream as a whole request. */
  readonly mustRefuse: boolean;
}

const IDENTITY = [
  'X-Auth-Subject',
  'X-Auth-Session',
  'X-Auth-Roles',
  'X-Auth-Anything',
  'X-Forwarded-For',
  'X-Forwarded-Host',
  'X-Forwarded-Proto',
  'X-Forwarded-User',
  'X-Forwarded-Email',
  'X-Forwarded-Prefix',
  'Forwarded',
  'X-Real-IP',
  'X-Original-URL',
  'X-Rewrite-URL',
  'X-Original-URI',
  'Proxy',
  'Remote-User',
  'X-Remote-User',
  'X-HTTP-Method-Override',
  'True-Client-IP',
  'CF-Connecting-IP',
  'X-Webauth-User',
];

/** The name as careless senders and clever attackers spell it. */
function spelled(random: Random, name: string): string {
  let text = random.chance(0.5)
    ? name.replaceAll('-', random.pick(['_', '_', '-', '.', '!']))
    : name;
  text = random.pick([text, text.toLowerCase(), text.toUpperCase(), text]);
  const at = text.search(/[-_]/);
  return at > 0 && random.chance(0.3)
    ? text.slice(0, at) + random.pick(['-', '_']) + text.slice(at + 1)
    : text;
}

const SMUGGLED = 'GET /open/smuggled HTTP/1.1\r\nHost: g\r\nX-Auth-Subject: root\r\n\r\n';
const chunked = (body: string): string => `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;

function framing(random: Random, head: string): Attack {
  const te = random.pick([
    'chunked',
    'Chunked',
    ' chunked',
    'chunked ',
    '\tchunked',
    'xchunked',
    'chunked, identity',
    'identity, chunked',
    'identity',
    'gzip, chunked',
    '"chunked"',
    'chunked;q=1',
    '\x0bchunked',
    'cow',
    '',
  ]);
  const cl = random.pick([
    '5',
    '0',
    '+5',
    '-5',
    '5, 5',
    '5,6',
    '0x5',
    '5 ',
    '05',
    '5.0',
    '',
    '99999999999999999999',
    '٥',
    '5\x0b',
  ]);
  const both = {
    kind: 'both lengths',
    bytes: `${head}Content-Length: ${random.pick(['4', '0', '6'])}\r\nTransfer-Encoding: ${random.pick(['chunked', 'Chunked', 'xchunked'])}\r\n\r\n0\r\n\r\n${SMUGGLED}`,
    mustRefuse: true,
  };
  return random.pick<() => Attack>([
    () => both,
    () => ({
      ...both,
      kind: 'both lengths, the other way',
      bytes: `${head}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
    }),
    () => ({
      kind: 'two lengths',
      bytes: `${head}Content-Length: 5\r\nContent-Length: ${random.pick(['6', '0', '70'])}\r\n\r\nhello${SMUGGLED}`,
      mustRefuse: true,
    }),
    () => ({
      kind: 'the same length twice',
      bytes: `${head}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello`,
      mustRefuse: false,
    }),
    () => ({
      kind: 'an odd length',
      bytes: `${head}Content-Length: ${cl}\r\n\r\nhello`,
      mustRefuse: !/^ *0*[05] *$/.test(cl),
    }),
    () => ({
      kind: 'an odd coding',
      bytes: `${head}Transfer-Encoding: ${te}\r\n\r\n${chunked('hello')}`,
      mustRefuse: !/^[ \t]*chunked[ \t]*$/i.test(te),
    }),
    () => ({
      kind: 'two codings',
      bytes: `${head}Transfer-Encoding: chunked\r\nTransfer-Encoding: ${random.pick(['identity', 'cow', 'xchunked'])}\r\n\r\n${chunked('hello')}`,
      mustRefuse: true,
    }),
    () => ({
      kind: 'a coding spelled with _',
      bytes: `${head}Content-Length: 5\r\nTransfer_Encoding: chunked\r\n\r\nhello`,
      mustRefuse: false,
    }),
    () => ({
      kind: 'a bad chunk size',
      bytes: `${head}Transfer-Encoding: chunked\r\n\r\n${random.pick(['5x', '0x5', '-5', '+5', ' 5', 'fffffffffffffffff', 'g'])}\r\nhello\r\n0\r\n\r\n${SMUGGLED}`,
      mustRefuse: true,
    }),
    () => ({
      kind: 'a chunk that ends badly',
      bytes: `${head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello${random.pick(['\n0\r\n\r\n', 'x\r\n0\r\n\r\n', '\r\r\n0\r\n\r\n'])}`,
      mustRefuse: true,
    }),
    () => ({
      kind: 'trailers',
      bytes: `${head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Auth-Subject: ${CLAIM}\r\nContent-Length: 7\r\n\r\n`,
      mustRefuse: false,
    }),
    () => ({
      kind: 'a chunk extension',
      bytes: `${head}Transfer-Encoding: chunked\r\n\r\n5;a=${random.pick(['1', '"x"', '\x01'])}\r\nhello\r\n0\r\n\r\n`,
      mustRefuse: false,
    }),
    () => ({
      kind: 'a body under GET',
      bytes: `${head.replace(/^POST/, 'GET')}Content-Length: 5\r\n\r\nhello`,
      mustRefuse: false,
    }),
    () => ({
      kind: 'chunks in HTTP/1.0',
      bytes: `${head.replace('HTTP/1.1', 'HTTP/1.0')}Transfer-Encoding: chunked\r\n\r\n${chunked('hello')}`,
      mustRefuse: false,
    }),
  ])();
}

function syntax(random: Random, head: string): Attack {
  const claim = `X-Auth-Subject: ${CLAIM}`;
  const spoilt = random.pick<[string, string]>([
    ['a folded line', `X-A: 1\r\n ${claim}\r\n`],
    ['a folded line with a tab', `X-A: 1\r\n\t${claim}\r\n`],
    ['a bare line feed', `X-A: 1\n${claim}\r\n`],
    ['a bare carriage return', `X-A: 1\r${claim}\r\n`],
    ['a space before the colon', `X-Auth-Subject : ${CLAIM}\r\n`],
    ['a tab before the colon', `X-Auth-Subject\t: ${CLAIM}\r\n`],
    ['no colon', `X-Auth-Subject ${CLAIM}\r\n`],
    ['no name', `: ${CLAIM}\r\n`],
    ['a NUL', `X-A: \0${claim}\r\n`],
    ['a leading space', ` ${claim}\r\n`],
    ['a control character in a name', `X-Auth\x01-Subject: ${CLAIM}\r\n`],
    ['a line feed at the end of a line', `${claim}\n\r\n`],
    ['a length with a space', 'Content-Length : 5\r\n'],
  ]);
  return {
    kind: spoilt[0],
    bytes: random.chance(0.15)
      ? head.replaceAll('\r\n', '\n') + `${claim}\n\n`
      : `${head}${spoilt[1]}\r\n`,
    mustRefuse: true,
  };
}

function spoofing(random: Random, head: string): Attack {
  const lines = Array.from(
    { length: 1 + random.below(4) },
    () => `${spelled(random, random.pick(IDENTITY))}: ${random.pick(['', ' ', '\t'])}${CLAIM}`,
  );
  const named = random.chance(0.5)
    ? [
        `Connection: ${random.pick(['close, ', 'keep-alive, ', ''])}${random.pick(['authorization', 'x-forwarded-for', 'X-Forwarded-Proto, forwarded', 'cookie', 'x-case', 'host', 'content-length', 'transfer-encoding'])}`,
      ]
    : [];
  return {
    kind: named.length > 0 ? 'claims, and fields named in Connection' : 'claims',
    bytes: `${head}${[...lines, ...named, 'Content-Length: 0'].join('\r\n')}\r\n\r\n`,
    mustRefuse: false,
  };
}

/** Request line and fields up to where the attack begins; `via` is how the upstream knows it again. */
function attack(random: Random, id: string, cookie: string): Attack {
  const isOpen = random.chance(0.5);
  const head = `POST ${isOpen ? '/open' : '/api'}/${id} HTTP/1.1\r\nHost: g\r\n${isOpen ? '' : `Cookie: ${cookie}\r\nX-CSRF: 1\r\n`}`;
  return random.pick([framing, syntax, spoofing])(random, head);
}

/**
 * What is wrong with bytes that reached the upstream on one connection; null when any server
 * reads them in one way only.
 */
function fault(bytes: string, id: string): string | null {
  const end = bytes.indexOf('\r\n\r\n');
  if (end === -1) return null;
  const [line = '', ...fields] = bytes.slice(0, end).split('\r\n');
  const body = bytes.slice(end + 4);
  if (/smuggled/.test(line)) return 'a request that was hidden in another';
  if (!line.includes(id)) return null;
  if (!/^[A-Z]+ \/[!-~]* HTTP\/1\.1$/.test(line)) return 'a request line that is not canonical';
  const values = new Map<string, string[]>();
  for (const field of fields) {
    const [, name, value = ''] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([^\0\r\n]*)$/.exec(field) ?? [];
    if (name === undefined) return `a field that is not canonical: ${JSON.stringify(field)}`;
    const plain = name.toLowerCase().replace(/[^a-z0-9]/g, '-');
    if (
      value.includes(CLAIM) &&
      IDENTITY.some((own) => own.toLowerCase() === plain || /^(x-auth-|x-forwarded-)/.test(plain))
    )
      return `a claim that passed: ${name}`;
    values.set(plain, [...(values.get(plain) ?? []), value.trim()]);
  }
  const [lengths, codings] = [
    values.get('content-length') ?? [],
    values.get('transfer-encoding') ?? [],
  ];
  if (lengths.length + codings.length > 1) return 'a body of two lengths';
  if (
    lengths.some((length) => !/^\d{1,15}$/.test(length)) ||
    codings.some((coding) => coding.toLowerCase() !== 'chunked')
  )
    return 'a length that is not canonical';
  if ((values.get('host') ?? []).length !== 1) return 'not one Host';
  if ((values.get('x-forwarded-for') ?? []).join() !== '127.0.0.1')
    return 'no address of the client';
  if (/\/api\//.test(line) && !values.get('authorization')?.join().startsWith('Bearer ey'))
    return 'no token of the gateway';
  const rest = codings.length > 0 ? afterChunks(body) : body.slice(Number(lengths[0] ?? 0));
  return rest === '' ? null : `bytes after the body: ${JSON.stringify(rest.slice(0, 40))}`;
}

/** What follows a chunked body; empty while it is not whole. */
function afterChunks(body: string): string {
  for (let at = 0; ;) {
    const line = body.indexOf('\r\n', at);
    if (line === -1) return '';
    const size = body.slice(at, line);
    if (!/^[0-9a-f]+$/i.test(size)) return `chunk size ${size}`;
    at = line + 2 + parseInt(size, 16) + 2;
    if (parseInt(size, 16) === 0) return body.slice(at);
    if (at > body.length) return '';
  }
}

/** A forwarder as a careless server makes one: it reads leniently and passes on the fields as they came. */
function startNaive(upstreamPort: number): Promise<Server> {
  const server = createServer(
    { insecureHTTPParser: true },
    (request: IncomingMessage, response) => {
      const upstream = connect(upstreamPort, '127.0.0.1', () => {
        const { rawHeaders } = request;
        upstream.write(
          `${request.method} ${request.url} HTTP/1.1\r\n${rawHeaders.flatMap((name, i) => (i % 2 === 0 ? [`${name}: ${rawHeaders[i + 1] ?? ''}\r\n`] : [])).join('')}\r\n`,
          'latin1',
        );
        request.pipe(upstream, { end: false });
      });
      upstream.on('error', () => response.destroy());
      upstream.on('data', () => response.end('ok'));
      request.on('error', () => upstream.destroy());
      response.on('close', () => upstream.destroy());
    },
  );
  server.on('clientError', (_, socket) => socket.destroy());
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

await runGoal('B5', async ({ random, full, progress }) => {
  const upstream = await startRawUpstream();
  const cluster = await startCluster({ redis: false, start: false });
  try {
    await cluster.startGateway({
      GATEWAY_ROUTES: JSON.stringify([
        { path: '/api', upstream: upstream.url },
        { path: '/open', upstream: upstream.url, auth: 'none' },
      ]),
    });
    const { cookie } = await cluster.session('demo');
    const findings: string[] = [];
    const run = async (name: string, port: number, cases: number) => {
      const counts = { cases: 0, refused: 0, reached: 0, faults: 0, unanswered: 0 };
      const reasons = new Set<string>();
      for (let done = 0; done < cases; done += PARALLEL) {
        const batch = Array.from({ length: Math.min(PARALLEL, cases - done) }, (_, i) => ({
          id: `${name}-${done + i}-`,
          ...attack(random, `${name}-${done + i}-`, cookie),
        }));
        const answers = await Promise.all(
          batch.map(({ bytes }) => onTheWire(port, bytes, { silenceMs: 2_000 })),
        );
        await delay(15);
        // What arrived late belongs to this batch too: every connection to the upstream is closed after its answer.
        const arrived = upstream.connections.map(({ bytes }) => bytes);
        upstream.clear();
        batch.forEach(({ id, kind, mustRefuse, bytes }, i) => {
          counts.cases++;
          const mine = arrived.filter((sent) => sent.includes(id));
          if (mine.length > 0) counts.reached++;
          else if (answers[i]?.statuses.some((status) => status >= 400) || answers[i]?.closed)
            counts.refused++;
          else counts.unanswered++;
          const served = answers[i]?.statuses.some((status) => status === 200) ?? false;
          const found =
            mine.map((sent) => fault(sent, id)).find((reason) => reason !== null) ??
            (mustRefuse && mine.length > 0 && served ? 'ambiguous framing was served' : null);
          if (found === null) return;
          counts.faults++;
          reasons.add(found.split(':')[0] ?? found);
          if (name === 'gateway')
            findings.push(`${kind}: ${found}; ${JSON.stringify(bytes.slice(0, 300))}`);
        });
        const hidden = arrived.filter(
          (sent) => sent.includes('smuggled HTTP/1.1') && sent.indexOf('smuggled HTTP/1.1') < 40,
        ).length;
        counts.faults += hidden;
        if (hidden > 0) reasons.add('a hidden request');
        if (hidden > 0 && name === 'gateway')
          findings.push(
            `a hidden request reached the upstream, from one of ${batch.map(({ kind }) => kind).join(', ')}`,
          );
        progress(
          () =>
            `${name}: ${counts.cases} of ${cases}, ${counts.refused} refused, ${counts.faults} faults`,
        );
      }
      return { ...counts, reasons: [...reasons] };
    };
    const gateway = await run(
      'gateway',
      Number(new URL(cluster.url).port),
      full ? FULL_CASES : CASES,
    );
    const naive = await startNaive(upstream.port);
    const control = await run('control', (naive.address() as { port: number }).port, CONTROL_CASES);
    naive.closeAllConnections();
    naive.close();
    return {
      passed:
        gateway.faults === 0 &&
        gateway.unanswered === 0 &&
        gateway.refused > 0 &&
        gateway.reached > gateway.cases / 10 &&
        ['a claim that passed', 'a body of two lengths'].every((reason) =>
          control.reasons.includes(reason),
        ),
      ...gateway,
      control,
      ...(findings.length > 0 ? { findings: findings.slice(0, 10) } : {}),
    };
  } finally {
    await cluster.dispose();
    await upstream.close();
  }
});
