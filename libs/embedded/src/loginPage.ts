/** The development provider's pages: plain HTML, no script but the one that confirms a logout which was asked for. */
export function loginPage(options: { action: string; hint: string; failed: boolean }): string {
  return page(
    'Log in',
    `<h1>Log in</h1>
<p class="note">Development provider. Log in as <b>demo</b>, password <b>demo</b>.</p>
${options.failed ? '<p class="error" role="alert">User name or password is wrong.</p>' : ''}
<form method="post" action="${escapeHtml(options.action)}">
<label for="username">User name</label>
<input id="username" name="username" autocomplete="username" required autofocus value="${escapeHtml(options.hint)}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Log in</button>
</form>`,
  );
}

export function messagePage(title: string, text: string): string {
  return page(title, `<h1>${escapeHtml(title)}</h1><p>${escapeHtml(text)}</p>`);
}

/** `form` is oidc-provider's own, which holds the token that makes it genuine. */
export function logoutPage(form: string, confirmed: boolean): string {
  const completed = form.replace(
    '</form>',
    '<input type="hidden" name="logout" value="yes"><button type="submit">Log out</button></form>',
  );
  return page(
    'Log out',
    `<h1>Log out</h1><p>Do you want to log out?</p>${completed}
${confirmed ? '<script>document.forms[0].submit()</script>' : ''}`,
  );
}

const page = (title: string, body: string): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>${escapeHtml(title)}</title>
<style>
:root { color-scheme: light dark; --ink: light-dark(#1c2430, #e8ecf2); --soft: light-dark(#5b6675, #9aa6b6); --paper: light-dark(#f4f6f9, #12161c);
  --card: light-dark(#fff, #1b212a); --line: light-dark(#c3ccd6, #3b4653); --accent: light-dark(#1f5fbf, #7fb0ff); --on-accent: light-dark(#fff, #0d1420); --error: light-dark(#a3231b, #ff9d94); }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main { width: min(24rem, 100%); padding: 2rem; background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
h1 { margin: 0 0 .5rem; font-size: 1.5rem; line-height: 1.2; }
.note { color: var(--soft); margin: 0 0 1rem; }
.error { color: var(--error); margin: 0 0 1rem; }
label { display: block; font-weight: 600; margin-bottom: .25rem; }
input { width: 100%; padding: .6rem; margin-bottom: 1rem; font: inherit; color: inherit; background: transparent; border: 1px solid var(--line); border-radius: .5rem; }
button { width: 100%; padding: .6rem 1.25rem; border: 0; border-radius: .5rem; background: var(--accent); color: var(--on-accent); font: inherit; font-weight: 600; cursor: pointer; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
</style>
</head>
<body>
<main>
${body}
</main>
</body>
</html>
`;

const escapeHtml = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
