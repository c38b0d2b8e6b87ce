// The goals that every change must meet, at their small size. Ends with `N passed, N failed`.
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';

/*
 * What is measured by hand only (`npx nx run goals:ID -- --full`) is not here, and no ratio of times: those depend on who
 * else is at work.
 */
/** These judge how long something takes, or keep both cores busy with a browser, so each runs on its own. */
const ALONE = ['B2', 'B3', 'B9', 'F3', 'F5', 'F6', 'F7', 'F9'];
/** These judge outcomes only, so they run three at a time, the longest first. */
const TOGETHER = [
  'D2',
  'D1',
  'F12',
  'F10',
  'F4',
  'F2',
  'F1',
  'F11',
  'B10',
  'P3',
  'B5',
  'B6',
  'B1',
  'B4',
  'B7',
];
const AT_ONCE = 3;

const { targets } = JSON.parse(readFileSync('tools/goals/project.json', 'utf8'));
/** The program of a goal: the last word of its target's command. */
const programOf = (goal) => targets[goal].options.command.split(' ').at(-1);

/** The commit's own, told in every result: a commit is judged by the same inputs however often, the next one by others. */
const seed = Number.parseInt(
  execFileSync('git', ['rev-parse', 'HEAD'], { encoding: 'utf8' }).slice(0, 8),
  16,
);

const sum = { passed: 0, failed: 0 };
/** What failed, told once more at the end: a long log is read from there. */
const failures = [];

async function run(goal) {
  const began = Date.now();
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', programOf(goal), '--seed', String(seed)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const output = await text(child.stdout);
  const passed = (await exited) === 0;
  sum[passed ? 'passed' : 'failed']++;
  const seconds = Math.round((Date.now() - began) / 1000);
  const told = `${passed ? 'ok  ' : 'FAIL'} ${goal} in ${seconds} s: ${output.trim().split('\n').at(-1)}`;
  console.log(told);
  if (!passed) failures.push(told);
}

for (const goal of ALONE) await run(goal);
const waiting = [...TOGETHER];
const lane = async () => {
  for (let goal = waiting.shift(); goal !== undefined; goal = waiting.shift()) await run(goal);
};
await Promise.all(Array.from({ length: AT_ONCE }, lane));

console.log(['', ...failures, `${sum.passed} passed, ${sum.failed} failed`].join('\n'));
process.exit(sum.failed === 0 ? 0 : 1);
