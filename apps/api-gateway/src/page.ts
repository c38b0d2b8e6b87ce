import type { Profile, Session } from '@session-gateway/keycloak-auth';

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** The start page: log in, who is logged in, log out. Plain HTML without script. */
export function startPage(current: { session: Session; profile: Profile } | null): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>Session gateway</title>
<style>${STYLE}</style>
</head>
<body>
<main>
${current ? loggedIn(current) : LOGGED_OUT}
</main>
</body>
</html>
`;
}

const LOGGED_OUT = `<h1>You are not logged in</h1>
<p>Log in to start a session. Your browser will hold one opaque cookie and nothing else.</p>
<p><a class="button" href="/auth/login">Log in</a></p>`;

function loggedIn({ session, profile }: { session: Session; profile: Profile }): string {
  const name = profile.name ?? profile.preferredUsername ?? session.subject;
  const rows: [string, string][] = [
    ['User name', profile.preferredUsername ?? '–'],
    ['E-mail', profile.email ?? '–'],
    ['Roles', session.roles.join(', ') || 'none'],
    ['Session since', time(session.createdAt)],
    ['Session ends', time(session.expiresAt)],
  ];
  return `<h1>Hello, ${escapeHtml(name)}</h1>
<dl>
${rows.map(([term, value]) => `<div><dt>${term}</dt><dd>${value.startsWith('<time') ? value : escapeHtml(value)}</dd></div>`).join('\n')}
</dl>
<form method="post" action="/auth/logout"><button class="button" type="submit">Log out</button></form>`;
}

const time = (at: Date): string => `<time datetime="${at.toISOString()}">${at.toISOString().slice(0, 16).replace('T', ' ')} UTC</time>`;

const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1c2430, #e8ecf2); --soft: light-dark(#5b6675, #9aa6b6); --paper: light-dark(#f4f6f9, #12161c);
  --card: light-dark(#fff, #1b212a); --line: light-dark(#dde3ea, #2c3541); --accent: light-dark(#1f5fbf, #7fb0ff); --on-accent: light-dark(#fff, #0d1420); }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
main { width: min(32rem, 100%); padding: 2rem; background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
h1 { margin: 0 0 1rem; font-size: 1.5rem; line-height: 1.2; }
dl { margin: 0 0 1.5rem; }
dl div { display: grid; grid-template-columns: 9rem 1fr; gap: 1rem; padding: .5rem 0; border-top: 1px solid var(--line); }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.button { display: inline-block; padding: .6rem 1.25rem; border: 0; border-radius: .5rem; background: var(--accent); color: var(--on-accent);
  font: inherit; font-weight: 600; text-decoration: none; cursor: pointer; }
.button:focus-visible { outline: 3px solid var(--ink); outline-offset: 2px; }
@media (max-width: 28rem) { dl div { grid-template-columns: 1fr; gap: 0; } }
`;
