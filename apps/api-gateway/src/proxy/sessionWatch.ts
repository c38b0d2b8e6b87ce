import type { Gateway } from '../gateway.js';
import type { Caller } from '../sessions/authenticate.js';

/** Twice within the second in which a logout must hold. */
const WATCH_MS = 400;

interface Watched {
  readonly sessionId: string | null;
  /** When it ends unless PostgreSQL says otherwise; milliseconds since 1970. */
  endsAt: number;
  readonly cut: () => void;
}

/**
 * Cuts what stays open for long (WebSockets, event streams) when what it was opened with ends: a session, however often
 * renewed, or a bearer token. PostgreSQL is asked about all open sessions at once, so that an end holds whichever
 * instance it happened on, with or without a cache; while it does not answer, only the known times count.
 */
export class SessionWatch {
  readonly #gateway: Pick<Gateway, 'store' | 'now'>;
  readonly #open = new Set<Watched>();
  #timer: NodeJS.Timeout | undefined;
  #looking = false;

  constructor(gateway: Pick<Gateway, 'store' | 'now'>) {
    this.#gateway = gateway;
  }

  /** Calls `cut` within a second of the end, once. @returns what to call when it has closed by itself */
  watch(caller: Caller | null, cut: () => void): () => void {
    if (caller === null) return () => undefined;
    const watched: Watched = {
      sessionId: caller.kind === 'session' ? caller.session.id : null,
      endsAt: this.#endOf(caller),
      cut,
    };
    this.#open.add(watched);
    this.#timer ??= setInterval(() => void this.#look(), WATCH_MS);
    return () => this.#forget(watched);
  }

  #forget(watched: Watched): void {
    this.#open.delete(watched);
    if (this.#open.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #cut(watched: Watched): void {
    if (!this.#open.has(watched)) return;
    this.#forget(watched);
    watched.cut();
  }

  #endOf(caller: Caller): number {
    if (caller.kind === 'bearer') return caller.identity.expiresAt * 1000;
    return Math.min(
      caller.session.expiresAt.getTime(),
      this.#gateway.store.idleExpiresAt(caller.session).getTime(),
    );
  }

  async #look(): Promise<void> {
    const { store, now } = this.#gateway;
    for (const watched of this.#open) if (watched.endsAt <= now()) this.#cut(watched);
    const ids = new Set([...this.#open].flatMap(({ sessionId }) => sessionId ?? []));
    if (ids.size === 0 || this.#looking) return;
    this.#looking = true;
    // A session that came after the question is not in the answer.
    const asked = [...this.#open];
    const ends = await store
      .endsOf([...ids])
      .catch(() => null)
      .finally(() => {
        this.#looking = false;
      });
    if (ends === null) return;
    for (const watched of asked) {
      if (watched.sessionId === null) continue;
      watched.endsAt = ends.get(watched.sessionId)?.getTime() ?? 0;
      if (watched.endsAt <= now()) this.#cut(watched);
    }
  }
}
