import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(fileURLToPath(import.meta.url));
const { paths } = JSON.parse(
  readFileSync(resolve(root, 'tsconfig.base.json'), 'utf8'),
).compilerOptions;
const integration = process.env.TEST_KIND === 'integration';

export default {
  testEnvironment: 'node',
  testMatch: [integration ? '<rootDir>/src/**/*.int.spec.ts' : '<rootDir>/src/**/*.spec.ts'],
  testPathIgnorePatterns: integration
    ? ['/node_modules/']
    : ['/node_modules/', '\\.int\\.spec\\.ts$'],
  extensionsToTreatAsEsm: ['.ts'],
  moduleNameMapper: {
    ...Object.fromEntries(
      Object.entries(paths).map(([name, [file]]) => [`^${name}$`, resolve(root, file)]),
    ),
    '^(\\.{1,2}/.*)\\.js$': '$1',
  },
  transform: {
    '^.+\\.ts$': ['ts-jest', { useESM: true, tsconfig: resolve(root, 'tsconfig.jest.json') }],
  },
  testTimeout: integration ? 300_000 : 60_000,
};
