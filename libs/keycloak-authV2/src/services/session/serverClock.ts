/** How far this machine's clock may be from PostgreSQL's. */
export const MAX_CLOCK_SKEW_MS = 30_000;

/**
 * SQL for a time that this process worked out by its own clock, as PostgreSQL's clock would have it, which all
 * processes are judged by. `ownNow` is the parameter with this process's time at the writing; null where PostgreSQL's
 * clock made the time already. A difference that the way to PostgreSQL may explain is none.
 */
export function onServerClock(time: string, ownNow: string): string {
  const ahead = `(clock_timestamp() - ${ownNow}::timestamptz)`;
  return `(${time}::timestamptz + CASE WHEN abs(extract(epoch FROM ${ahead})) > 5 THEN ${ahead} ELSE interval '0' END)`;
}
