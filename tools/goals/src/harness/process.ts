import { readdirSync, readFileSync } from 'node:fs';

/** What a process holds at this moment, as Linux counts it. */
export interface Held {
  /** Resident memory, MiB. */
  readonly megabytes: number;
  /** Open file descriptors: files, sockets, pipes. */
  readonly descriptors: number;
}

export function heldBy(pid: number): Held {
  const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return {
    megabytes: Number(kilobytes) / 1024,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
  };
}
