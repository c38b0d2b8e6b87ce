// Runs one project's specs: `node tools/jest.mjs <project root> unit|integration [jest flags]`.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const [projectRoot, kind, ...flags] = process.argv.slice(2);
const { name } = JSON.parse(readFileSync(resolve(projectRoot, 'project.json'), 'utf8'));
const jest = resolve(createRequire(import.meta.url).resolve('jest/package.json'), '../bin/jest.js');

mkdirSync('dist/test-results', { recursive: true });
const { status, signal } = spawnSync(
  process.execPath,
  [
    '--experimental-vm-modules', '--disable-warning=ExperimentalWarning', jest,
    '-c', resolve(projectRoot, 'jest.config.js'),
    '--json', '--outputFile', resolve('dist/test-results', `${name}.${kind}.json`),
    ...(kind === 'integration' ? ['--runInBand'] : []),
    ...flags,
  ],
  // With --json, jest prints the whole result on stdout; the file is what counts.
  { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, TEST_KIND: kind } },
);
if (signal) console.error(`the specs of ${name} were ended by ${signal}`);
process.exit(status ?? 1);
