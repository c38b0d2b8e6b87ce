import {
  type ListedSession,
  type Profile,
  type Session,
  shownId,
} from '@session-gateway/keycloak-auth';
import { deviceOf } from './device.js';
import { filled } from './words/languages.js';
import type { Look } from './look.js';
import { styleOf } from './style.js';
import type { Notice, Words } from './words/words.js';

/** Where the logo is. */
export const LOGO_PATH = '/auth/logo';

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/**
 * A page whose own navigation leads on. Unlike a redirect that another site began it brings the Strict cookie, and unlike
 * the redirect that answers a form it is not held to the form's `form-action` (CSP Level 3 §6.4.1).
 */
export function onwardPage(
  address: string,
  { words: { language, direction, onward } }: Pick<Look, 'words'>,
): string {
  const to = escapeHtml(address);
  return `<!doctype html>
<html lang="${language}" dir="${direction}"><head><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=${to}">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>${escapeHtml(onward.title)}</title></head>
<body><main><h1>${escapeHtml(onward.title)}</h1><p><a href="${to}">${escapeHtml(onward.way)}</a></p></main></body></html>
`;
}

/** Who is logged in, and until when the session lasts: if it is left alone, and at the latest. */
export interface Current {
  readonly session: Session;
  readonly profile: Profile;
  readonly end: { readonly at: Date; readonly latest: Date };
}

/** The start page: log in, who is logged in, log out. It works without script. */
export function startPage(current: Current | null, look: Look): string {
  const { words } = look;
  const { title, anonymous, todo, hello, account } = words.start;
  if (current === null) {
    return page(
      title,
      `<h1>${escapeHtml(anonymous)}</h1>
<p>${escapeHtml(todo)}</p>
<p><a class="button" href="/auth/login">${escapeHtml(words.ways.login)}</a></p>`,
      null,
      look,
    );
  }
  return page(
    title,
    `<h1>${escapeHtml(filled(hello, { name: nameOf(current) }))}</h1>
${person(current, words)}
<div class="actions"><a class="button quiet" href="/account">${escapeHtml(account)}</a>${logOut(words)}</div>`,
    current,
    look,
  );
}

/** `GET /account`: who I am and where I am logged in; each session can be ended, without script too. */
export function accountPage(
  current: Current,
  sessions: readonly ListedSession[],
  { notice, isAdmin }: { notice: Notice | null; isAdmin: boolean },
  look: Look,
): string {
  const { words } = look;
  const ownId = shownId(current.session.id);
  const others = sessions.filter(({ id }) => id !== ownId);
  const own = sessions.filter(({ id }) => id === ownId);
  const { title, sessions: heading, endOthers, back, notices } = words.account;
  return page(
    title,
    `<h1>${escapeHtml(title)}</h1>
${notice === null ? '' : `<p class="notice" role="status">${escapeHtml(notices[notice])}</p>`}
${person(current, words)}
<h2>${escapeHtml(heading)}</h2>
<ul class="sessions">
${[...own, ...others].map((session) => sessionItem(session, session.id === ownId, words)).join('\n')}
</ul>
${others.length === 0 ? '' : `<form method="post" action="/account/end-others"><button class="button danger" type="submit">${escapeHtml(endOthers)}</button></form>`}
${
  isAdmin
    ? `<p class="back"><a href="/account/admin">${escapeHtml(words.admin.title)}</a></p>
`
    : ''
}<p class="back"><a href="${escapeHtml(look.brand.home)}">${escapeHtml(back)}</a></p>`,
    current,
    look,
  );
}

/** `GET /auth/logged-out`: where the provider leads the browser back to after a logout. */
export const loggedOutPage = (look: Look): string => endPage(look.words.loggedOut, look);

/** `GET /auth/ended`: where pages go whose session is over. It waits for the person: a login of its own might be granted without asking. */
export const sessionOverPage = (look: Look): string => endPage(look.words.over, look);

function endPage({ title, happened }: Words['over'], look: Look): string {
  return page(
    title,
    `<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(happened)}</p>
<p><a class="button" href="/auth/login">${escapeHtml(look.words.logInAgain)}</a></p>`,
    null,
    look,
  );
}

/** A page of the gateway's own, with its style inside and its scripts from here. */
export function page(title: string, main: string, current: Current | null, look: Look): string {
  const session = current === null ? '' : shownId(current.session.id);
  const scripts = `<script src="/auth/client.js" data-session="${escapeHtml(session)}" defer></script>
<script src="/account/page.js" defer></script>`;
  return document(title, main, { scripts, footer: current ? warning(look.words) : '', look });
}

