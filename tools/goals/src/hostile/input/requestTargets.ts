import { unambiguousPath } from '../../../../../apps/api-gateway/src/request/requestPath.js';
import type { Random } from '../../harness/random.js';
import { bentText, joined } from './grammar.js';
import type { Surface } from './trial.js';

/** Request targets. */
export function pathSurface(
  random: Random,
  check: (target: string) => { raw: string; decoded: string } | null = unambiguousPath,
): Surface {
  const pieces = [
    '/',
    '/',
    '/',
    '//',
    '.',
    '..',
    '/./',
    '/../',
    '\\',
    ';',
    '..;',
    ';x=1',
    '%2e',
    '%2E',
    '%2f',
    '%2F',
    '%5c',
    '%5C',
    '%00',
    '%25',
    '%2525',
    '%252e',
    '%252f',
    '%2500',
    '%3b',
    '%c0%af',
    '%c0%ae',
    '%e0%80%af',
    '%f0%80%80%af',
    '%f8%80%80%80%af',
    '%c1%9c',
    '%ef%bc%8f',
    '%ef%bc%8e',
    '%ef%bc%bc',
    '%e2%88%95',
    '%e2%81%84',
    '%ef%25bc%258f',
    '%c3%a9',
    '%61',
    'api',
    'admin',
    'a',
    '%',
    '%u002f',
    '%zz',
    '#',
    '?',
    ' ',
    '\t',
    '\0',
    '\xe9',
    '\uff0f',
    '*',
    'http://other.example',
    '%0d%0a',
    '%20',
    '%09',
    '%7f',
    '~',
    '@',
    ':',
    '|',
    '"',
    '<',
    '^',
    '`',
    '{',
    '[',
  ];
  return {
    name: 'request path',
    weight: 20,
    next() {
      const whole = random.pick([
        '/',
        '/api/items/1',
        '/api/a%20b?next=//x',
        '/a.b/..c',
        '/caf%C3%A9',
        '/a;v=1/b',
        '/%61pi/x',
      ]);
      const hostile = (): string =>
        random.chance(0.4)
          ? bentText(random, whole, pieces)
          : random.pick(['/', '/', '']) + joined(random, pieces, 8);
      const target = random.chance(0.05) ? whole : hostile();
      return {
        input: JSON.stringify(target),
        run: () => check(target),
        documented: () => false,
        accepted: (outcome) => outcome !== null,
        wrong: (path) => secondReading(path as { raw: string; decoded: string } | null, target),
      };
    },
  };
}

/**
 * Another reading that some server makes of an accepted path: by decoding again, leniently, folding, or resolving it.
 */
function secondReading(
  path: { raw: string; decoded: string } | null,
  target: string,
): string | null {
  if (path === null) return null;
  const { raw } = path;
  if (
    raw !== target.split('?', 1)[0] ||
    !/^\/[!-~]*$/.test(raw) ||
    raw.includes('#') ||
    raw.includes('\\')
  )
    return "the path is not the target's own bytes";
  if (raw !== '/' && raw.slice(1).split('/').slice(0, -1).includes(''))
    return 'an empty segment passes';
  const slashes = raw.split('/').length;
  for (let bytes: Buffer = Buffer.from(raw, 'latin1'), round = 0; round < 20; round++) {
    for (const [reading, why] of [
      [bytes.toString('latin1'), 'decoded'],
      [lenientUtf8(bytes), 'decoded as lenient UTF-8'],
      [folded(bytes), 'folded'],
    ] as const) {
      if (reading.includes('\\') || reading.split('/').length !== slashes)
        return `a separator appears when ${why}`;
      if (reading.includes('\0')) return `a NUL appears when ${why}`;
      if (reading.split('/').some((segment) => /^\.{1,2}(;|$)/.test(segment)))
        return `a dot segment appears when ${why}`;
    }
    const next = Buffer.from(
      bytes
        .toString('latin1')
        .replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) =>
          String.fromCharCode(Number.parseInt(hex, 16)),
        ),
      'latin1',
    );
    if (next.equals(bytes)) break;
    bytes = next;
  }
  const resolved = new URL(`http://h${raw}`);
  return resolved.host === 'h' && resolved.pathname.split('/').length === slashes
    ? null
    : 'a URL parser resolves it to another path';
}

/** UTF-8 without the check for the shortest form, as careless decoders read it. */
function lenientUtf8(bytes: Buffer): string {
  let text = '';
  for (let i = 0; i < bytes.length;) {
    const first = bytes[i++] ?? 0;
    const more = bytesAfter(first);
    let point = more === 0 ? first : first & (0x3f >> more);
    for (let j = 0; j < more && ((bytes[i] ?? 0) & 0xc0) === 0x80; j++)
      point = (point << 6) | ((bytes[i++] ?? 0) & 0x3f);
    text += point >= 0 && point <= 0x10ffff ? String.fromCodePoint(point) : '\ufffd';
  }
  return text;
}

/** How many bytes a first byte announces. */
function bytesAfter(first: number): number {
  if (first >= 0xfc) return 5;
  if (first >= 0xf8) return 4;
  if (first >= 0xf0) return 3;
  if (first >= 0xe0) return 2;
  return first >= 0xc0 ? 1 : 0;
}

/** Characters that compatibility mappings and best-fit tables turn into a dot, a slash or a backslash. */
function folded(bytes: Buffer): string {
  return bytes
    .toString('utf8')
    .replace(/[\uff0e\u2024\ufe52]/g, '.')
    .replace(/\u2025/g, '..')
    .replace(/[\uff0f\u2215\u2044]/g, '/')
    .replace(/[\uff3c\ufe68]/g, '\\');
}
