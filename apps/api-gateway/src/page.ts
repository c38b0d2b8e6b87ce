import { createHash } from 'node:crypto';
import type { ListedSession, Profile, Session } from '@session-gateway/keycloak-auth';
import { deviceOf } from './device.js';

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/**
 * A page whose own navigation leads on. Unlike a redirect that another site began it brings the Strict cookie, and unlike
 * the redirect that answers a form it is not held to the form's `form-action` (CSP Level 3 §6.4.1).
 */
export function onwardPage(address: string): string {
  return `<!doctype html><html lang="en"><meta http-equiv="refresh" content="0;url=${escapeHtml(address)}"><title>One moment</title><a href="${escapeHtml(address)}">Continue</a></html>`;
}

/** Who is logged in, and until when the session lasts if it is left alone. */
export interface Current {
  readonly session: Session;
  readonly profile: Profile;
  readonly idleExpiresAt: Date;
}

/** The start page: log in, who is logged in, log out. It works without script. */
export function startPage(current: Current | null): string {
  if (current === null) {
    return page('Session gateway', `<h1>You are not logged in</h1>
<p>Log in to start a session. Your browser will hold one opaque cookie and nothing else.</p>
<p><a class="button" href="/auth/login">Log in</a></p>`, null);
  }
  return page('Session gateway', `<h1>Hello, ${escapeHtml(nameOf(current))}</h1>
${person(current)}
<div class="actions"><a class="button quiet" href="/account">My sessions</a>${LOG_OUT}</div>`, current);
}

/** `GET /account`: who I am and where I am logged in; each session can be ended, without script too. */
export function accountPage(current: Current, sessions: readonly ListedSession[], notice: string | null): string {
  const others = sessions.filter(({ id }) => id !== current.session.id);
  const own = sessions.filter(({ id }) => id === current.session.id);
  return page('Your account', `<h1>Your account</h1>
${notice === null ? '' : `<p class="notice" role="status">${escapeHtml(notice)}</p>`}
${person(current)}
<h2>Where you are logged in</h2>
<ul class="sessions">
${[...own, ...others].map((session) => sessionItem(session, session.id === current.session.id)).join('\n')}
</ul>
${others.length === 0 ? '' : `<form method="post" action="/account/end-others"><button class="button danger" type="submit">End all other sessions</button></form>`}
<p class="back"><a href="/">Back to the start page</a></p>`, current);
}

/** A page of the gateway's own, with its style inside and its scripts from here. */
export function page(title: string, main: string, current: Current | null): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
<script src="/auth/client.js" data-session="${escapeHtml(current?.session.id ?? '')}" defer></script>
<script src="/account/page.js" defer></script>
</head>
<body>
<main>
${main}
</main>
${current ? WARNING : ''}
</body>
</html>
`;
}

const nameOf = ({ profile, session }: Current): string => profile.name ?? profile.preferredUsername ?? session.subject;

function person(current: Current): string {
  const { session, profile, idleExpiresAt } = current;
  const rows: [string, string][] = [
    ['Name', escapeHtml(nameOf(current))],
    ['User name', escapeHtml(profile.preferredUsername ?? '–')],
    ['E-mail', escapeHtml(profile.email ?? '–')],
    ['Roles', session.roles.map((role) => `<span class="role">${escapeHtml(role)}</span>`).join(' ') || 'none'],
    ['Session ends', idleExpiresAt < session.expiresAt ? `${time(idleExpiresAt)} if it is not used, ${time(session.expiresAt)} at the latest` : time(session.expiresAt)],
  ];
  return `<dl>
${rows.map(([term, value]) => `<div><dt>${term}</dt><dd>${value}</dd></div>`).join('\n')}
</dl>`;
}

function sessionItem({ id, userAgent, ipAddress, lastAccessedAt, createdAt }: ListedSession, isCurrent: boolean): string {
  const device = escapeHtml(deviceOf(userAgent));
  const address = escapeHtml(ipAddress ?? 'unknown address');
  return `<li>
