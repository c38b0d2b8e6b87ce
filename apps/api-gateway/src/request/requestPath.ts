import { isUtf8 } from 'node:buffer';

/** A request path and what it says when every percent-encoding is undone, as often as there is one. */
export interface RequestPath {
  /** The bytes that are judged and forwarded. */
  readonly raw: string;
  readonly decoded: string;
}

/** Characters that some servers fold into `.`, `/` or `\`, or into a text with one of them. */
const FOLDED =
  /[\u2024\u2025\ufe52\uff0e\u2044\u2100\u2101\u2105\u2106\u2215\u29f8\uff0f\u2216\u29f5\u29f9\ufe68\uff3c]/;
const MAX_ROUNDS = 5;

/**
 * The path of a request target, or null when it could be read in two ways: an encoded slash, backslash, dot segments in
 * any spelling, empty segments, NUL, bytes that are no UTF-8 and so are anyone's guess, a fragment, or a target that is
 * not in origin form (RFC 9112 §3.2.1).
 */
export function unambiguousPath(target: string): RequestPath | null {
  // A raw control or non-ASCII character has no place in a request target (RFC 3986 §2).
  // eslint-disable-next-line no-control-regex
  if (!target.startsWith('/') || /[\x00-\x20\x7f-\uffff#]/.test(target)) return null;
  const query = target.indexOf('?');
  const raw = query === -1 ? target : target.slice(0, query);
  if (/\/\/|\\/.test(raw) || /%(?![0-9a-f]{2})/i.test(raw)) return null;
  // Decoded again and again, as a chain of servers might: nothing may turn into a separator on the way.
  for (let decoded = raw, rounds = 0; rounds <= MAX_ROUNDS; rounds++) {
    const bytes = Buffer.from(decoded, 'latin1');
    // A lenient decoder may make a separator of an overlong or unfinished sequence.
    if (!isUtf8(bytes) || FOLDED.test(bytes.toString('utf8'))) return null;
    // `%u002f` is a slash to IIS.
    if (/%(2f|5c|00|0a|0d|u[0-9a-f]{4})/i.test(decoded) || decoded.split('/').some(isDotSegment))
      return null;
    const next = decoded.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
      String.fromCharCode(parseInt(hex, 16)),
    );
    if (next === decoded) return { raw, decoded };
    decoded = next;
  }
  return null;
}

/**
 * A decoded segment that is nothing but a parameter, or a name of dots of which a lenient server leaves nothing: `.`
 * and `..`, also with a parameter that is stripped before they are resolved (`..;x`), and `...` or `..:x`, of which
 * what is taken off first may leave `..`.
 */
function isDotSegment(segment: string): boolean {
  return segment.startsWith(';') || (segment.includes('.') && loosened(segment) === '');
}

/** Nothing that any server is known to read otherwise. */
const PLAIN = /^[a-z0-9/_-]*$/;

/**
 * A decoded path as lenient servers read it; the same text where they read nothing else. What follows a `?` or `#` is
 * cut off by a second decoder; Windows takes dots and blanks off the end of a name, and what follows a `:` (NTFS
 * streams); parameters, control characters and characters without width are passed over; compatible forms and letters
 * with marks become the letters that they look like (NFKC, best fit). A name of which nothing is left is none.
 */
export function loosened(decoded: string): string {
  if (PLAIN.test(decoded)) return decoded;
  const [path = ''] = Buffer.from(decoded, 'latin1').toString('utf8').split(/[?#]/, 1);
  return path
    .normalize('NFKD')
    .replace(/[\p{M}\p{Cc}\p{Cf}]/gu, '')
    .split('/')
    .map((segment) => segment.replace(/[;:].*$/, '').replace(/^[\s+]+|[\s.+]+$/g, ''))
    .join('/')
    .replace(/\/{2,}/g, '/');
}

/** Whether a segment may be the short name (8.3) that Windows gives to a longer one, both in lower case. */
export function isShortNameOf(segment: string, name: string): boolean {
  const [, start, hash] = /^([^~.]{1,2})([^~.]{0,6})~\d{1,6}(?:\.|$)/.exec(segment) ?? [];
  if (start === undefined || hash === undefined) return false;
  const letters = name.replace(/[ .+,;=[\]]/g, '');
  // From the fifth of a kind on, four hexadecimal digits stand where letters would.
  return (
    letters.startsWith(start + hash) || (letters.startsWith(start) && /^[0-9a-f]{4}$/.test(hash))
  );
}
