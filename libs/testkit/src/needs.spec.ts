import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import type { Service } from './needs.js';

const folder = mkdtempSync(join(tmpdir(), 'testkit-needs-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a suite with a need on a machine whose PATH has nothing, with stand-ins for Jest's globals. */
function run(env: Record<string, string>, service: Service = 'redis'): { stdout: string; log: string } {
  const log = join(folder, 'skipped');
  writeFileSync(log, '');
  const script = `
    globalThis.describe = (name, fn) => { console.log('describe', name); fn(); };
    globalThis.describe.skip = (name) => console.log('skip', name);
    globalThis.test = (name, fn) => { try { fn(); } catch (error) { console.log('failed', error.message); } };
    const { describeWith } = await import(${JSON.stringify(new URL('./needs.ts', import.meta.url).href)});
    describeWith(['${service}'], 'the cache', () => console.log('runs'));
  `;
  const { stdout } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
    encoding: 'utf8', env: { PATH: folder, SKIP_LOG: log, ...env },
  });
  return { stdout, log: readFileSync(log, 'utf8') };
}

describe('a suite whose services are missing', () => {
  test('is skipped, and the log names it and the reason', () => {
    const { stdout, log } = run({});
    expect(stdout).toBe('skip the cache\n');
    expect(log).toMatch(/^the cache: no redis-server on the PATH \(.*apt-get install redis-server\)\n$/);
  });

  test('fails when services are required', () => {
    const { stdout, log } = run({ REQUIRE_SERVICES: '1' });
    expect(stdout).toMatch(/^describe the cache\nfailed REQUIRE_SERVICES=1, but: no redis-server/);
    expect(log).toBe('');
  });

  test('is told which program of a need that has two is missing, and runs when both are there', () => {
    const path = mkdtempSync(join(folder, 'path-'));
    const put = (program: string): void => {
      writeFileSync(join(path, program), '');
      chmodSync(join(path, program), 0o755);
    };
    expect(run({ PATH: path }, 'python3+openssl').log).toMatch(/no python3 and no openssl on the PATH .*install python3 openssl\)/);
    put('python3');
    expect(run({ PATH: path }, 'python3+openssl').log).toMatch(/^the cache: no openssl on the PATH .*install openssl\)\n$/);
    put('openssl');
    expect(run({ PATH: path }, 'python3+openssl')).toEqual({ stdout: 'describe the cache\nruns\n', log: '' });
  });
});
