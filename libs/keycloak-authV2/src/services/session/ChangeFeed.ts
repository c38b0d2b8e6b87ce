import type { Sql } from '@session-gateway/database';

/** Pause between the beginnings of two readings: at most three statements a second. */
export const FEED_READ_MS = 400;
/** For so long after a reading began, nothing that was committed before is unknown here. */
export const HEARD_FOR_MS = 1_000;
/** After so long without a reading no earlier copy is believed anyway, and rows may have been removed unread. */
const FORGOTTEN_MS = 60_000;
/** More than so many changes at once cost more to hear one by one than to read every session anew. */
const MAX_CHANGES = 10_000;

export interface FeedListener {
  /** No copy of this cookie's session is right if its version is older than this; null: none at all is. */
  changed(cookieHash: Buffer, version: number | null): void;
  /** Changes may have gone unheard: no copy from before this moment is right for sure. */
  gap(): void;
}

/** What a session store needs to know before it believes a copy. */
export interface Hearing {
  /** When the latest reading that was answered began, as `performance.now()` tells it. */
  readonly heardAt: number;
  /** PostgreSQL's time in milliseconds since 1970. */
  readonly now: () => number;
  follow(listener: FeedListener): void;
}

interface FeedRow {
  snapshot: string;
  server: string;
  now_ms: number;
  cookie_hash: Buffer | null;
  version: number | null;
}

/**
 * What was committed since the snapshot of the reading before: transactions that it did not see, however long they have
 * been open, and that this one sees. The server's start tells another server, or one that was restored, from the same.
 */
const READ = `SELECT txid_current_snapshot()::text AS snapshot, pg_postmaster_start_time()::text AS server,
    extract(epoch FROM clock_timestamp())::float8 * 1000 AS now_ms, changes.cookie_hash, changes.version
  FROM (SELECT $1::txid_snapshot AS seen) before LEFT JOIN LATERAL (
    SELECT cookie_hash, version FROM session_changes WHERE xact >= txid_snapshot_xmin($1::txid_snapshot)
      AND NOT txid_visible_in_snapshot(xact, $1::txid_snapshot) AND txid_visible_in_snapshot(xact, txid_current_snapshot())
    LIMIT ${MAX_CHANGES + 1}) changes ON true`;

/**
 * Follows what PostgreSQL has committed about sessions (`session_changes`), whoever did it. One short statement for
 * each reading and nothing kept on the connection, so it works behind a pooler. It also tells PostgreSQL's time.
 */
export class ChangeFeed implements Hearing {
  readonly #sql: Sql;
  readonly #onChange: (problem: unknown) => void;
  readonly #listeners: FeedListener[] = [];
  #heardAt = -Infinity;
  #cursor: { snapshot: string; server: string } | null = null;
  /** PostgreSQL's time less `performance.now()`. */
  #offsetMs = Date.now() - performance.now();
  #failing = false;
  #timer: NodeJS.Timeout | undefined;
  #reading: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: {
    sql: Sql;
    /** Told why readings fail once they do, and null when they work again. */
    onChange?: (problem: unknown) => void;
  }) {
    this.#sql = options.sql;
    this.#onChange = options.onChange ?? (() => undefined);
  }

  get heardAt(): number {
    return this.#heardAt;
  }

  /**
   * PostgreSQL's time in milliseconds since 1970, as exact as its latest answer was quick; before that this machine's.
   */
  readonly now = (): number => performance.now() + this.#offsetMs;

  follow(listener: FeedListener): void {
    this.#listeners.push(listener);
    if (this.#cursor !== null) listener.gap();
  }

  start(): void {
    const beganAt = performance.now();
    this.#reading = this.#readOrTell().then(() => {
      if (this.#stopped) return;
      const restMs = Math.max(0, beganAt + FEED_READ_MS - performance.now());
      this.#timer = setTimeout(() => this.start(), restMs).unref();
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#reading;
  }

  /** One reading. Listeners have been told when it resolves. */
  async read(): Promise<void> {
    const beganAt = performance.now();
    const rows = await this.#sql.query<FeedRow>(READ, [this.#cursor?.snapshot ?? null]);
    const [{ snapshot, server, now_ms: serverNow } = { snapshot: '', server: '', now_ms: 0 }] =
      rows;
    this.#setClock(serverNow, beganAt);
    const goesOn =
      this.#cursor?.server === server &&
      beganAt - this.#heardAt < FORGOTTEN_MS &&
      rows.length <= MAX_CHANGES &&
      // A change of every session.
      rows.every((row) => row.cookie_hash?.length !== 0);
    if (goesOn) this.#tellChanges(rows);
    else for (const listener of this.#listeners) listener.gap();
    this.#cursor = { snapshot, server };
    this.#heardAt = beganAt;
  }

  #tellChanges(rows: readonly FeedRow[]): void {
    for (const { cookie_hash: hash, version } of rows)
      if (hash) for (const listener of this.#listeners) listener.changed(hash, version);
  }

  async #readOrTell(): Promise<void> {
    try {
      await this.read();
      if (this.#failing) this.#onChange(null);
      this.#failing = false;
    } catch (error) {
      if (!this.#failing && !this.#stopped) this.#onChange(error);
      this.#failing = true;
    }
  }

  /** PostgreSQL looked at its clock between the question and the answer: an estimate within these bounds stays. */
  #setClock(serverNow: number, askedAt: number): void {
    const [least, most] = [serverNow - performance.now(), serverNow - askedAt];
    if (this.#offsetMs < least || this.#offsetMs > most) this.#offsetMs = (least + most) / 2;
  }
}
