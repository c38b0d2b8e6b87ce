import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from '@jest/globals';
import { childrenOf, isAlive, startChild } from './child.js';
import { until } from './until.js';

describe('a child process', () => {
  test('tells its output, its exit code and that it is gone', async () => {
    const child = await startChild('/bin/sh', ['-c', 'echo out; echo err >&2; exit 3']);
    expect(await child.exited).toEqual({ code: 3, signal: null });
    expect([child.stdout(), child.stderr()]).toEqual(['out\n', 'err\n']);
    expect(child.signal('SIGTERM')).toBe(false);
  });

  test('that does not exist is an error that names it', async () => {
    await expect(startChild('/no/such/program', [])).rejects.toThrow(
      'cannot start /no/such/program',
    );
  });

  test('ends when its parent is killed', async () => {
    const script = `
      import { startChild } from ${JSON.stringify(new URL('./child.ts', import.meta.url).href)};
      process.stdout.write(String((await startChild('sleep', ['60'])).pid));
    `;
    const parent = spawn(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '-e', script],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const [text] = (await once(parent.stdout, 'data')) as [Buffer];
    const pid = Number(text.toString());
    expect(isAlive(pid)).toBe(true);
    expect(childrenOf(parent.pid as number)).toContain(pid);
    parent.kill('SIGKILL');
    await until(() => !isAlive(pid), { what: 'the end of the child' });
  });
});

describe('until', () => {
  test('resolves with what was seen and tells the last error when nothing is', async () => {
    let looks = 0;
    expect(await until(() => (looks += 1) > 2 && 'seen', { everyMs: 1 })).toBe('seen');
    const failing = until(() => Promise.reject(new Error('not yet')), {
      timeoutMs: 5,
      everyMs: 1,
      what: 'a miracle',
    });
    await expect(failing).rejects.toMatchObject({
      message: 'a miracle did not come about within 5 ms',
      cause: new Error('not yet'),
    });
  });
});
