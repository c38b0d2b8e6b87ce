import { type Color, colorText, contrast, mixed, parseColor } from './color.js';

/** WCAG 2.2 §1.4.3, level AA, for text of any size. */
const READABLE = 4.5;

/** What the accent of one scheme stands on or beside, and what it is led towards where it cannot be read there. */
interface Scheme {
  readonly name: 'light' | 'dark';
  readonly grounds: readonly Color[];
  readonly card: Color;
  readonly towards: Color;
}

const LIGHT: Scheme = {
  name: 'light',
  grounds: [
    [0xff, 0xff, 0xff],
    [0xf4, 0xf6, 0xf9],
  ],
  card: [0xff, 0xff, 0xff],
  towards: [0, 0, 0],
};
const DARK: Scheme = {
  name: 'dark',
  grounds: [
    [0x1b, 0x21, 0x2a],
    [0x12, 0x16, 0x1c],
  ],
  card: [0x1b, 0x21, 0x2a],
  towards: [0xff, 0xff, 0xff],
};
const INKS: readonly Color[] = [
  [0xff, 0xff, 0xff],
  [0x0d, 0x14, 0x20],
];

/** Colours of links and buttons in one scheme, as CSS has them. */
export interface SchemeColors {
  readonly accent: string;
  /** Of text on the accent. */
  readonly onAccent: string;
  /** A ground for ordinary text. */
  readonly soft: string;
}

export interface Accent {
  readonly light: SchemeColors;
  readonly dark: SchemeColors;
}

/**
 * BRAND_COLOR: one colour, for the light scheme, from which the dark one's is made; or two with a comma. Each can be
 * read as text on the pages' grounds, and under text; what cannot is refused with the nearest that can.
 * @returns the colours, or what is wrong
 */
export function parseAccent(text: string): Accent | string {
  const colors = text.split(',').map((part) => parseColor(part.trim()));
  const [light, dark = null] = colors;
  if (colors.length > 2 || !light || (colors.length === 2 && dark === null))
    return 'must be a colour of the form #rrggbb, or two with a comma: for light and for dark pages';
  const problems = [...unreadable(light, LIGHT), ...(dark === null ? [] : unreadable(dark, DARK))];
  if (problems.length > 0) return problems.join('; ');
  return {
    light: colorsOf(light, LIGHT),
    dark: colorsOf(dark ?? readable(light, DARK), DARK),
  };
}

const worst = (color: Color, { grounds }: Scheme): number =>
  Math.min(...grounds.map((ground) => contrast(color, ground)));

const inkOn = (color: Color): Color =>
  INKS.reduce((best, ink) => (contrast(ink, color) > contrast(best, color) ? ink : best));

const isReadable = (color: Color, scheme: Scheme): boolean =>
  worst(color, scheme) >= READABLE && contrast(inkOn(color), color) >= READABLE;

/** The nearest colour on the way to black or white that can be read. */
function readable(color: Color, scheme: Scheme): Color {
  const shares = Array.from({ length: 51 }, (_, i) => i / 50);
  const found = shares
    .map((share) => mixed(color, scheme.towards, share))
    .find((shade) => isReadable(shade, scheme));
  return found ?? scheme.towards;
}

function unreadable(color: Color, scheme: Scheme): string[] {
  if (isReadable(color, scheme)) return [];
  const ratio = Math.floor(worst(color, scheme) * 10) / 10;
  return [
    `cannot be read on ${scheme.name} pages: its contrast is ${ratio.toFixed(1)}, and 4.5 is needed (WCAG AA); ${colorText(readable(color, scheme))} would do`,
  ];
}

const colorsOf = (color: Color, { card }: Scheme): SchemeColors => ({
  accent: colorText(color),
  onAccent: colorText(inkOn(color)),
  soft: colorText(mixed(card, color, 0.12)),
});
