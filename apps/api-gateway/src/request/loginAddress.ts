import { wayBack } from './returnTo.js';

/** A login that leads back to where a person wanted to go. */
export interface LoginWanted {
  /** Path and query that the person asked for; the gateway's own addresses lead to the start page. */
  readonly back: string;
  /** The gateway's own origin. */
  readonly origin: string;
  /** The level that the login has to reach. */
  readonly acrValues?: string | undefined;
}

/**
 * The path and query of a login, `/auth/login?…`. Every redirect and every link to the login is made here, so that each
 * takes the same along. Behind another proxy the answer may stand under an application's address:
 * put the origin before it.
 */
export function loginAddress({ back, origin, acrValues }: LoginWanted): string {
  const returnTo = back.startsWith('/auth/') ? '/' : wayBack(back, origin);
  const level = acrValues === undefined ? '' : `acr_values=${encodeURIComponent(acrValues)}&`;
  return `/auth/login?${level}return_to=${encodeURIComponent(returnTo)}`;
}
