import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { describe, expect, test } from '@jest/globals';
import { type LogSink, LogTarget, sinkOf } from './logTarget.js';

/** A target that a test makes slow or full. */
function aSink(): LogSink & { out: string; hold: boolean; fault: Error | null; go: () => void } {
  const held: (() => void)[] = [];
  return {
    out: '',
    hold: false,
    fault: null,
    write(text, done) {
      const act = (): void => {
        if (this.fault === null) this.out += text;
        done(this.fault);
      };
      if (this.hold) held.push(act);
      else act();
    },
    writeLast(text) {
      this.out += text;
    },
    go: () => held.splice(0).forEach((act) => act()),
  };
}

function aTarget(sink: LogSink): { target: LogTarget; dropped: number[]; recovered: number[] } {
  const [dropped, recovered]: number[][] = [[], []];
  const target = new LogTarget(sink, {
    onDropped: (count) => void dropped!.push(count),
    onRecovered: (count) => void recovered!.push(count),
  });
  return { target, dropped: dropped!, recovered: recovered! };
}
const sum = (counts: readonly number[]): number => counts.reduce((all, count) => all + count, 0);

describe('a log target', () => {
  test('that is slow gets its lines in order, in few pieces, and those that do not fit are dropped', async () => {
    const sink = aSink();
    const { target, dropped, recovered } = aTarget(sink);
    sink.hold = true;
    target.write('first\n');
    const line = `${'x'.repeat(999)}\n`;
    for (let i = 0; i < 3_000; i++) target.write(line);
    expect(sum(dropped)).toBe(3_000 - Math.floor(1_048_576 / 1_000));
    sink.hold = false;
    sink.go();
    await target.flush(1_000);
    expect(sink.out).toBe(`first\n${line.repeat(1_048)}`);
    expect(recovered).toEqual([3_000 - 1_048]);
  });

  test('that fails loses what it was given, says how much, and is used again', async () => {
    const sink = aSink();
    const { target, dropped, recovered } = aTarget(sink);
    sink.fault = new Error('no space');
    target.write('lost\n');
    target.write('waits\n');
    expect([dropped, recovered]).toEqual([[1], []]);
    sink.fault = null;
    await target.flush(10_000);
    expect([sink.out, recovered]).toEqual(['waits\n', [1]]);
    sink.hold = true;
    target.write('under way\n');
    target.write('the last\n');
    target.flushNow();
    expect(sink.out).toBe('waits\nthe last\n');
  });
});

describe('standard output', () => {
  const asStream = (fd: number): Writable & { fd: number } =>
    Object.assign(new Writable({ write: (_piece, _encoding, done) => done() }), { fd });

  test('as a file gets every line; as a full disk it drops and counts them', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'log-target-'));
    const path = join(folder, 'log');
    const fd = openSync(path, 'a');
    const file = aTarget(sinkOf(asStream(fd)));
    for (let i = 0; i < 100; i++) file.target.write(`${i}\n`);
    await file.target.flush(10_000);
    file.target.write('under way\n');
    file.target.write('the last\n');
    file.target.flushNow();
    await file.target.flush(10_000);
    const lines = readFileSync(path, 'utf8').split('\n');
    expect([lines.slice(0, 100), new Set(lines.slice(100))]).toEqual([
      Array.from({ length: 100 }, (_, i) => String(i)),
      new Set(['under way', 'the last', '']),
    ]);
    closeSync(fd);
    rmSync(folder, { recursive: true });

    const full = openSync('/dev/full', 'w');
    const { target, dropped } = aTarget(sinkOf(asStream(full)));
    for (let i = 0; i < 100; i++) target.write(`${i}\n`);
    await target.flush(10_000);
    expect(sum(dropped)).toBe(100);
    closeSync(full);
  });

  test('as a terminal that stands still is waited for by nobody, and gets every line when it goes on', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'log-target-'));
    const path = join(folder, 'terminal');
    execFileSync('mkfifo', [path]);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    // Waits when it is full, as Node's own stream of a terminal does.
    const fd = openSync(path, 'w');
    const { target, dropped } = aTarget(sinkOf(Object.assign(asStream(fd), { isTTY: true })));
    const line = `${'x'.repeat(999)}\n`;
    for (let i = 0; i < 1_000; i++) target.write(line);
    let read = 0;
    const piece = Buffer.alloc(65_536);
    const take = (): void => {
      try {
        read += readSync(reader, piece);
      } catch {
        // Nothing there yet.
      }
    };
    await target.flush(100);
    while (read < 1_000_000) {
      take();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await target.flush(10_000);
    expect([read, dropped]).toEqual([1_000_000, []]);
    closeSync(fd);
    closeSync(reader);
    rmSync(folder, { recursive: true });
  });
});
