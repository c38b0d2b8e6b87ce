import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));
const CACHE = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'session-gateway');
/** The first version, which later ones are measured against. */
export const FIRST_VERSION = '27931e7';

/**
 * The gateway's program as an earlier commit builds it, made once from the history and kept in the user's cache.
 * @returns null where the clone does not have that commit, as a shallow one
 */
export async function earlierBuild(commit: string): Promise<string | null> {
  const folder = join(CACHE, 'builds', commit);
  const entry = join(folder, 'dist/apps/api-gateway/main.js');
  if (existsSync(entry)) return entry;
  const known = await run('git', ['cat-file', '-e', `${commit}^{commit}`], { cwd: ROOT }).then(
    () => true,
    () => false,
  );
  if (!known) return null;
  await mkdir(join(CACHE, 'builds'), { recursive: true });
  const work = await mkdtemp(join(CACHE, 'builds', `.${commit}-`));
  try {
    const archive = join(work, 'source.tar');
    await run('git', ['archive', '--output', archive, commit], { cwd: ROOT });
    await run('tar', ['-xf', archive, '-C', work]);
    await rm(archive);
    const command = { cwd: work, maxBuffer: 64 << 20 };
    // Nx takes a folder inside another workspace for a part of it; the cache is outside of one.
    await writeFile(join(work, '.gitignore'), 'node_modules\ndist\n.nx\n');
    await run('npx', ['--yes', 'pnpm@12', 'install', '--frozen-lockfile'], command);
    await run('npx', ['nx', 'run', 'api-gateway:build'], command);
    // Another process may have been faster; what it built is as good.
    await rename(work, folder).catch((error: unknown) => {
      if (!existsSync(entry)) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return entry;
}
