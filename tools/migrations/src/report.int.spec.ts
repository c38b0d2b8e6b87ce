import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { freePort, until } from '@session-gateway/testkit';
import * as h from './testing/jobHarness.js';
import { type Ground, onFreshDatabase } from './testing/onFreshDatabase.js';

interface Report {
  sha256: string;
  table: { after?: { bytes: number } };
}

describe('what a job leaves to be read', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'job-report-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  let { db, env } = {} as Ground;
  onFreshDatabase((ground) => {
    ({ db, env } = ground);
  });
  const read = async (file: string): Promise<Report> =>
    JSON.parse(await readFile(join(folder, file), 'utf8')) as Report;

  test('a report says who, when, what, with which keys and what was checked, and never a value', async () => {
    const rows = h.mixedRows(300, h.random(1));
    await h.insertRows(db, rows);
    const exit = await h.runJob(
      ['--execute', '--json', '--report', join(folder, 'done.json')],
      env,
    );
    const report = await read('done.json');
    expect(exit.code).toBe(0);
    expect(exit.stderr).toContain(`SHA-256 ${report.sha256}`);
    expect(report).toMatchObject({
      who: { user: expect.any(String), host: expect.any(String), databaseRole: 'postgres' },
      what: { mode: 'execute', run: exit.json.run, target: 'k26b', exitCode: 0 },
      where: {
        table: 'user_sessions',
        database: new URL(env['DATABASE_URL'] ?? '').pathname.slice(1),
      },
      counts: { scanned: 300, changed: exit.json.changed, quarantined: 0 },
      keys: expect.arrayContaining([
        { kid: 'k26b', fingerprint: h.keyring.fingerprint('k26b'), primary: true },
      ]),
      checks: expect.arrayContaining([
        { check: 'a sweep from the start found nothing left to write', passed: true },
      ]),
    });
    expect(report.table.after?.bytes).toBeGreaterThan(100_000);
    const markdown = await readFile(join(folder, 'done.md'), 'utf8');
    for (const word of [
      String(exit.json.run),
      'k26b',
      '[x] every value that was met opens',
      report.sha256,
    ])
      expect(markdown).toContain(word);
    const text = JSON.stringify(report) + markdown;
    for (const secret of [
      h.KEY_TEXT,
      ...rows.flatMap(({ stored }) =>
        Object.values(stored)
          .filter((value) => value)
          .map((value) => String(value).slice(0, 40)),
      ),
    ])
      expect(text).not.toContain(secret);

    expect(await h.runJob(['check-report', join(folder, 'done.json')], {})).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(report.sha256),
    });
    expect(await h.runJob(['--verify', '--report', join(folder, 'done.md')], env)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('is there already'),
    });
    expect(
      await h.runJob(['--verify', '--report', join(folder, 'no', 'where.json')], env),
    ).toMatchObject({ code: 2, stderr: expect.stringContaining('there is no folder') });
    expect(
      await h.runJob(['--verify', '--report', join(folder, 'done.json', 'in-a-file')], env),
    ).toMatchObject({ code: 2, stderr: expect.stringContaining('there is no folder') });
  });

  test('a report that cannot be written at the end takes nothing back of what was done, and says so', async () => {
    await h.insertRows(
      db,
      h.mixedRows(200, () => 0.99),
    );
    const away = await mkdtemp(join(tmpdir(), 'report-away-'));
    const job = h.startJob(
      [
        '--execute',
        '--json',
        '--chunk-size',
        '10',
        '--max-rows-per-second',
        '200',
        '--report',
        join(away, 'done'),
      ],
      env,
    );
    await until(() => /\brun \S+/.test(job.stderr()), { timeoutMs: 20_000, what: 'the run' });
    await rm(away, { recursive: true });
    const exit = await job.exited;
    expect(exit).toMatchObject({
      code: 1,
      json: { changed: 200 },
      stderr: expect.stringContaining(
        'the job has come to its end, but its report could not be written',
      ),
    });
    expect(exit.stderr).not.toMatch(/nothing was changed|cannot be reached/i);
  });

  test('whoever has no name, as in a container, can have a report', async () => {
    // As Node does for a user id that the system has no name for.
    const nameless = `import os from 'node:os'; import { syncBuiltinESMExports } from 'node:module'; os.userInfo = () => { throw new Error('uv_os_get_passwd returned ENOENT'); }; syncBuiltinESMExports()`;
    const program = [
      process.execPath,
      '--import',
      `data:text/javascript,${encodeURIComponent(nameless)}`,
      h.PROGRAM,
      'encrypt-tokens',
    ];
    expect(
      await h.startJob(['--verify', '--json', '--report', join(folder, 'nameless')], env, program)
        .exited,
    ).toMatchObject({ code: expect.any(Number), stderr: expect.stringContaining('report in') });
    expect(await read('nameless.json')).toMatchObject({ who: { user: 'a user without a name' } });
  });

  test('a report that was changed, in either file, is told from one that was not', async () => {
    await h.insertRows(
      db,
      h.mixedRows(5, () => 0.99),
    );
    const file = join(folder, 'verified');
    expect((await h.runJob(['--verify', '--report', file], env)).code).toBe(3);
    const [json, markdown] = [
      await readFile(`${file}.json`, 'utf8'),
      await readFile(`${file}.md`, 'utf8'),
    ];
    expect(JSON.parse(json)).toMatchObject({
      checks: expect.arrayContaining([
        { check: 'every value that was met is under the key k26b', passed: false },
      ]),
    });
    const checked = (): Promise<h.JobExit> => h.runJob(['check-report', file], {});
    // Another order of members and other blanks are the same report.
    await writeFile(
      `${file}.json`,
      JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(json) as object).reverse())),
    );
    expect((await checked()).code).toBe(0);
    await writeFile(`${file}.json`, json.replace('"exitCode": 3', '"exitCode": 0'));
    expect(await checked()).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('has been changed since it was written'),
    });
    await writeFile(`${file}.json`, json);
    await writeFile(`${file}.md`, markdown.replace('[ ]', '[x]'));
    expect(await checked()).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('does not say what'),
    });
    expect(await h.runJob(['check-report', join(folder, 'nothing')], {})).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('cannot be read as a report'),
    });
    expect(await h.runJob(['check-report'], {})).toMatchObject({ code: 2 });
  });

  test('a sample is verified by as many rows as were asked for, and one bad value in a full sample is found', async () => {
    await h.insertRows(
      db,
      h.mixedRows(400, () => 0.99),
    );
    expect((await h.runJob(['--execute', '--json'], env)).code).toBe(0);
    expect(await h.runJob(['--verify', '--json', '--sample', '150'], env)).toMatchObject({
      code: 0,
      json: { mode: 'verify', scanned: 150, alreadyCurrent: 450 },
    });
    await db.sql.query(`UPDATE user_sessions SET id_token = 'in the clear' WHERE id = 's-000123'`);
    expect(await h.runJob(['--verify', '--json', '--sample', '100000'], env)).toMatchObject({
      code: 3,
      json: { scanned: 400, remaining: { plain: 1 } },
    });
  });

  test('a dry run says what would be quarantined and why, and how much would be written', async () => {
    await h.insertRows(
      db,
      h.mixedRows(600, () => 0.99),
    );
    await db.sql.query(`UPDATE user_sessions SET access_token = 'v2.broken' WHERE id = 's-000003'`);
    await db.sql.query(`UPDATE user_sessions SET id_token = $1 WHERE id = 's-000004'`, [
      h.sealed('moved', 'another row', 'id_token'),
    ]);
    await db.sql.query(`UPDATE user_sessions SET id_token = $1 WHERE id = 's-000005'`, [
      h.sealed('in its place', 's-000005', 'id_token'),
    ]);
    await db.sql.query('VACUUM ANALYZE user_sessions');
    const wal = async (): Promise<number> =>
      Number(
        (await db.sql.query<{ wal: string }>(`SELECT pg_current_wal_lsn() - '0/0' AS wal`))[0]?.wal,
      );
    const { stdout } = await h.runJob([], env);
    expect(stdout).toMatch(
      /would be quarantined +2 \((malformed 1, not_authentic 1|not_authentic 1, malformed 1)\)/,
    );
    expect(stdout).toContain('access_token of row s-000003: malformed');
    expect(stdout).toContain('id_token of row s-000004: not_authentic');
    const estimate = Number(/WAL +about (\d+) MB/.exec(stdout)?.[1]) * 1e6;
    const before = await wal();
    expect((await h.runJob(['--execute'], env)).code).toBe(3);
    const written = (await wal()) - before;
    expect(estimate).toBeGreaterThan(written / 3);
    expect(estimate).toBeLessThan(written * 3);
  });

  test('metrics can be scraped while it runs, and a port that is taken is said before anything is done', async () => {
    await h.insertRows(
      db,
      h.mixedRows(200, () => 0.99),
    );
    const port = await freePort();
    const job = h.startJob(
      [
        '--execute',
        '--json',
        '--chunk-size',
        '10',
        '--max-rows-per-second',
        '50',
        '--metrics-port',
        String(port),
      ],
      env,
    );
    const text = await until(
      async () => {
        const found = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
        return found.includes('reason="rows_per_second"} 1') && found;
      },
      { timeoutMs: 20_000, what: 'metrics' },
    );
    expect(text).toMatch(/^token_encryption_rows_changed_total [1-9]\d*$/m);
    expect(await h.runJob(['--execute', '--metrics-port', String(port)], env)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('EADDRINUSE'),
    });
    job.child.kill('SIGTERM');
    expect((await job.exited).code).toBe(130);
  });
});