<div><h3 title="${escapeHtml(userAgent ?? '')}">${device}${isCurrent ? ' <span class="current">This session</span>' : ''}</h3>
<p>${address} · last used ${time(lastAccessedAt)} · since ${time(createdAt)}</p></div>
${isCurrent ? LOG_OUT : `<form method="post" action="/account/end"><input type="hidden" name="id" value="${escapeHtml(id)}"><button class="button quiet" type="submit" aria-label="End the session ${device}, ${address}">End</button></form>`}
</li>`;
}

const time = (at: Date): string => `<time datetime="${at.toISOString()}">${at.toISOString().slice(0, 16).replace('T', ' ')} UTC</time>`;

const LOG_OUT = '<form method="post" action="/auth/logout?page=true"><button class="button" type="submit">Log out</button></form>';
const WARNING = `<div id="warning" hidden>
<p><span role="alert"></span> <span aria-hidden="true" data-left></span></p>
<button class="button" type="button">Stay logged in</button>
</div>`;

// Contrast of text: 4.5 or more on each ground, in both schemes (WCAG 2.2 §1.4.3); targets are at least 44 pixels high.
const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1c2430, #e8ecf2); --soft: light-dark(#566170, #a3aebd); --paper: light-dark(#f4f6f9, #12161c);
  --card: light-dark(#fff, #1b212a); --line: light-dark(#dde3ea, #2f3946); --accent: light-dark(#1f5fbf, #7fb0ff); --on-accent: light-dark(#fff, #0d1420);
  --danger: light-dark(#b3261e, #ff9d94); --soft-accent: light-dark(#e8f0fd, #22324a); }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; min-height: 100dvh; display: grid; place-items: center; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
main { width: min(40rem, 100%); padding: 2rem; background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
h1 { margin: 0 0 1rem; font-size: 1.5rem; line-height: 1.2; }
h2 { margin: 2rem 0 .5rem; font-size: 1.125rem; }
h3 { margin: 0; font-size: 1rem; }
p { margin: 0 0 1rem; }
a { color: var(--accent); }
dl { margin: 0 0 1.5rem; }
dl div { display: grid; grid-template-columns: 9rem 1fr; gap: 1rem; padding: .5rem 0; border-top: 1px solid var(--line); }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
time { white-space: nowrap; }
.role { display: inline-block; padding: 0 .5rem; border-radius: 1rem; background: var(--soft-accent); font-size: .875rem; }
.sessions { list-style: none; margin: 0 0 1.5rem; padding: 0; }
.sessions li { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; justify-content: space-between; padding: .75rem 0; border-top: 1px solid var(--line); }
.sessions li > div { flex: 1 1 18rem; min-width: 0; }
.sessions p { margin: 0; color: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }
.current { margin-left: .25rem; padding: .125rem .5rem; border-radius: 1rem; background: var(--soft-accent); font-size: .75rem; font-weight: 600; white-space: nowrap; }
.notice { padding: .5rem .75rem; border-left: 4px solid var(--accent); background: var(--soft-accent); }
.notice[role=alert] { border-color: var(--danger); }
.actions { display: flex; flex-wrap: wrap; gap: .75rem; }
.button { display: inline-block; min-height: 2.75rem; padding: .6rem 1.25rem; border: 1px solid transparent; border-radius: .5rem; background: var(--accent); color: var(--on-accent);
  font: inherit; font-weight: 600; line-height: 1.5rem; text-decoration: none; cursor: pointer; }
.button.quiet { background: none; border-color: currentColor; color: var(--accent); }
.button.danger { background: none; border-color: currentColor; color: var(--danger); }
.button:focus-visible, a:focus-visible { outline: 3px solid var(--ink); outline-offset: 2px; }
.back { margin: 1.5rem 0 0; }
#warning { position: fixed; inset: auto 1rem 1rem; margin: auto; width: fit-content; max-width: calc(100% - 2rem); display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center;
  padding: .75rem 1rem; border: 2px solid var(--danger); border-radius: .75rem; background: var(--card); box-shadow: 0 .5rem 2rem #0006; }
#warning[hidden] { display: none; }
#warning p { margin: 0; }
body:has(#warning:not([hidden])) { padding-bottom: 8rem; }
[data-left] { font-variant-numeric: tabular-nums; font-weight: 600; }
@media (max-width: 30rem) { body { place-items: start stretch; padding: .5rem; } main { padding: 1.25rem; } dl div { grid-template-columns: 1fr; gap: 0; } .sessions form, .sessions .button { width: 100%; } }
@media (forced-colors: active) { .button { border-color: currentColor; } }
`;

/** Allows exactly this style in a Content-Security-Policy. */
export const STYLE_SOURCE = `'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`;
