/** White space, control and format characters: a text with them is no address, or not the same one to every reader. */
export const hasBlanks = (text: string): boolean => /[\p{C}\p{Z}]/u.test(text);

/**
 * The URL that a text spells, or null. Stricter than the parser itself (WHATWG), which drops tabs, line ends and the
 * blanks around it, adds slashes after the scheme, and turns backslashes, without a word.
 */
export function parseUrl(text: string): URL | null {
  return /^[a-z][a-z0-9+.-]*:\/\/[^/\\][^\\]*$/i.test(text) &&
    !hasBlanks(text) &&
    URL.canParse(text)
    ? new URL(text)
    : null;
}
