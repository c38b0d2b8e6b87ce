import type { Sql } from '@session-gateway/database';
import { cacheKeyOfCookie, sessionIdOfKey } from './cookieHash.js';

const MADE_HERE = /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/**
 * A session's id as people and programs get to see it, in answers, headers, log and audit. The row id of a session from
 * before cookies were secrets is its cookie: such a row is shown by the id that it would have got today. Every other id
 * is shown as it is.
 */
export function shownId(rowId: string): string {
  return MADE_HERE.test(rowId) ? rowId : sessionIdOfKey(cacheKeyOfCookie(rowId));
}

/** The same in SQL, over an expression of type text. */
export const shownIdSql = (rowId: string): string => {
  const digest = `encode(sha256(convert_to(${rowId}, 'UTF8')), 'hex')`;
  const variant = `translate(substr(${digest}, 17, 1), '0123456789abcdef', '89ab89ab89ab89ab')`;
  return `CASE WHEN ${rowId} ~ '${MADE_HERE.source}' THEN ${rowId} ELSE
    concat_ws('-', substr(${digest}, 1, 8), substr(${digest}, 9, 4), '8' || substr(${digest}, 14, 3),
      ${variant} || substr(${digest}, 18, 3), substr(${digest}, 21, 12)) END`;
};

/**
 * The row id of a session, live or over, that is shown by another; null when there is none. Its hash begins with the
 * first bits of the shown id, which few share.
 */
export async function rowIdOf(sql: Sql, shown: string): Promise<string | null> {
  if (!MADE_HERE.test(shown)) return null;
  const from = Buffer.from(shown.replaceAll('-', '').slice(0, 12), 'hex');
  const rows = await sql.query<{ id: string }>(
    'SELECT id FROM user_sessions WHERE cookie_hash BETWEEN $1 AND $2',
    [from, Buffer.concat([from, Buffer.alloc(26, 0xff)])],
  );
  return rows.find(({ id }) => id !== shown && shownId(id) === shown)?.id ?? null;
}
