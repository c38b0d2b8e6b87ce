import type { Sql } from '@session-gateway/database';
import type { Session } from './sessionMetadata.js';
import { type Reading, SESSION_COLUMNS, type SessionRow } from './sessionRow.js';
import { idleMsSql } from './sessionTimes.js';

/** Uses of sessions are noted together, at most so long after the first. */
const BATCH_MS = 1_000;
const BATCH_SIZE = 1_000;
/** More than so many sessions at once are not noted: their next use is. */
const MAX_NOTED = 100_000;
/** A row that somebody is writing each time has had its use noted by whoever does. */
const MAX_TRIES = 5;

/** Uses of a session that wait to be written. */
export interface Use {
  /** When the session was used first, and last, since the latest batch, as `performance.now()` tells it. */
  readonly firstAt: number;
  lastAt: number;
  /** It is written where the row tells of no use within so long before. */
  spacingMs: number;
  tries: number;
  /** A copy of the session that somebody asked about, and that copy as the first of these uses makes it. */
  told: { readonly of: Session; readonly as: Session } | null;
}

/**
 * Uses of sessions, which move their idle timeouts: kept for a moment, then written for many sessions in one statement.
 * While PostgreSQL does not answer they are kept for the next batch, each with its own time.
 */
export class SessionUses {
  readonly #sql: Sql;
  readonly #idleTimeoutMs: number;
  readonly #beginReading: () => Reading;
  readonly #seen: (row: SessionRow, reading: Reading) => Promise<unknown>;
  readonly #uses = new Map<string, Use>();
  #batch: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: {
    sql: Sql;
    idleTimeoutMs: number;
    beginReading: () => Reading;
    /** Told of each row as it is once its use was written, or was not to be. */
    seen: (row: SessionRow, reading: Reading) => Promise<unknown>;
  }) {
    this.#sql = options.sql;
    this.#idleTimeoutMs = options.idleTimeoutMs;
    this.#beginReading = options.beginReading;
    this.#seen = options.seen;
  }

  /**
   * Notes a use now, to be written where the row tells of none within `spacingMs` before.
   * @returns what waits to be written of this session; null: there are too many
   */
  note(id: string, spacingMs: number): Use | null {
    const now = performance.now();
    const noted = this.#uses.get(id);
    if (noted !== undefined) {
      noted.lastAt = now;
      noted.spacingMs = Math.min(noted.spacingMs, spacingMs);
      return noted;
    }
    if (this.#uses.size >= MAX_NOTED) return null;
    const use: Use = { firstAt: now, lastAt: now, spacingMs, tries: 0, told: null };
    this.#uses.set(id, use);
    this.#schedule(spacingMs);
    return use;
  }

  /** What waits to be written of a session. */
  waiting(id: string): Use | null {
    return this.#uses.get(id) ?? null;
  }

  /** Writes what is still to be written: for a shutdown. */
  async settled(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#batch;
    await this.#write();
  }

  #schedule(withinMs: number): void {
    this.#timer ??= setTimeout(
      () => {
        this.#batch = this.#write()
          .catch(() => undefined)
          .finally(() => {
            this.#timer = undefined;
            if (this.#uses.size > 0) this.#schedule(BATCH_MS);
          });
      },
      Math.min(BATCH_MS, withinMs),
    ).unref();
  }

  /** Each use that was noted when it began, once. */
  async #write(): Promise<void> {
    const noted = [...this.#uses.entries()];
    for (let at = 0; at < noted.length; at += BATCH_SIZE)
      await this.#writeSome(noted.slice(at, at + BATCH_SIZE));
  }

  /**
   * One statement; one more where some were not to be written, to see why. A use counts where it was one of a live
   * session, by PostgreSQL's clock. Rows that somebody is writing are left for the next batch: nobody waits for a note.
   */
  async #writeSome(noted: readonly (readonly [string, Use])[]): Promise<void> {
    const uses = noted.map(([id, { lastAt, spacingMs }]) => ({ id, lastAt, spacingMs }));
    const now = performance.now();
    const reading = this.#beginReading();
    const written = await this.#sql.query<SessionRow>(
      `UPDATE user_sessions s SET last_accessed_at = used.at FROM (
         SELECT s.id, s.user_id, given.at
         FROM (SELECT id, now() - ms_ago * interval '1 millisecond' AS at, spacing_ms FROM unnest($2::text[], $3::float8[], $4::float8[]) AS g (id, ms_ago, spacing_ms)) given
         JOIN user_sessions s ON s.id = given.id
         WHERE s.is_active AND s.expires_at > given.at AND s.last_accessed_at > given.at - ${idleMsSql('$1')} * interval '1 millisecond'
           AND s.last_accessed_at <= given.at - least(given.spacing_ms, ${idleMsSql('$1')} / 20) * interval '1 millisecond'
         FOR NO KEY UPDATE OF s SKIP LOCKED) used JOIN users u ON u.id = used.user_id WHERE s.id = used.id RETURNING ${SESSION_COLUMNS}`,
      [
        this.#idleTimeoutMs,
        uses.map(({ id }) => id),
        uses.map(({ lastAt }) => now - lastAt),
        uses.map(({ spacingMs }) => spacingMs),
      ],
    );
    await Promise.all(written.map((row) => this.#seen(row, reading)));
    for (const { id } of written) this.#uses.delete(id);
    const left = uses.filter(({ id }) => this.#uses.has(id));
    if (written.length < uses.length) await this.#lookAt(left, reading.confirmedAt - now);
  }

  /** `clockMs`: PostgreSQL's time less `performance.now()`. */
  async #lookAt(
    uses: readonly { id: string; lastAt: number; spacingMs: number }[],
    clockMs: number,
  ): Promise<void> {
    const reading = this.#beginReading();
    const rows = await this.#sql.query<SessionRow>(
      `SELECT ${SESSION_COLUMNS} FROM user_sessions s JOIN users u ON u.id = s.user_id WHERE s.id = ANY($2::text[])`,
      [this.#idleTimeoutMs, uses.map(({ id }) => id)],
    );
    await Promise.all(rows.map((row) => this.#seen(row, reading)));
    const byId = new Map(rows.map((row) => [row.id, row]));
    for (const { id, lastAt, spacingMs } of uses) {
      const [row, use] = [byId.get(id), this.#uses.get(id)];
      const isDue =
        row !== undefined &&
        row.is_active &&
        !row.is_over &&
        row.last_accessed_at.getTime() < lastAt + clockMs - spacingMs;
      if (use === undefined || !isDue || ++use.tries >= MAX_TRIES) this.#uses.delete(id);
    }
  }
}
