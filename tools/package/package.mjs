// Makes dist/session-gateway and its tarball: everything that production needs but Node and the services. The same commit
// gives the same bytes. Source maps go beside it, to dist/session-gateway-source-maps. Usage: package.mjs [folder for dist]
import { execFileSync } from 'node:child_process';
import { cp, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { build } from 'esbuild';
import { packagesOf, sbom, thirdPartyNotices } from './inside.mjs';
import { writeTarball } from './tarball.mjs';

const MAX_BYTES = 40_000_000;
const DIST = process.argv[2] ?? 'dist';
const OUT = join(DIST, 'session-gateway');
const MAPS = join(DIST, 'session-gateway-source-maps');
const GATEWAY = 'apps/api-gateway/src';
/** CommonJS packages ask for Node's own modules by `require`, which an ES module does not have. */
const REQUIRE = `import{createRequire as requireOf}from'node:module';const require=requireOf(import.meta.url);`;

/**
 * Of an assertion that fails without a message, Node tells the source, which it parses for that from the beginning of its
 * line: in a bundle, where a line may be a library, that takes seconds, in which nobody is answered (Node 20.20.2).
 */
const TERSE_ASSERT = `
  const real = require('node:assert');
  const assert = (value, message = 'an assertion failed') => real(value, message);
  module.exports = Object.assign(assert, real, { ok: assert });
`;
const terseAssert = {
  name: 'terse-assert',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(node:)?assert$/ }, ({ namespace }) =>
      namespace === 'terse'
        ? { path: 'node:assert', external: true }
        : { path: 'assert', namespace: 'terse' },
    );
    onLoad({ filter: /^/, namespace: 'terse' }, () => ({ contents: TERSE_ASSERT }));
  },
};

const git = (...args) => execFileSync('git', args, { encoding: 'utf8' }).trim();
const commit = git('rev-parse', '--short=12', 'HEAD');
const committedAt = new Date(Number(git('log', '-1', '--format=%ct')) * 1000);
const { name, version, license, engines } = JSON.parse(await readFile('package.json', 'utf8'));
const engine = createRequire(import.meta.url).resolve(
  '@prisma/schema-engine-wasm/schema_engine_bg',
);

await Promise.all([OUT, MAPS].map((folder) => rm(folder, { recursive: true, force: true })));
await mkdir(MAPS, { recursive: true });

const { metafile } = await build({
  entryPoints: [`${GATEWAY}/main.ts`],
  outdir: OUT,
  bundle: true,
  splitting: true,
  platform: 'node',
  target: 'node20',
  format: 'esm',
  // Names stay, so that a stack trace can be read without the source maps.
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: 'none',
  sourcemap: 'external',
  metafile: true,
  external: ['@session-gateway/embedded'],
  define: { SESSION_GATEWAY_PACKAGED: 'true' },
  plugins: [terseAssert],
  banner: { js: REQUIRE },
  logLevel: 'warning',
});
await build({
  entryPoints: ['client.js', 'page.js'].map((file) => `${GATEWAY}/pages/browser/${file}`),
  outdir: `${OUT}/browser`,
  minify: true,
  target: 'es2020',
  logLevel: 'warning',
});
for (const file of await readdir(OUT))
  if (file.endsWith('.map')) await rename(join(OUT, file), join(MAPS, file));

await cp(`${GATEWAY}/pages/browser/client.d.ts`, `${OUT}/browser/client.d.ts`);
await cp('libs/database/prisma', `${OUT}/prisma`, { recursive: true });
await cp(join(dirname(engine), 'schema_engine_bg.wasm'), `${OUT}/schema_engine_bg.wasm`);
await cp('docs/integrate/openapi.json', `${OUT}/openapi.json`);
await cp('LICENSE', `${OUT}/LICENSE`);

const packages = await packagesOf([...Object.keys(metafile.inputs), engine]);
const about = { name, version, license, commit, committedAt };
await writeFile(
  `${OUT}/package.json`,
  `${JSON.stringify({ name, version, commit, license, type: 'module', main: 'main.js', engines }, null, 2)}\n`,
);
await writeFile(`${OUT}/sbom.cdx.json`, `${JSON.stringify(sbom(about, packages), null, 2)}\n`);
await writeFile(`${OUT}/THIRD-PARTY-NOTICES.txt`, await thirdPartyNotices(packages));

const bytes = await sizeOf(OUT);
if (bytes > MAX_BYTES) throw new Error(`${OUT} has ${bytes} bytes: more than ${MAX_BYTES}`);
const tarball = join(DIST, `${name}-${version}.tar.gz`);
await writeTarball({ folder: OUT, as: name, file: tarball, at: committedAt });
process.stdout.write(
  `${OUT}: ${(bytes / 1e6).toFixed(1)} MB, ${packages.length} packages inside\n${tarball}: ${((await stat(tarball)).size / 1e6).toFixed(1)} MB\n`,
);

async function sizeOf(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const sizes = entries
    .filter((entry) => entry.isFile())
    .map(async (entry) => (await stat(join(entry.parentPath, entry.name))).size);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}
