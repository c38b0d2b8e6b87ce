import type { Random } from '../../harness/random.js';

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** A text bent a few times: pieces put in, parts taken out, doubled, swapped, bits flipped, cut, blown up. */
export function bentText(random: Random, text: string, pieces: readonly string[]): string {
  let bent = text;
  for (let times = 1 + random.below(4); times > 0; times--) {
    const at = random.below(bent.length + 1);
    const to = Math.min(bent.length, at + random.below(12));
    switch (random.below(8)) {
      case 0:
        bent = bent.slice(0, at) + bent.slice(to);
        break;
      case 1:
        bent = bent.slice(0, to) + bent.slice(at);
        break;
      case 2:
      case 3:
      case 4:
        bent = bent.slice(0, at) + random.pick(pieces) + bent.slice(random.chance(0.5) ? at : to);
        break;
      case 5:
        bent =
          at < bent.length
            ? bent.slice(0, at) +
              String.fromCharCode(bent.charCodeAt(at) ^ (1 << random.below(8))) +
              bent.slice(at + 1)
            : bent;
        break;
      case 6:
        bent = random.chance(0.3) ? bent.slice(0, at) : bent.slice(to) + bent.slice(0, to);
        break;
      case 7:
        bent = random.chance(0.02)
          ? bent.slice(0, at) + random.pick(pieces).repeat(2000) + bent.slice(at)
          : bent + random.pick(pieces);
        break;
    }
  }
  return bent;
}

export function joined(random: Random, pieces: readonly string[], most: number): string {
  return Array.from({ length: random.below(most + 1) }, () => random.pick(pieces)).join('');
}

const ODD_VALUES: readonly Json[] = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  1e308,
  -1e308,
  2 ** 53,
  'x',
  '',
  ' ',
  '\0',
  'a'.repeat(300),
  'é',
  '\ud800',
  'constructor',
  '__proto__',
  'toString',
  'true',
  '1',
  [],
  {},
  [[]],
  [null],
  { length: 1 },
  { toString: 1 },
  ['a', 'b'],
  { a: { b: { c: {} } } },
  'https://evil.example',
  '../..',
  '${x}',
  '%s%n',
  '\u2028',
  '1e3',
  '0x10',
  '-0',
];
const ODD_NAMES = [
  '__proto__',
  'constructor',
  'toString',
  'length',
  '',
  ' ',
  'x',
  '\0',
  'then',
  'hasOwnProperty',
];

function childCount(value: Json): number {
  if (Array.isArray(value)) return value.length;
  return value !== null && typeof value === 'object' ? Object.keys(value).length : 0;
}

/** A copy with one thing in it changed, somewhere: another type, gone, doubled, renamed, wrapped. */
export function bentJson(random: Random, value: Json, odd: readonly Json[] = ODD_VALUES): Json {
  const children = childCount(value);
  if (children > 0 && random.chance(0.85)) {
    const at = random.below(children);
    if (Array.isArray(value)) {
      const copy = [...value];
      const child = copy[at] ?? null;
      const choice = random.below(20);
      if (choice < 3) copy.splice(at, 1);
      else if (choice < 6) copy.splice(at, 0, child);
      else copy[at] = bentJson(random, child, odd);
      return copy;
    }
    const entries = Object.entries(value as Record<string, Json>);
    const [name, child] = entries[at] ?? ['', null];
    const choice = random.below(10);
    if (choice === 0) entries.splice(at, 1);
    else if (choice === 1) entries[at] = [random.pick(ODD_NAMES), child];
    else if (choice === 2) entries.push([random.pick(ODD_NAMES), random.pick(odd)]);
    else entries[at] = [name, bentJson(random, child, odd)];
    return Object.fromEntries(entries);
  }
  if (random.chance(0.1)) return [value];
  if (random.chance(0.05)) return { value };
  if (typeof value === 'string' && random.chance(0.5))
    return bentText(random, value, ['', ' ', '/', ':', '\0', 'x', '.', '\n', 'é', '%00', '"', '=']);
  return random.pick(odd);
}

const JSON_PIECES = [
  '{',
  '}',
  '[',
  ']',
  '"',
  ',',
  ':',
  '\\',
  '\\u0000',
  'null',
  '1e999',
  '-',
  '\n',
  '\0',
  '//',
  '{}',
  '"__proto__":{},',
  '\ufeff',
  "'",
  'NaN',
  '0x1',
  '\\ud800',
];

/** JSON text that is whole, bent as text, cut, nested beyond reason, or no JSON at all. */
export function hostileJson(random: Random, value: Json): string {
  const text = JSON.stringify(value);
  const choice = random.below(40);
  if (choice < 24) return text;
  if (choice < 34) return bentText(random, text, JSON_PIECES);
  if (choice === 34) return text.slice(0, random.below(text.length));
  if (choice === 35)
    return random
      .pick(['[', '{"a":', '[[{"keys":'])
      .repeat(1 + random.below(random.chance(0.02) ? 20_000 : 200));
  if (choice === 36) return doubledMember(random, text);
  if (choice === 37) return joined(random, JSON_PIECES, 30);
  if (choice === 38) return ` \t\n${text}\r\n`;
  return random.pick([
    '',
    'null',
    '[]',
    '{}',
    '""',
    '0',
    '[null]',
    'undefined',
    '{"keys":[]}',
    '[[]]',
  ]);
}

/** The same member name twice, as JSON allows and few expect. */
function doubledMember(random: Random, text: string): string {
  const names = [...text.matchAll(/"(\w+)":/g)];
  if (names.length === 0) return text;
  const { index, 0: member } = random.pick(names);
  return `${text.slice(0, index)}${member}${JSON.stringify(random.pick(ODD_VALUES))},${text.slice(index)}`;
}
