import { fork } from 'node:child_process';
import { connect } from 'node:net';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { median } from '../../harness/statistics.js';

export interface Load {
  readonly port: number;
  readonly path: string;
  /** One set of fields, or several that the connections take in turn. */
  readonly headers: Readonly<Record<string, string>> | readonly Readonly<Record<string, string>>[];
  readonly connections: number;
  readonly seconds: number;
}

export interface Measured {
  readonly requests: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Answers with any other status than 200. */
  readonly others: number;
}

/** GET requests over so many kept connections, one at a time on each, from a process of its own. */
export function measure(load: Load): Promise<Measured> {
  const child = fork(fileURLToPath(import.meta.url), [], {
    execArgv: ['--import', 'tsx'],
    env: { ...process.env, BENCH_LOAD: JSON.stringify(load) },
  });
  return new Promise((resolve, reject) => {
    child.once('message', (measured) => resolve(measured as Measured));
    child.once('exit', (code) => reject(new Error(`the load generator ended with ${code}`)));
  });
}

/**
 * Bare sockets and one prepared request: a generator that costs as much as the server would measure itself. An answer
 * is counted once its head is there, and as many bytes as it announces.
 */
async function generate({ port, path, headers, connections, seconds }: Load): Promise<Measured> {
  const requests = [headers].flat().map((fields) =>
    Buffer.from(
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${Object.entries(fields)
        .map(([name, value]) => `${name}: ${value}\r\n`)
        .join('')}\r\n`,
      'latin1',
    ),
  );
  const began = performance.now();
  const until = began + seconds * 1000;
  const took: number[] = [];
  let others = 0;
  await Promise.all(
    Array.from(
      { length: connections },
      (_, connection) =>
        new Promise<void>((resolve, reject) => {
          const request = requests[connection % requests.length] ?? '';
          const socket = connect({ port, host: '127.0.0.1', noDelay: true });
          let [sentAt, expected, received] = [0, -1, 0];
          const send = (): void => {
            [sentAt, expected, received] = [performance.now(), -1, 0];
            socket.write(request);
          };
          socket.on('connect', send);
          socket.on('error', reject);
          socket.on('close', () => resolve());
          socket.on('data', (piece) => {
            received += piece.length;
            if (expected === -1) {
              const head = piece.toString('latin1');
              const end = head.indexOf('\r\n\r\n');
              if (end === -1) return reject(new Error('a head in pieces'));
              const length = /\r\ncontent-length: (\d+)/i.exec(head);
              if (length === null && !/\r\ntransfer-encoding: chunked/i.test(head))
                return reject(new Error('an answer of unknown length'));
              if (!head.startsWith('HTTP/1.1 200')) others++;
              expected = length === null ? Infinity : end + 4 + Number(length[1]);
            }
            // Chunks: the small answers that are measured here end in the piece that brings the last one.
            if (
              received < expected &&
              !(expected === Infinity && piece.subarray(-5).toString('latin1') === '0\r\n\r\n')
            )
              return;
            const now = performance.now();
            took.push(now - sentAt);
            if (now < until) send();
            else socket.destroy();
          });
        }),
    ),
  );
  const elapsedSeconds = (performance.now() - began) / 1000;
  took.sort((a, b) => a - b);
  const at = (share: number): number =>
    Math.round((took[Math.floor(took.length * share)] ?? 0) * 1000) / 1000;
  return {
    requests: took.length,
    perSecond: Math.round(took.length / elapsedSeconds),
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    others,
  };
}

if (process.send && process.env['BENCH_LOAD']) {
  const measured = await generate(JSON.parse(process.env['BENCH_LOAD']) as Load);
  process.send(measured, () => process.disconnect());
}

/**
 * Measures several servers in turn, round after round, so that what disturbs one disturbs all; medians of the rounds.
 */
export async function compare<Name extends string>(
  loads: Readonly<Record<Name, Load>>,
  rounds: number,
  onRound: (round: number, name: string, measured: Measured) => void,
): Promise<Record<Name, Measured>> {
  const names = Object.keys(loads) as Name[];
  const found = Object.fromEntries(names.map((name) => [name, [] as Measured[]])) as Record<
    Name,
    Measured[]
  >;
  // Once for the compiler, then for the count.
  for (const name of names) await measure({ ...loads[name], seconds: 2 });
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 === 0 ? names : [...names].reverse()) {
      const measured = await measure(loads[name]);
      found[name].push(measured);
      onRound(round, name, measured);
    }
  }
  return Object.fromEntries(
    names.map((name) => {
      const of = (field: keyof Measured): number =>
        median(found[name].map((measured) => measured[field]));
      return [
        name,
        {
          requests: of('requests'),
          perSecond: of('perSecond'),
          p50Ms: of('p50Ms'),
          p99Ms: of('p99Ms'),
          others: Math.max(...found[name].map(({ others }) => others)),
        },
      ];
    }),
  ) as Record<Name, Measured>;
}
