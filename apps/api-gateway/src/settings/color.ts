/** A colour of sRGB, each channel from 0 to 255. */
export type Color = readonly [red: number, green: number, blue: number];

/** `#rgb` or `#rrggbb`; null for anything else. */
export function parseColor(text: string): Color | null {
  const [, digits] = /^#([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(text) ?? [];
  if (digits === undefined) return null;
  const pairs =
    digits.length === 3 ? digits.replace(/./g, '$&$&').match(/../g) : digits.match(/../g);
  const [red = 0, green = 0, blue = 0] = (pairs ?? []).map((pair) => Number.parseInt(pair, 16));
  return [red, green, blue];
}

export const colorText = (color: Color): string =>
  `#${color.map((channel) => channel.toString(16).padStart(2, '0')).join('')}`;

/** `share` (0 to 1) of the second colour in the first. */
export function mixed(color: Color, other: Color, share: number): Color {
  const channel = (at: 0 | 1 | 2): number =>
    Math.round(color[at] * (1 - share) + other[at] * share);
  return [channel(0), channel(1), channel(2)];
}

/** The contrast ratio of two colours, from 1 to 21 (WCAG 2.2). */
export function contrast(one: Color, other: Color): number {
  const [a, b] = [luminance(one), luminance(other)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

function luminance(color: Color): number {
  const linear = (at: 0 | 1 | 2): number => {
    const channel = color[at] / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * linear(0) + 0.7152 * linear(1) + 0.0722 * linear(2);
}
