/** The value below which half of them lie; NaN of none. Leaves `values` as they are. */
export const median = (values: readonly number[]): number =>
  sorted(values)[values.length >> 1] ?? NaN;

/** The 99th percentile; Infinity of none, so that what was not measured meets no bound. */
export const p99 = (values: readonly number[]): number =>
  sorted(values)[Math.ceil(values.length * 0.99) - 1] ?? Infinity;

/** Of the straight line that fits points best, by least squares. */
export function slopeOf(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (at: 0 | 1): number =>
    points.reduce((sum, point) => sum + point[at], 0) / points.length;
  const [x, y] = [mean(0), mean(1)];
  return (
    points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0) /
    points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0)
  );
}

/** To three decimals. */
export const rounded = (value: number): number => Math.round(value * 1000) / 1000;

const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);
