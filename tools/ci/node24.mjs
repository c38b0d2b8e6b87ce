// Prints a folder that holds Node 24 as `node`, installed from the npm registry into the user's cache.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const folder = join(
  process.env.XDG_CACHE_HOME || join(homedir(), '.cache'),
  'session-gateway',
  'node24',
);
const bin = join(folder, 'node_modules', `node-${process.platform}-${process.arch}`, 'bin');
if (!existsSync(join(bin, 'node'))) {
  mkdirSync(folder, { recursive: true });
  execFileSync(
    'npm',
    [
      'install',
      '--prefix',
      folder,
      '--no-save',
      '--silent',
      `node-${process.platform}-${process.arch}@24`,
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
}
console.log(bin);
