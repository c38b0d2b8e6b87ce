import { availableParallelism } from 'node:os';

const MOST = 256;

/** How many processes one service has; null when the text says no number. */
export function parseWorkers(text: string | undefined): number | null {
  if (!text) return 1;
  if (text === 'auto') return availableParallelism();
  const count = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  return count >= 1 && count <= MOST ? count : null;
}
