import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Where distributions keep libfaketime; Debian below the name of the machine's architecture. */
function findLibrary(): string | null {
  const folders = ['/usr/lib', '/usr/lib64', '/usr/local/lib'].flatMap((root) =>
    existsSync(root) ? [root, ...readdirSync(root).map((name) => join(root, name))] : [],
  );
  const files = folders.map((folder) => join(folder, 'faketime', 'libfaketime.so.1'));
  return files.find((file) => existsSync(file)) ?? null;
}

/** Why no process can have another clock than this machine; null when one can. */
export function whyNoFaketime(): string | null {
  return findLibrary() ? null : 'no libfaketime (Debian: apt-get install libfaketime)';
}

/** The environment of a process whose clock is off by so many seconds; lengths of time are as everybody has them. */
export function shiftedClock(seconds: number): Record<string, string> {
  const library = findLibrary();
  if (!library) throw new Error(whyNoFaketime() ?? 'no libfaketime');
  return {
    LD_PRELOAD: library,
    FAKETIME: `${seconds < 0 ? '' : '+'}${seconds}s`,
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  };
}
