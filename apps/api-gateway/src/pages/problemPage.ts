import { isAuthError, type Reason } from '@session-gateway/keycloak-auth';
import type { Config } from '../settings/config.js';
import type { Problem, WayOn } from '../request/errors.js';
import { isNavigation } from '../request/navigation.js';
import { loginAddress } from '../request/loginAddress.js';
import type { HeaderReader } from '../request/sameOrigin.js';
import { stillPagePolicy } from './browserHeaders.js';
import { type Look, lookFor } from './look.js';
import { document, escapeHtml } from './page.js';
import type { LoginFailure, ProblemWords, Words } from './words/words.js';

/** The request that met a problem. */
export interface Asked {
  readonly method: string;
  readonly header: HeaderReader;
  /** Path and query. */
  readonly address: string;
  readonly requestId: string | null;
  /** Of the login that it belongs to. */
  readonly uiLocales?: string | null;
}

/** A problem as whoever asked can read it: a page for a navigation, else the problem document. Both have the same status and fields. */
export function representation(
  gateway: { config: Pick<Config, 'brand' | 'publicUrl'> },
  problem: Problem,
  asked: Asked,
): { headers: Record<string, string>; body: string } {
  if (!isNavigation(asked.method, asked.header))
    return { headers: problem.headers(), body: problem.body() };
  return {
    headers: {
      ...problem.headers(),
      'Content-Type': 'text/html; charset=utf-8',
      'Content-Security-Policy': stillPagePolicy(gateway.config),
      Vary: 'Accept, Accept-Language',
    },
    body: problemPage(problem, {
      ...asked,
      look: lookFor(gateway, asked.header, asked.uiLocales ?? uiLocalesOf(asked.address)),
    }),
  };
}

/** What happened, what to do, and a way on: without script, and with nothing of the address but where a login leads back to. */
export function problemPage(
  problem: Problem,
  { address, requestId, look }: Pick<Asked, 'address' | 'requestId'> & { look: Look },
): string {
  const { words } = look;
  const { title, happened, todo } = wordsOf(problem, words);
  const ways: readonly WayOn[] = problem.way === 'home' ? ['home'] : [problem.way, 'home'];
  const links = ways.map((way, i) => {
    const to = escapeHtml(destinationOf(way, { problem, address, look }));
    return `<a class="button${i === 0 ? '' : ' quiet'}" href="${to}">${escapeHtml(words.ways[way])}</a>`;
  });
  const id =
    requestId === null
      ? ''
      : `\n<p class="small">${escapeHtml(words.requestId)} <code>${escapeHtml(requestId)}</code></p>`;
  return document(
    title,
    `<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(happened)}</p>
<p>${escapeHtml(todo)}</p>
<p class="actions">${links.join('\n')}</p>${id}`,
    { code: problem.code, look },
  );
}

/** Of the query of an address, once. */
function uiLocalesOf(address: string): string | null {
  const [, query = ''] = address.split('?', 2);
  return new URLSearchParams(query).get('ui_locales');
}

/** Absolute where it leads to the gateway: the page may stand under an application's address (forward-auth). Empty: the same page again. */
function destinationOf(
  way: WayOn,
  { problem, address, look: { brand, origin } }: { problem: Problem; address: string; look: Look },
): string {
  if (way === 'retry') return '';
  if (way === 'home') return brand.home;
  return origin + loginAddress({ back: address, origin, acrValues: problem.acrValues });
}

function wordsOf({ code, cause }: Problem, words: Words): ProblemWords {
  if (code !== 'callback_rejected') return words.problems[code];
  const reason = isAuthError(cause) ? cause.reason : 'no_login_state';
  const failure = reason === undefined ? undefined : LOGIN_FAILURES.get(reason);
  return failure === undefined ? words.problems[code] : words.loginFailures[failure];
}

/** Reasons of a refused callback that a person can do something different about. */
const LOGIN_FAILURES: ReadonlyMap<Reason, LoginFailure> = new Map([
  ['no_login_state', 'state'],
  ['access_denied', 'denied'],
  ['consent_required', 'denied'],
  ['unmet_authentication_requirements', 'denied'],
  ['acr', 'denied'],
  ['server_error', 'busy'],
  ['slow_down', 'busy'],
  ['temporarily_unavailable', 'busy'],
  ['account_selection_required', 'question'],
  ['interaction_required', 'question'],
  ['login_required', 'question'],
  ['auth_time', 'question'],
  ['expired', 'clock'],
  ['not_yet_valid', 'clock'],
  ['issued_at', 'clock'],
  ['logged_out', 'loggedOut'],
]);
