/**
 * Where a page of a list ends: what its last session is sorted by. It names a place, not a row, so that it holds when
 * that session is over or purged. Microseconds, as PostgreSQL keeps them: a Date would skip or repeat its neighbours.
 */
export interface ListPosition {
  readonly createdAtMicros: string;
  readonly id: string;
}

/** A position as clients hold it: opaque to them. */
export function cursorOf({ createdAtMicros, id }: ListPosition): string {
  return Buffer.from(`${createdAtMicros} ${id}`).toString('base64url');
}

/** The position of a cursor; null when the text is none that `cursorOf` made. */
export function positionOf(cursor: string): ListPosition | null {
  const bytes = Buffer.from(cursor, 'base64url');
  // 16 digits are exact as a double, which PostgreSQL multiplies intervals by. It takes no NUL in a text.
  const [, createdAtMicros, id] =
    /^(-?\d{1,15}|[1-8]\d{15}) ([^\0]+)$/s.exec(bytes.toString('utf8')) ?? [];
  if (createdAtMicros === undefined || id === undefined) return null;
  return cursorOf({ createdAtMicros, id }) === cursor ? { createdAtMicros, id } : null;
}
