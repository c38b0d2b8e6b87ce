// Runs one project's specs: `node tools/jest.mjs <project root> unit|integration [jest flags]`.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const LEFT_OPEN_MS = 20_000;

const [projectRoot, kind, ...flags] = process.argv.slice(2);
const { name } = JSON.parse(readFileSync(resolve(projectRoot, 'project.json'), 'utf8'));
const jest = resolve(createRequire(import.meta.url).resolve('jest/package.json'), '../bin/jest.js');

mkdirSync('dist/test-results', { recursive: true });
const results = resolve('dist/test-results', `${name}.${kind}.json`);
rmSync(results, { force: true });
/** `LEAVE_OUT`: paths of specs with a `|` between them, for a quick run. */
const { LEAVE_OUT } = process.env;
const leftOut = LEAVE_OUT ? ['--passWithNoTests', `--testPathIgnorePatterns=${LEAVE_OUT}`] : [];
const child = spawn(
  process.execPath,
  [
    '--experimental-vm-modules',
    '--disable-warning=ExperimentalWarning',
    jest,
    '-c',
    resolve(projectRoot, 'jest.config.js'),
    '--json',
    '--outputFile',
    results,
    ...(kind === 'integration' ? ['--runInBand'] : []),
    ...(kind === 'integration' ? leftOut : []),
    ...flags,
  ],
  // With --json, jest prints the whole result on stdout; the file is what counts.
  { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, TEST_KIND: kind } },
);

// A suite that leaves a timer or a connection open would keep jest waiting for ever: that is a failure, told as one.
let done = 0;
const watch = setInterval(() => {
  if (done > 0 && Date.now() - done > LEFT_OPEN_MS) child.kill('SIGKILL');
  if (done === 0 && existsSync(results)) done = Date.now();
}, 1_000);
child.on('exit', (status, signal) => {
  clearInterval(watch);
  if (signal)
    console.error(
      `the specs of ${name} ${done > 0 ? 'have run, but left something open' : 'were ended'} (${signal})`,
    );
  process.exit(status ?? 1);
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
