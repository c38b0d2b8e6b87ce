/**
 * PostgreSQL: what a caller waits for at most, and how many wait at once. docs/operate/timeouts.md
 * says what follows from it.
 */
export const POSTGRES_TIMEOUTS = {
  /** For a connection, new or from the pool. */
  connectMs: 1_000,
  /** For a statement's answer. */
  queryMs: 2_500,
  /** A crowd of new connections costs PostgreSQL more than the statements that wait for a few. */
  maxConnections: 10,
  /** An unused connection is kept so long: making one is what a burst of requests waits for. */
  idleMs: 60_000,
  /** Callers that wait for a connection; one more is refused at once. */
  maxWaiting: 1_000,
} as const;

/** Redis: what a caller waits for at most, and when a connection counts as lost. */
export const REDIS_TIMEOUTS = {
  /** For a command's answer, whatever is tried anew within. */
  commandMs: 250,
  connectMs: 1_000,
  /** After a command that was not answered in time, nothing is asked for so long. */
  pauseMs: 1_000,
  /** A connection on which nothing is answered for so long is made anew. */
  silenceMs: 3_000,
  reconnectMs: 250,
} as const;
