import { execFileSync } from 'node:child_process';
import { appendFileSync, chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A filesystem of its own that is soon full. */
export interface SmallDisk {
  readonly folder: string;
  /** Takes all the room that is left. */
  fill(): void;
  /** Gives back what `fill` took. */
  free(): void;
  dispose(): void;
}

/** A folder that everybody may write to. Whoever mounts it is root. */
export function mountSmallDisk(megabytes: number): SmallDisk {
  const folder = mkdtempSync(join(tmpdir(), 'session-gateway-small-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0777`, 'tmpfs', folder], {
      stdio: 'ignore',
    });
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
  chmodSync(folder, 0o777);
  const ballast = join(folder, 'ballast');
  return {
    folder,
    fill() {
      const block = Buffer.alloc(4096);
      try {
        for (;;) appendFileSync(ballast, block);
      } catch {
        // Full.
      }
    },
    free: () => rmSync(ballast, { force: true }),
    dispose() {
      execFileSync('umount', ['-l', folder], { stdio: 'ignore' });
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Why there can be none here. */
export function whyNoSmallDisk(): string | null {
  try {
    mountSmallDisk(1).dispose();
    return null;
  } catch {
    return 'this process may mount no tmpfs: that takes root, and CAP_SYS_ADMIN in a container';
  }
}
