import { constants, fstatSync, openSync, write as writeFile, writeSync } from 'node:fs';
import type { Writable } from 'node:stream';

/** Lines that wait for a slow target, in characters; what comes beyond them is dropped. */
const MAX_WAITING = 1_048_576;
/** After a write that failed nothing is tried for so long. */
const PAUSE_MS = 250;
/** A terminal that takes nothing, as one that was stopped (Ctrl-S), is tried again after so long. */
const FULL_MS = 50;

/** Where lines go. Bytes are written in the order they are given, one piece at a time. */
export interface LogSink {
  /** Writes without blocking; `done` is told once, with the error when not everything is out. */
  write(text: string, done: (error?: Error | null) => void): void;
  /** The last try when the process ends: whatever can be written at once. */
  writeLast(text: string): void;
}

export interface LogTargetOptions {
  /** Told at once of lines that nobody will see. */
  readonly onDropped: (count: number) => void;
  /** Told how many lines have been dropped when the target takes lines again. */
  readonly onRecovered: (count: number) => void;
}

/**
 * Takes lines for a target that may be slow, full, or gone, and never makes the caller wait, fail or grow: lines that
 * cannot be written are dropped and counted. A target that recovers is used again.
 */
export class LogTarget {
  readonly #sink: LogSink;
  readonly #options: LogTargetOptions;
  #lines: string[] = [];
  #waiting = 0;
  #busy = false;
  #dropped = 0;
  #idle: (() => void)[] = [];

  constructor(sink: LogSink, options: LogTargetOptions) {
    this.#sink = sink;
    this.#options = options;
  }

  write(line: string): void {
    if (this.#waiting + line.length > MAX_WAITING) {
      this.#drop(1);
      return;
    }
    this.#lines.push(line);
    this.#waiting += line.length;
    if (!this.#busy) this.#next();
  }

  /** Waits until everything is written, for as long as that at most. */
  async flush(withinMs: number): Promise<void> {
    if (!this.#busy) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, withinMs);
      this.#idle.push(resolve);
    });
    clearTimeout(timer);
  }

  /** For the very end of the process, which waits for nothing. */
  flushNow(): void {
    if (this.#lines.length > 0) this.#sink.writeLast(this.#take());
  }

  #take(): string {
    const text = this.#lines.join('');
    this.#lines = [];
    this.#waiting = 0;
    return text;
  }

  #next(): void {
    if (this.#lines.length === 0) {
      this.#busy = false;
      for (const resolve of this.#idle.splice(0)) resolve();
      return;
    }
    this.#busy = true;
    const count = this.#lines.length;
    this.#sink.write(this.#take(), (error) => {
      if (!error) {
        this.#recovered();
        this.#next();
        return;
      }
      this.#drop(count);
      // What comes meanwhile waits; the process may end.
      setTimeout(() => this.#next(), PAUSE_MS).unref();
    });
  }

  #drop(count: number): void {
    this.#dropped += count;
    this.#options.onDropped(count);
  }

  #recovered(): void {
    const dropped = this.#dropped;
    this.#dropped = 0;
    if (dropped > 0) this.#options.onRecovered(dropped);
  }
}

/**
 * Standard output as a target. Node writes synchronously to files there, and gives up at the first error; so files and
 * devices are written by their descriptor. It waits for a terminal as long as that takes nothing, so terminals are
 * opened once more, not to be waited for. Pipes and sockets are left to Node, which does not block on them.
 */
export function sinkOf(
  stream: Writable & { readonly fd: number; readonly isTTY?: boolean },
): LogSink {
  // Whoever reads may leave; without a listener that would end the process.
  stream.on('error', () => undefined);
  const { fd } = stream;
  const stats = fstatSync(fd);
  if (stats.isFile() || (stats.isCharacterDevice() && !stream.isTTY)) return fileSink(fd);
  const terminal = stream.isTTY ? openWithoutWaiting(fd) : null;
  return terminal === null ? streamSink(stream) : fileSink(terminal);
}

/** Another descriptor of the same target on which writes fail instead of waiting; null where the system gives none. */
function openWithoutWaiting(fd: number): number | null {
  try {
    const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
    return openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  } catch {
    return null;
  }
}

const streamSink = (stream: Writable): LogSink => ({
  write: (text, done) => void stream.write(text, done),
  writeLast: (text) => void stream.write(text),
});

function fileSink(fd: number): LogSink {
  // A line that was cut by an error must not swallow the beginning of the next one.
  let isTorn = false;
  const begun = (text: string): Buffer => Buffer.from(isTorn ? `\n${text}` : text);
  return {
    write(text, done) {
      const bytes = begun(text);
      const go = (from: number): void =>
        writeFile(fd, bytes, from, bytes.length - from, null, (error, written) => {
          if (error?.code === 'EAGAIN') {
            setTimeout(() => go(from), FULL_MS).unref();
            return;
          }
          const to = from + written;
          if (!error && to < bytes.length) {
            go(to);
            return;
          }
          if (!error) isTorn = false;
          else if (from > 0) isTorn = bytes[from - 1] !== 0x0a;
          done(error);
        });
      go(0);
    },
    writeLast(text) {
      try {
        writeSync(fd, begun(text));
      } catch {
        // There is nowhere left to say it.
      }
    },
  };
}
