import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';

/**
 * A request's body on its way to the upstream. undici destroys the body of a request that fails, and Node would take
 * the client's connection with it before anybody can be told why. This stream can be destroyed: what has not been read
 * of the request then is read and thrown away.
 */
export class RequestBody extends Readable {
  readonly #request: IncomingMessage;

  constructor(request: IncomingMessage) {
    super();
    this.#request = request;
    // Who destroys it knows why.
    this.on('error', () => undefined);
    request.on('data', this.#take).once('end', this.#end).once('close', this.#gone);
  }

  /** Whether there is something that the upstream does not take. */
  get isWaiting(): boolean {
    return this.readableLength > 0 || this.#request.readableLength > 0;
  }

  override _read(): void {
    this.#request.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const request = this.#request;
    request.off('data', this.#take).off('end', this.#end).off('close', this.#gone);
    if (!request.complete || request.readableLength > 0) request.resume();
    done(error);
  }

  readonly #take = (piece: Buffer): void => {
    if (!this.push(piece)) this.#request.pause();
  };
  readonly #end = (): void => void this.push(null);
  readonly #gone = (): void => {
    if (!this.#request.readableEnded) this.destroy(new Error('the client has left'));
  };
}
