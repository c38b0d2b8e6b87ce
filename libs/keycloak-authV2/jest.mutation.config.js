import { fileURLToPath } from 'node:url';
import preset from '../../jest.preset.js';

// The specs of what is mutated, alone: each mutant costs a run of those that reach it. Those of random values take most
// of the time to load their library, and what they would notice a fixed value has to notice as well.
export default {
  ...preset,
  testMatch: ['<rootDir>/src/services/encryption/*.spec.ts'],
  testPathIgnorePatterns: ['\\.(property|int)\\.spec\\.ts$'],
  testEnvironment: fileURLToPath(new URL('jest.mutation.environment.cjs', import.meta.url)),
};
