import type { ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { type Dispatcher, errors } from 'undici';

/** What is kept of an answer's body while nobody has said where it goes. */
const MAX_HELD_BYTES = 65_536;
/** What is read of an answer that nobody wants, so that its connection serves again; a longer one is cut. */
const MAX_DISCARDED_BYTES = 16_384;

/** A request to an upstream, and its answer once `sent` has resolved. */
export interface UpstreamAnswer {
  readonly statusCode: number;
  /** Name, value, name, value, … as they came. */
  readonly rawHeaders: readonly string[];
  /** Whether all of the body is here. */
  readonly isWhole: boolean;
  /**
   * Sends the body on until all of it is out or either side is gone: a client that goes cuts the upstream's answer, an
   * answer that breaks off cuts the client's. Resolves when the client's answer is closed.
   */
  passOn(response: ServerResponse): Promise<void>;
  /** Throws the body away: a short one is read, so that its connection serves again. */
  discard(): void;
  /** Ends the answer, and with it its connection, wherever it is. */
  cut(): void;
}

/**
 * Answers go from undici's parser straight into the client's response. Between a parser and a response, undici's own
 * `request` puts a stream, which costs a fifth of all that a short answer costs.
 */
export class Exchange implements Dispatcher.DispatchHandler, UpstreamAnswer {
  /** Resolves with the answer once its head is there. */
  readonly sent: Promise<UpstreamAnswer>;
  statusCode = 0;
  rawHeaders: readonly string[] = [];
  readonly #body: Readable | null;
  #resolve: (answer: UpstreamAnswer) => void = () => undefined;
  #reject: (error: Error) => void = () => undefined;
  #abort: ((error: Error) => void) | null = null;
  #resume: () => void = () => undefined;
  #cutBy: Error | null = null;
  #state: 'waiting' | 'open' | 'whole' | 'broken' = 'waiting';
  #held: Buffer[] = [];
  #heldBytes = 0;
  #isPaused = false;
  #response: ServerResponse | null = null;
  /** Null while the answer is wanted. */
  #discardedBytes: number | null = null;

  constructor(
    dispatcher: Dispatcher,
    options: Dispatcher.DispatchOptions & { body: Readable | null },
  ) {
    this.#body = options.body;
    this.sent = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    dispatcher.dispatch(options, this);
  }

  get isWhole(): boolean {
    return this.#state === 'whole';
  }

  /** Ends the request, or its answer, wherever it is. */
  cut(): void {
    if (this.#state === 'whole' || this.#state === 'broken' || this.#cutBy !== null) return;
    this.#cutBy = new errors.RequestAbortedError();
    this.#abort?.(this.#cutBy);
  }

  discard(): void {
    this.#discardedBytes = this.#heldBytes;
    this.#held = [];
    if (this.#discardedBytes > MAX_DISCARDED_BYTES) this.cut();
    else this.#goOn();
  }

  passOn(response: ServerResponse): Promise<void> {
    return new Promise((resolve) => {
      response
        .once('error', () => response.destroy())
        .once('close', () => {
          this.cut();
          resolve();
        });
      // A client that went away earlier will not be told of once more.
      if (response.destroyed) {
        this.cut();
        resolve();
        return;
      }
      this.#response = response;
      const held = this.#held;
      this.#held = [];
      if (this.#state === 'whole') {
        const last = held.pop();
        for (const piece of held) response.write(piece);
        response.end(last);
        return;
      }
      let isTaken = true;
      for (const piece of held) isTaken = response.write(piece);
      if (this.#state === 'broken') response.destroy();
      else if (isTaken) this.#goOn();
      else response.once('drain', () => this.#goOn());
    });
  }

  onConnect(abort: (error?: Error) => void): void {
    if (this.#cutBy !== null) abort(this.#cutBy);
    else this.#abort = abort;
  }

  onHeaders(statusCode: number, rawHeaders: Buffer[], resume: () => void): boolean {
    // News before the answer (103) is not passed on.
    if (statusCode < 200) return true;
    this.statusCode = statusCode;
    this.rawHeaders = rawHeaders.map((field) => field.toString('latin1'));
    this.#resume = resume;
    this.#state = 'open';
    this.#resolve(this);
    return true;
  }

  onData(piece: Buffer): boolean {
    if (this.#discardedBytes !== null) {
      this.#discardedBytes += piece.length;
      if (this.#discardedBytes > MAX_DISCARDED_BYTES) this.cut();
      return true;
    }
    if (this.#response !== null) {
      if (this.#response.write(piece)) return true;
      this.#response.once('drain', () => this.#goOn());
    } else {
      this.#held.push(piece);
      this.#heldBytes += piece.length;
      if (this.#heldBytes < MAX_HELD_BYTES) return true;
    }
    this.#isPaused = true;
    return false;
  }

  onComplete(): void {
    this.#state = 'whole';
    this.#response?.end();
  }

  onError(error: Error): void {
    const wasWaiting = this.#state === 'waiting';
    this.#state = 'broken';
    this.#body?.destroy(error);
    if (wasWaiting) this.#reject(error);
    else this.#response?.destroy();
  }

  /**
   * Node tells the first answer of a pipeline to go on from within a write to a later one, which may be while that one's
   * upstream is being parsed; undici bears no second parser at that moment.
   */
  #goOn(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    queueMicrotask(() => {
      if (this.#state === 'open') this.#resume();
    });
  }
}
