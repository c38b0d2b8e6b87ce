// `pnpm test`: the suites of every project, but for the slowest spec files; with `--whole` those too. Suites whose services
// are missing are named with the reason, never silently left out; with REQUIRE_SERVICES=1, as in CI, a missing service is a
// failure, and the run is whole. Ends with `N passed, N failed, N skipped`.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

/** Projects whose integration specs run side by side: most of their time is waiting for services. */
const AT_ONCE = 2;
const RESULTS = 'dist/test-results';
/** Integration specs that take half a minute and more each, half of the time of all: only a whole run has them. */
const SLOW = [
  'apps/api-gateway-e2e/src/account',
  'apps/api-gateway-e2e/src/artefact',
  'apps/api-gateway-e2e/src/authorization',
  'apps/api-gateway-e2e/src/browser',
  'apps/api-gateway-e2e/src/configuration',
  'apps/api-gateway-e2e/src/dpop',
  'apps/api-gateway-e2e/src/faces',
  'apps/api-gateway-e2e/src/guard',
  'apps/api-gateway-e2e/src/keys',
  'apps/api-gateway-e2e/src/keycloakOptions',
  'apps/api-gateway-e2e/src/legacy',
  'apps/api-gateway-e2e/src/operating',
  'apps/api-gateway-e2e/src/outages',
  'apps/api-gateway-e2e/src/processLives',
  'apps/api-gateway-e2e/src/providerLife',
  'apps/api-gateway-e2e/src/providerLogout',
  'apps/api-gateway-e2e/src/recipes',
  'apps/api-gateway-e2e/src/rollingRestart',
  'apps/api-gateway-e2e/src/rotationRunbook',
  'apps/api-gateway-e2e/src/webSockets',
  'apps/api-gateway-e2e/src/wire',
  'apps/api-gateway-e2e/src/workers',
  'libs/database/src/main',
  'libs/database/src/onlineSteps',
  'libs/keycloak-authV2/src/client/realmCheck',
  'libs/keycloak-authV2/src/services/encryption/reader',
  'libs/keycloak-server/src/keycloak',
  'libs/testkit/src/http',
  'tools/deploy/src/container',
  'tools/deploy/src/haDemo/demo',
  'tools/migrations/src/control',
  'tools/migrations/src/encryptTokens',
  'tools/migrations/src/inspect',
  'tools/migrations/src/keyRotation',
  'tools/migrations/src/keys',
  'tools/migrations/src/loadSignals',
  'tools/migrations/src/losesNothing',
  'tools/migrations/src/main',
  'tools/migrations/src/olderGateways',
  'tools/migrations/src/otherTables',
  'tools/migrations/src/report',
  'tools/migrations/src/runbook',
  'tools/migrations/src/workers',
].map((name) => `${name}.int.spec.ts`);
const whole = process.argv.includes('--whole') || process.env.REQUIRE_SERVICES === '1';
const gone = SLOW.filter((file) => !existsSync(file));
if (gone.length > 0) throw new Error(`tools/test-all.mjs names specs that are gone: ${gone}`);
const scratch = mkdtempSync(join(tmpdir(), 'session-gateway-test-'));
const SKIP_LOG = join(scratch, 'skipped');
rmSync(RESULTS, { recursive: true, force: true });

/** Runs Nx with the environment of the suites, whose lines it prefixes with their project. */
function nx(...args) {
  const child = spawn(join('node_modules', '.bin', 'nx'), args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, SKIP_LOG, LEAVE_OUT: whole ? '' : SLOW.join('|') },
  });
  return new Promise((resolve) => child.once('exit', (code) => resolve(code === 0)));
}

const flags = ['--outputStyle=stream', '--nxBail=false'];
const outcomes = [
  await nx('run-many', '-t', 'test', ...flags),
  await nx('run-many', '-t', 'generate', 'build', 'package', ...flags),
];
const waiting = integrationProjects();
const lane = async () => {
  for (let project = waiting.shift(); project !== undefined; project = waiting.shift())
    outcomes.push(await nx('run-many', '-t', 'integration', '-p', project, ...flags));
};
await Promise.all(Array.from({ length: AT_ONCE }, lane));
const ok = outcomes.every(Boolean);

const sum = { passed: 0, failed: 0, skipped: 0 };
console.log('\nSuites');
for (const file of readdirSafely(RESULTS)) {
  const result = JSON.parse(readFileSync(join(RESULTS, file), 'utf8'));
  // A suite that does not even load has no tests that could fail.
  const failed = result.numFailedTests + result.numRuntimeErrorTestSuites;
  sum.passed += result.numPassedTests;
  sum.failed += failed;
  sum.skipped += result.numPendingTests;
  console.log(
    `  ${failed > 0 ? 'FAIL' : 'ok  '} ${file.replace(/\.json$/, '').padEnd(32)} ${result.numPassedTests} passed, ${failed} failed, ${result.numPendingTests} skipped`,
  );
  for (const failure of failures(result)) console.log(`       ${failure}`);
}
console.log('\nSlowest files');
for (const { file, seconds } of slowest())
  console.log(`  ${String(seconds).padStart(4)} s  ${file}`);
const skipped = readSafely(SKIP_LOG).split('\n').filter(Boolean);
if (skipped.length > 0)
  console.log(
    `\nSkipped for want of a service\n${[...new Set(skipped)].map((line) => `  ${line}`).join('\n')}`,
  );
if (!whole)
  console.log(
    `\nLeft out: ${SLOW.length} slow spec files. npx --yes pnpm@12 test --whole runs them too.`,
  );
rmSync(scratch, { recursive: true, force: true });

if (!ok && sum.failed === 0) sum.failed = 1;
console.log(`\n${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
process.exit(ok && sum.failed === 0 ? 0 : 1);

/** The projects that have integration specs, the one with most of them first, so that no long one is left at the end. */
function integrationProjects() {
  const specsIn = (root) =>
    readdirSync(root, { recursive: true }).filter((file) => file.endsWith('.int.spec.ts')).length;
  return ['apps', 'libs', 'tools']
    .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
    .filter((root) => existsSync(join(root, 'project.json')))
    .map((root) => ({
      name: JSON.parse(readFileSync(join(root, 'project.json'), 'utf8')).name,
      specs: specsIn(root),
    }))
    .filter(({ specs }) => specs > 0)
    .sort((one, other) => other.specs - one.specs)
    .map(({ name }) => name);
}

/** The ten files that took longest, in whole seconds. */
function slowest() {
  return readdirSafely(RESULTS)
    .flatMap((file) => JSON.parse(readFileSync(join(RESULTS, file), 'utf8')).testResults)
    .map(({ name, startTime, endTime }) => ({
      file: relative('.', name),
      seconds: Math.round((endTime - startTime) / 1000),
    }))
    .sort((one, other) => other.seconds - one.seconds)
    .slice(0, 10);
}

/** One line for each test that failed, and for each file that did not load, with the first line of the reason. */
function failures({ testResults }) {
  const reason = (message) =>
    stripVTControlCharacters(message ?? '')
      .split('\n')
      .map((line) => line.trim())
      .find(Boolean) ?? '';
  return testResults.flatMap(({ name, message, assertionResults }) => {
    const failed = assertionResults.filter(({ status }) => status === 'failed');
    const file = relative('.', name);
    if (failed.length > 0)
      return failed.map(
        ({ fullName, failureMessages }) => `${file}: ${fullName}: ${reason(failureMessages[0])}`,
      );
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
