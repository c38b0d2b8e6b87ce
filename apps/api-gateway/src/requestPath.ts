/** A request path and what it says when every percent-encoding is undone, as often as there is one. */
export interface RequestPath {
  /** The bytes that are judged and forwarded. */
  readonly raw: string;
  readonly decoded: string;
}

// Overlong UTF-8 and characters that some servers fold into `.`, `/` or `\`.
const FOLDED = /%c[01]|%e0%[89]|%ef%bc%(8e|8f|bc)|%e2%(88%95|81%84|80%a4|80%a5)|%ef%b9%(68|92)/i;
const MAX_ROUNDS = 5;

/**
 * The path of a request target, or null when it could be read in two ways: an encoded slash, backslash, dot segments in
 * any spelling, empty segments, NUL, a fragment, or a target that is not in origin form (RFC 9112 §3.2.1).
 */
export function unambiguousPath(target: string): RequestPath | null {
  // A raw control or non-ASCII character has no place in a request target (RFC 3986 §2).
  // eslint-disable-next-line no-control-regex
  if (!target.startsWith('/') || /[\x00-\x20\x7f-\uffff#\\]/.test(target)) return null;
  const query = target.indexOf('?');
  const raw = query === -1 ? target : target.slice(0, query);
  if (raw.includes('//') || /%(?![0-9a-f]{2})/i.test(raw)) return null;
  // Decoded again and again, as a chain of servers might: nothing may turn into a separator on the way.
  for (let decoded = raw, rounds = 0; rounds <= MAX_ROUNDS; rounds++) {
    if (/%(2f|5c|00|0a|0d)/i.test(decoded) || FOLDED.test(decoded) || decoded.split('/').some(isDotSegment)) return null;
    const next = decoded.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
    if (next === decoded) return { raw, decoded };
    decoded = next;
  }
  return null;
}

/** `.` or `..`, also with a parameter (`..;x`), which some servers strip before they resolve. */
function isDotSegment(segment: string): boolean {
  const bare = segment.replace(/%2e/gi, '.').replace(/(;|%3b).*$/i, '');
  return bare === '.' || bare === '..';
}
