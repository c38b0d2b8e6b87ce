/** Mutation testing of the cryptography: `npx nx run keycloak-authV2:mutation`, from the root of the workspace. */
export default {
  mutate: ['libs/keycloak-authV2/src/services/encryption/*.ts', '!**/*.spec.ts'],
  testRunner: 'jest',
  // The preset's modules are native ones.
  testRunnerNodeArgs: ['--experimental-vm-modules', '--disable-warning=ExperimentalWarning'],
  jest: { projectType: 'custom', configFile: 'libs/keycloak-authV2/jest.mutation.config.js' },
  plugins: ['@stryker-mutator/jest-runner'],
  coverageAnalysis: 'perTest',
  ignorePatterns: ['dist', 'tmp', '.data', '.nx', 'apps', 'tools/*/src', 'docs/images'],
  tempDirName: 'tmp/stryker',
  reporters: ['clear-text', 'progress-append-only', 'json'],
  clearTextReporter: { allowColor: false, logTests: false, reportTests: false },
  jsonReporter: { fileName: 'dist/mutation/keycloak-authV2.json' },
  thresholds: { high: 95, low: 90, break: 85 },
  timeoutMS: 60_000,
  // Native modules of one run stay in memory in the next.
  maxTestRunnerReuse: 30,
  concurrency: 1,
  allowConsoleColors: false,
};
