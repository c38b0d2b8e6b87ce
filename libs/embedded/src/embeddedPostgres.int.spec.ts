import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { Client } from 'pg';
import { type EmbeddedPostgres, startEmbeddedPostgres } from './embeddedPostgres.js';

const folder = mkdtempSync(join(tmpdir(), 'session-gateway-embedded-'));
const started: EmbeddedPostgres[] = [];
afterAll(async () => {
  await Promise.all(started.map((postgres) => postgres.stop()));
  rmSync(folder, { recursive: true, force: true });
});
async function start(dataDir: string): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres({ dataDir });
  started.push(postgres);
  return postgres;
}
const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};
/** Whether PostgreSQL answers there: it says N to the question for TLS. */
const speaks = (url: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () =>
      socket.write(Buffer.from([0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f])),
    );
    socket
      .once('data', (answer) => {
        socket.destroy();
        resolve(['N', 'S'].includes(answer.toString('latin1')));
      })
      .once('error', () => resolve(false));
  });

test('the embedded PostgreSQL is made at the first start, found by a second one, and stopped only by who started it', async () => {
  const dataDir = join(folder, 'plain');
  const first = await start(dataDir);
  expect([first.startedHere, await speaks(first.url)]).toEqual([true, true]);
  const second = await start(dataDir);
  expect(second).toMatchObject({ url: first.url, pid: first.pid, startedHere: false });
  await second.stop();
  expect(alive(first.pid)).toBe(true);
  await first.stop();
  expect(alive(first.pid)).toBe(false);
  const again = await start(dataDir);
  expect([again.startedHere, new URL(again.url).password]).toEqual([
    true,
    new URL(first.url).password,
  ]);
});

test('several starts at once end with one server', async () => {
  const all = await Promise.all([1, 2, 3].map(() => start(join(folder, 'race'))));
  expect(new Set(all.map(({ pid }) => pid)).size).toBe(1);
  expect(all.filter(({ startedHere }) => startedHere)).toHaveLength(1);
});

test('a start while the last server is still stopping waits for its end', async () => {
  const dataDir = join(folder, 'stopping');
  const first = await start(dataDir);
  // SIGTERM lets clients that are connected go on, so the end comes when this one leaves.
  const client = new Client({ connectionString: first.url });
  await client.connect();
  process.kill(first.pid, 'SIGTERM');
  const status = (): string | undefined =>
    readFileSync(join(dataDir, 'cluster/postmaster.pid'), 'utf8').split('\n')[7]?.trim();
  while (status() !== 'stopping') await new Promise((resolve) => setTimeout(resolve, 5));
  const again = start(dataDir);
  await new Promise((resolve) => setTimeout(resolve, 500));
  await client.end();
  const second = await again;
  expect([second.startedHere, second.pid === first.pid, await speaks(second.url)]).toEqual([
    true,
    false,
    true,
  ]);
});

test('a server that was killed is started again, also when its pid file names another program', async () => {
  const dataDir = join(folder, 'killed');
  const first = await start(dataDir);
  process.kill(first.pid, 'SIGKILL');
  const pidFile = join(dataDir, 'cluster/postmaster.pid');
  const left = readFileSync(pidFile, 'utf8').split('\n');
  writeFileSync(pidFile, [process.pid, ...left.slice(1)].join('\n'));
  const second = await start(dataDir);
  expect([second.startedHere, await speaks(second.url)]).toEqual([true, true]);
});

test.each(['throw new Error("failed")', 'process.exit(1)'])(
  'a server ends with the process that started it: %s',
  async (end) => {
    const script = `
    import { startEmbeddedPostgres } from ${JSON.stringify(new URL('./embeddedPostgres.ts', import.meta.url).href)};
    const { pid } = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(join(folder, 'orphan'))} });
    process.stdout.write(String(pid));
    ${end};
  `;
    const { stdout, status } = spawnSync(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '-e', script],
      { encoding: 'utf8' },
    );
    const pid = Number(stdout);
    expect([status, pid]).toEqual([1, expect.any(Number)]);
    for (const given = Date.now() + 10_000; Date.now() < given && alive(pid);)
      await new Promise((resolve) => setTimeout(resolve, 20));
    const left = alive(pid);
    if (left) process.kill(pid, 'SIGQUIT');
    expect(left).toBe(false);
  },
);

test('a folder that is closed to others is no obstacle', async () => {
  const closed = join(folder, 'closed');
  mkdirSync(closed);
  chmodSync(closed, 0o700);
  expect(await speaks((await start(join(closed, 'deep'))).url)).toBe(true);
});

test('a folder that cannot be written is named', async () => {
  writeFileSync(join(folder, 'file'), '');
  await expect(startEmbeddedPostgres({ dataDir: join(folder, 'file/below') })).rejects.toThrow(
    /file/,
  );
});
