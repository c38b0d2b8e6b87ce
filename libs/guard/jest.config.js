import { resolve } from 'node:path';
import preset from '../../jest.preset.js';

export default {
  ...preset,
  transform: {
    '^.+\\.ts$': [
      'ts-jest',
      { useESM: true, tsconfig: resolve(import.meta.dirname, 'tsconfig.jest.json') },
    ],
  },
};
