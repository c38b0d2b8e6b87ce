import { type Stats, unwatchFile, watchFile } from 'node:fs';

const WATCH_MS = 1_000;

/**
 * Calls back when another file or other content lies at a path, until the returned function is called. It looks each
 * second: secrets are mounted as links that are swapped, which notifications miss. A copy may keep the time of its
 * content (`cp -p`), so the times of the inode and the inode itself count as well.
 */
export function onFileChange(path: string, changed: () => void, intervalMs = WATCH_MS): () => void {
  const look = (now: Stats, before: Stats): void => {
    if (now.mtimeMs !== before.mtimeMs || now.ctimeMs !== before.ctimeMs || now.ino !== before.ino)
      changed();
  };
  watchFile(path, { interval: intervalMs, persistent: false }, look);
  return () => unwatchFile(path, look);
}
