/** `npx depcruise libs`. */
export default {
  forbidden: [
    // No file imports one that leads back to it, types included.
    { name: 'no-cycle', severity: 'error', from: {}, to: { circular: true } },
    // A package for other services: it needs nothing of this repository, and jose alone.
    {
      name: 'guard-stands-alone',
      severity: 'error',
      from: { path: '^libs/guard/src/[^/]+[.]ts$', pathNot: '[.]spec[.]ts$' },
      to: {
        pathNot: ['^libs/guard/src/[^/]+[.]ts$', '^node_modules/jose/', '^(node:)?(crypto|http)$'],
      },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '/generated/|/dist/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.base.json' },
  },
};