/** A whole page around its `main`. `code`: of the problem that the page is about. */
export function document(
  title: string,
  main: string,
  {
    scripts = '',
    footer = '',
    code,
    look,
  }: {
    scripts?: string;
    footer?: string;
    code?: string;
    look: Look;
  },
): string {
  const {
    words: { language, direction },
    brand,
  } = look;
  const name = brand.name === null ? '' : ` · ${escapeHtml(brand.name)}`;
  return `<!doctype html>
<html lang="${language}"${direction === 'ltr' ? '' : ` dir="${direction}"`}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>${escapeHtml(title)}${name}</title>
<style>${styleOf(brand).text}</style>
${scripts}
</head>
<body>
${banner(look)}<main${code === undefined ? '' : ` data-code="${escapeHtml(code)}"`}>
${main}
</main>
${footer}
</body>
</html>
`;
}

/** Whose page it is; nothing where no brand is set. */
function banner({ words, brand: { name, logo, home }, origin }: Look): string {
  if (name === null && logo === null) return '';
  // Absolute: the page may stand under an application's address (forward-auth).
  const picture = logo === null ? '' : `<img src="${escapeHtml(origin + LOGO_PATH)}" alt="">`;
  const text = name === null ? '' : `<span>${escapeHtml(name)}</span>`;
  const label = name === null ? ` aria-label="${escapeHtml(words.ways.home)}"` : '';
  return `<header><a class="brand" href="${escapeHtml(home)}"${label}>${picture}${text}</a></header>
`;
}

const nameOf = ({ profile, session }: Current): string =>
  profile.name ?? profile.preferredUsername ?? session.subject;

function person(current: Current, { person: words }: Words): string {
  const { session, profile, end } = current;
  const roles = session.roles.map((role) => `<span class="role">${escapeHtml(role)}</span>`);
  const ends =
    end.at < end.latest
      ? withTimes(words.endsIfUnused, { idle: end.at, latest: end.latest })
      : time(end.latest);
  const rows: [string, string][] = [
    [words.name, escapeHtml(nameOf(current))],
    [words.userName, escapeHtml(profile.preferredUsername ?? '–')],
    [words.email, escapeHtml(profile.email ?? '–')],
    [words.roles, roles.join(' ') || escapeHtml(words.noRoles)],
    // The script looks for it, and keeps the first of its times up to date.
    [words.ends, `<span id="ends">${ends}</span>`],
  ];
  return `<dl>
${rows.map(([term, value]) => `<div><dt>${escapeHtml(term)}</dt><dd>${value}</dd></div>`).join('\n')}
</dl>`;
}

function sessionItem(
  { id, userAgent, ipAddress, lastAccessedAt, createdAt }: ListedSession,
  isCurrent: boolean,
  words: Words,
): string {
  const { account } = words;
  const device = deviceOf(userAgent, words);
  const address = ipAddress ?? words.unknownAddress;
  const mark = isCurrent ? ` <span class="current">${escapeHtml(account.current)}</span>` : '';
  const label = escapeHtml(filled(account.endOne, { device, address }));
  const end = `<form method="post" action="/account/end"><input type="hidden" name="id" value="${escapeHtml(id)}"><button class="button quiet" type="submit" aria-label="${label}">${escapeHtml(account.end)}</button></form>`;
  const used = withTimes(account.lastUsed, { time: lastAccessedAt });
  const since = withTimes(account.since, { time: createdAt });
  return `<li>
<div><h3 title="${escapeHtml(userAgent ?? '')}">${escapeHtml(device)}${mark}</h3>
<p>${escapeHtml(address)} · ${used} · ${since}</p></div>
${isCurrent ? logOut(words) : end}
</li>`;
}

/** As markup; the pages' script makes it local. */
export const time = (at: Date): string =>
  `<time datetime="${at.toISOString()}">${at.toISOString().slice(0, 16).replace('T', ' ')} UTC</time>`;

/** A message with times in it, as markup. */
export function withTimes(message: string, times: Readonly<Record<string, Date>>): string {
  const values = Object.entries(times).map(([name, at]) => [name, time(at)] as const);
  return filled(escapeHtml(message), Object.fromEntries(values));
}

const logOut = (words: Words): string =>
  `<form method="post" action="/auth/logout?page=true"><button class="button" type="submit">${escapeHtml(words.logOut)}</button></form>`;

/** The script shows it, in its own words for each case, before the session ends. */
function warning({ warning: { extendable, final, stay }, logOutFailed }: Words): string {
  const data = Object.entries({ extendable, final, 'logout-failed': logOutFailed });
  const attributes = data.map(([name, text]) => `data-${name}="${escapeHtml(text)}"`);
  return `<div id="warning" ${attributes.join(' ')} hidden>
<p><span role="alert"></span> <span aria-hidden="true" data-left></span></p>
<button class="button" type="button">${escapeHtml(stay)}</button>
</div>`;
}
