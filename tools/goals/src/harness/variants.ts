import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = fileURLToPath(new URL('..', import.meta.url));
const root = fileURLToPath(new URL('../../../..', import.meta.url));

/**
 * The gateway as a known-bad variant of itself, or one that ends at a named point: `variants/NAME.ts` changes what it
 * is about and then starts the gateway's own main. Resolves with the program to start.
 */
export async function variant(name: string): Promise<string> {
  const outfile = join(root, `dist/tools/goals/${name}.js`);
  await build({
    entryPoints: [join(here, `variants/${name}.ts`)],
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    packages: 'external',
    logLevel: 'warning',
    tsconfig: join(root, 'tsconfig.base.json'),
  });
  // What the gateway's pages load lies beside its program.
  await cp(join(root, 'dist/apps/api-gateway/browser'), join(root, 'dist/tools/goals/browser'), {
    recursive: true,
  });
  return outfile;
}
