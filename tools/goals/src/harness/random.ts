/** Pseudo-random numbers that a seed repeats (xoshiro128**); never for a secret. */
export interface Random {
  /** A whole number from 0 up to, and without, `limit`. */
  below(limit: number): number;
  chance(probability: number): boolean;
  pick<Item>(items: readonly Item[]): Item;
  bytes(size: number): Buffer;
  /** Printable ASCII without the space. */
  text(length: number): string;
}

export function randomOf(seed: number): Random {
  // splitmix32 spreads the seed over the state, so that neighbouring seeds have nothing in common.
  let spread = seed >>> 0;
  const fill = (): number => {
    spread = (spread + 0x9e3779b9) >>> 0;
    let z = spread;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
  let [a, b, c, d] = [fill(), fill(), fill(), fill()];
  const rotated = (x: number, by: number): number => (x << by) | (x >>> (32 - by));
  const next = (): number => {
    const result = Math.imul(rotated(Math.imul(b, 5), 7), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotated(d, 11);
    return result;
  };
  const below = (limit: number): number => Math.floor((next() / 2 ** 32) * limit);
  return {
    below,
    chance: (probability) => next() / 2 ** 32 < probability,
    pick(items) {
      if (items.length === 0) throw new RangeError('there is nothing to pick from');
      return items[below(items.length)] as (typeof items)[number];
    },
    bytes(size) {
      const bytes = Buffer.allocUnsafe(size);
      for (let i = 0; i < size; i += 4)
        bytes.writeUIntLE(
          i + 4 <= size ? next() : next() % 2 ** (8 * (size - i)),
          i,
          Math.min(4, size - i),
        );
      return bytes;
    },
    text: (length) => Array.from({ length }, () => String.fromCharCode(0x21 + below(94))).join(''),
  };
}
