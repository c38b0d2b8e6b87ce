import { once } from 'node:events';
import type { Writable } from 'node:stream';

/** Somebody reads no more: `head` has had enough. */
export class ReaderGone extends Error {}

/** Writes to a stream no faster than it is read, so that a list of any length takes no memory. */
export class Output {
  readonly #stream: Writable;
  #gone = false;

  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on('error', () => {
      this.#gone = true;
    });
  }

  /** @throws ReaderGone */
  async line(text: string): Promise<void> {
    await this.#write(`${text}\n`);
  }

  /** Rows as one JSON array with a line for each. @throws ReaderGone */
  async array(rows: AsyncIterable<object>): Promise<void> {
    let before = '[';
    for await (const row of rows) {
      await this.#write(`${before}\n${JSON.stringify(row)}`);
      before = ',';
    }
    await this.#write(before === '[' ? '[]\n' : '\n]\n');
  }

  async #write(text: string): Promise<void> {
    if (this.#gone || this.#stream.destroyed) throw new ReaderGone();
    if (this.#stream.write(text)) return;
    await once(this.#stream, 'drain').catch(() => {
      throw new ReaderGone();
    });
  }
}

/** One line of a table: cells cut and padded to their widths; the last one as it is. */
export const tableLine = (cells: readonly string[], widths: readonly number[]): string =>
  cells
    .map((cell, i) => {
      const width = widths[i];
      return width === undefined ? printable(cell) : printable(cell).slice(0, width).padEnd(width);
    })
    .join('  ')
    .trimEnd();

/** A browser says what it likes; a terminal must not be told what to do. */
const printable = (text: string): string => text.replace(/\p{C}/gu, '?');
