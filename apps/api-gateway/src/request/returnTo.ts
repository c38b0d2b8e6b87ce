/** As it travels in the login's cookie, of which browsers take 4096 bytes in all. */
const MAX_LENGTH = 2048;

/**
 * A local path to return to after login, or null when the text could lead anywhere else. Judged by the URL parser that
 * browsers use, after everything that parsers disagree on has been refused: backslashes, control characters, `//`.
 */
export function localPath(text: string, publicOrigin: string): string | null {
  // eslint-disable-next-line no-control-regex
  if (!/^\/(?!\/)/.test(text) || /[\x00-\x1f\x7f\\]/.test(text) || text.length > MAX_LENGTH)
    return null;
  if (!URL.canParse(text, publicOrigin)) return null;
  const url = new URL(text, publicOrigin);
  const path = url.pathname + url.search + url.hash;
  // Dot segments may have uncovered a second slash: `/.//host`.
  // What is no ASCII has grown to several characters.
  return url.origin === publicOrigin && !path.startsWith('//') && path.length <= MAX_LENGTH
    ? path
    : null;
}

/**
 * Where a person comes back to after the login: what was asked for, without its query where that
 * is too long to take along.
 */
export const wayBack = (address: string, publicOrigin: string): string =>
  localPath(address, publicOrigin) ??
  localPath(address.split('?', 1)[0] ?? '/', publicOrigin) ??
  '/';

/**
 * A local path with one more parameter in its query, in place of any of that name. Name and value are
 * letters, digits, `_` and `-`.
 */
export function withParameter(path: string, name: string, value: string): string {
  const [, address = '', query = '', fragment = ''] =
    /^([^?#]*)(?:\?([^#]*))?(#.*)?$/s.exec(path) ?? [];
  const others = query.split('&').filter((pair) => pair !== '' && pair.split('=', 1)[0] !== name);
  return `${address}?${[...others, `${name}=${value}`].join('&')}${fragment}`;
}
