import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { expect, test } from '@jest/globals';
import { describeUnless, describeWith } from '@session-gateway/testkit';
import { ROOT } from './files.js';

/** Runs a program that judges a file of `deploy/`. */
const run = (program: string, ...args: string[]): SpawnSyncReturns<string> =>
  spawnSync(program, args, { cwd: ROOT, encoding: 'utf8' });

describeWith(['promtool'], 'promtool', () => {
  test('sees the alerts fire and stay quiet as their unit tests say', () => {
    const { status, stdout, stderr } = run(
      'promtool',
      'test',
      'rules',
      'deploy/prometheus/alert-rules.test.yaml',
    );
    expect([status, stdout + stderr]).toEqual([0, expect.stringContaining('SUCCESS')]);
  });
});

const noSystemd = run('systemd-analyze', '--version').error ? 'no systemd-analyze' : null;
describeUnless(noSystemd, 'systemd-analyze', () => {
  const exposedBeyond = (tenths: number): boolean =>
    run(
      'systemd-analyze',
      'security',
      '--offline=true',
      `--threshold=${tenths}`,
      'deploy/systemd/session-gateway.service',
    ).status !== 0;

  test('finds the unit exposed by 2.0 at most', () => {
    expect([exposedBeyond(20), exposedBeyond(10)]).toEqual([false, true]);
  });
});
