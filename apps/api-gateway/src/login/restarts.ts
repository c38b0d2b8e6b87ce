/** So long after a restart a failure is a new one: somebody was at the keyboard in between. */
const NEW_AFTER_SECONDS = 60;
/** However slow, a chain of restarts has an end, also where two clocks disagree about the minute. */
const MOST_IN_A_ROW = 3;

/** What ends a `state` whose login was begun anew, the how-manieth time that is, and when: `.2.tmoe3z`. */
const RESTARTED = /^[\w-]+\.([1-9])\.([0-9a-z]{1,8})$/;

/**
 * How often a login was begun anew travels in its `state`, through the provider and back: a browser that keeps no
 * cookies could not say. Nobody vouches for it, and it decides between a redirect to the login and a page only.
 */
export function stateEnding(restarts: number, now: number): string {
  return restarts === 0 ? '' : `.${restarts}.${Math.floor(now / 1000).toString(36)}`;
}

/**
 * The how-manieth restart the next one would be; null: it is enough, and a page says so. `state`:
 * of the login that failed.
 */
export function nextRestart(state: string, now: number): number | null {
  const [, count, at] = RESTARTED.exec(state) ?? [];
  if (count === undefined || at === undefined) return 1;
  const age = now / 1000 - Number.parseInt(at, 36);
  return age > NEW_AFTER_SECONDS && Number(count) < MOST_IN_A_ROW ? Number(count) + 1 : null;
}

/** What an address says of restarts, as `nextRestart` has it; 0 for anything else. */
export const restartsOf = (again: string | null): number =>
  /^[1-3]$/.test(again ?? '') ? Number(again) : 0;
