// `pnpm test`: every suite of every project. Suites whose services are missing are named with the reason, never silently
// left out; with REQUIRE_SERVICES=1 a missing service is a failure. Ends with `N passed, N failed, N skipped`.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

const RESULTS = 'dist/test-results';
const scratch = mkdtempSync(join(tmpdir(), 'session-gateway-test-'));
const SKIP_LOG = join(scratch, 'skipped');
rmSync(RESULTS, { recursive: true, force: true });

const nx = (...args) => spawnSync(join('node_modules', '.bin', 'nx'), args, {
  stdio: ['ignore', 'inherit', 'inherit'],
  env: { ...process.env, SKIP_LOG },
}).status === 0;

const flags = ['--outputStyle=stream', '--nxBail=false'];
// Services are shared by the whole machine, so suites that start them go one after the other.
const ok = [nx('run-many', '-t', 'test', ...flags), nx('run-many', '-t', 'integration', '--parallel=1', ...flags)].every(Boolean);

const sum = { passed: 0, failed: 0, skipped: 0 };
console.log('\nSuites');
for (const file of readdirSafely(RESULTS)) {
  const result = JSON.parse(readFileSync(join(RESULTS, file), 'utf8'));
  // A suite that does not even load has no tests that could fail.
  const failed = result.numFailedTests + result.numRuntimeErrorTestSuites;
  sum.passed += result.numPassedTests;
  sum.failed += failed;
  sum.skipped += result.numPendingTests;
  console.log(`  ${failed > 0 ? 'FAIL' : 'ok  '} ${file.replace(/\.json$/, '').padEnd(32)} ${result.numPassedTests} passed, ${failed} failed, ${result.numPendingTests} skipped`);
  for (const failure of failures(result)) console.log(`       ${failure}`);
}
const skipped = readSafely(SKIP_LOG).split('\n').filter(Boolean);
if (skipped.length > 0) console.log(`\nSkipped for want of a service\n${[...new Set(skipped)].map((line) => `  ${line}`).join('\n')}`);
rmSync(scratch, { recursive: true, force: true });

if (!ok && sum.failed === 0) sum.failed = 1;
console.log(`\n${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
process.exit(ok && sum.failed === 0 ? 0 : 1);

/** One line for each test that failed, and for each file that did not load, with the first line of the reason. */
function failures({ testResults }) {
  const reason = (message) => stripVTControlCharacters(message ?? '').split('\n').map((line) => line.trim()).find(Boolean) ?? '';
  return testResults.flatMap(({ name, message, assertionResults }) => {
    const failed = assertionResults.filter(({ status }) => status === 'failed');
    const file = relative('.', name);
    if (failed.length > 0) return failed.map(({ fullName, failureMessages }) => `${file}: ${fullName}: ${reason(failureMessages[0])}`);
    return assertionResults.length === 0 && message ? [`${file}: ${reason(message)}`] : [];
  });
}

function readdirSafely(folder) {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function readSafely(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
