import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { afterAll, describe, expect, test } from '@jest/globals';
import { describeWith, type Service } from './needs.js';

const folder = mkdtempSync(join(tmpdir(), 'testkit-needs-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Declares a suite with a need on a machine whose PATH has nothing, with stand-ins for Jest's globals. */
function declare(
  env: Record<string, string>,
  service: Service = 'redis',
): { said: string[]; log: string } {
  const log = join(folder, 'skipped');
  writeFileSync(log, '');
  const said: string[] = [];
  const standIns = {
    describe: Object.assign(
      (name: string, fn: () => void): void => {
        said.push(`describe ${name}`);
        fn();
      },
      { skip: (name: string): void => void said.push(`skip ${name}`) },
    ),
    test(_name: string, fn: () => void): void {
      try {
        fn();
      } catch (error) {
        said.push(`failed ${(error as Error).message}`);
      }
    },
  };
  const globals = globalThis as Record<string, unknown>;
  const before = { env: process.env, describe: globals['describe'], test: globals['test'] };
  process.env = { PATH: folder, SKIP_LOG: log, ...env };
  Object.assign(globals, standIns);
  try {
    describeWith([service], 'the cache', () => void said.push('runs'));
  } finally {
    process.env = before.env;
    Object.assign(globals, { describe: before.describe, test: before.test });
  }
  return { said, log: readFileSync(log, 'utf8') };
}

describe('a suite whose services are missing', () => {
  test('is skipped, and the log names it and the reason', () => {
    const { said, log } = declare({});
    expect(said).toEqual(['skip the cache']);
    expect(log).toMatch(
      /^the cache: no redis-server on the PATH \(.*apt-get install redis-server\)\n$/,
    );
  });

  test('fails when services are required', () => {
    const { said, log } = declare({ REQUIRE_SERVICES: '1' });
    expect(said).toEqual([
      'describe the cache',
      expect.stringMatching(/^failed REQUIRE_SERVICES=1, but: no redis-server/),
    ]);
    expect(log).toBe('');
  });

  test('is told which program of a need that has two is missing, and runs when both are there', () => {
    const path = mkdtempSync(join(folder, 'path-'));
    const put = (program: string): void => {
      writeFileSync(join(path, program), '');
      chmodSync(join(path, program), 0o755);
    };
    expect(declare({ PATH: path }, 'python3+openssl').log).toMatch(
      /no python3 and no openssl on the PATH .*install python3 openssl\)/,
    );
    put('python3');
    expect(declare({ PATH: path }, 'python3+openssl').log).toMatch(
      /^the cache: no openssl on the PATH .*install openssl\)\n$/,
    );
    put('openssl');
    expect(declare({ PATH: path }, 'python3+openssl')).toEqual({
      said: ['describe the cache', 'runs'],
      log: '',
    });
  });
});
