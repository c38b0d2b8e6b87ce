// The goals that every change must meet, at their small size, one after the other: each measures on its own.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** What is measured by hand only (`npx nx run goals:ID -- --full`) is not here, and no ratio of times: those depend on who else is at work. */
const GOALS = ['B1', 'B2', 'B3', 'B4', 'B5', 'B6', 'B7', 'F1', 'F2', 'F3', 'F4', 'F5', 'F6', 'F7', 'F9', 'F10', 'F11', 'F12', 'P3'];

/** The commit's own, told in every result: a commit is judged by the same inputs however often, the next one by others. */
const seed = Number.parseInt(execFileSync('git', ['rev-parse', 'HEAD'], { encoding: 'utf8' }).slice(0, 8), 16);

const sum = { passed: 0, failed: 0 };
for (const goal of GOALS) {
  const began = Date.now();
  const program = `tools/goals/src/${goal}.ts`;
  const { status, stdout } = existsSync(program)
    ? spawnSync(process.execPath, ['--import', 'tsx', program, '--seed', String(seed)], { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' })
    : { status: 1, stdout: 'there is no such goal' };
  const passed = status === 0;
  sum[passed ? 'passed' : 'failed']++;
  console.log(`${passed ? 'ok  ' : 'FAIL'} ${goal} in ${Math.round((Date.now() - began) / 1000)} s: ${stdout.trim().split('\n').at(-1)}`);
}
console.log(`\n${sum.passed} passed, ${sum.failed} failed`);
process.exit(sum.failed === 0 ? 0 : 1);
