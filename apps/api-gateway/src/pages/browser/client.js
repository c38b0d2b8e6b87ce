// For pages behind the session gateway: <script src="/auth/client.js" data-warn-seconds="120" defer></script>
// A page that knows its session says so, data-session="<id, or nothing>", and is told of any other.
(() => {
  const { fetch } = window;
  const { warnSeconds: wanted, session } = document.currentScript?.dataset ?? {};
  const warnSeconds = wanted >= 0 ? +wanted : 120;
  const tabs = new BroadcastChannel('session-gateway');
  // The session's id; null: there is none; undefined: not known yet.
  let known = session === '' ? null : session;
  let warned = false;
  let timer;
  // The logout under way.
  let leaving;
  const tell = (what, detail) => dispatchEvent(new CustomEvent(`session-${what}`, { detail }));
  const checkIn = (seconds) => {
    clearTimeout(timer);
    timer = setTimeout(check, Math.min(Math.max(seconds * 1000 + 500, 1000) || 1000, 1e9));
  };

  // Times are compared on the server's clock, where it is told: the browser's may be wrong.
  async function check(extend) {
    const answer = await fetch(`/auth/session${extend === true ? '' : '?extend=false'}`).catch(
      () => ({}),
    );
    // A page that is told of its own logout might go elsewhere, and the provider would hear nothing.
    if (leaving || (!answer.ok && answer.status !== 401)) return checkIn(30);
    const body = answer.ok ? await answer.json() : null;
    const id = body?.session.id ?? null;
    const before = known;
    known = id;
    if (before !== id || extend === true) tabs.postMessage(id);
    if (before !== undefined && before !== id) tell(id ? 'started' : 'ended', body);
    clearTimeout(timer);
    if (!id) return body;
    const { idle_expires_at: ends, last_accessed_at: used, extendable } = body.session;
    const secondsFrom = (at) => (Date.parse(ends) - at) / 1000;
    const secondsLeft = secondsFrom(Date.parse(answer.headers.get('date')) || Date.now());
    // A short idle time is not one long warning.
    const warnAt = extendable
      ? Math.min(warnSeconds, secondsFrom(Date.parse(used)) / 2)
      : warnSeconds;
    const due = secondsLeft <= warnAt;
    if (due) tell('expiring', { secondsLeft, extendable });
    else if (warned) tell('extended', body);
    warned = due;
    checkIn(due ? Math.min(secondsLeft, 10) : secondsLeft - warnAt);
    return body;
  }

  tabs.onmessage = ({ data }) => (data !== known || warned) && check();
  document.addEventListener('visibilitychange', () => document.hidden || check());
  // Back may show a page as it was left, also one that was never to be stored, and whoever looks may have logged out since.
  addEventListener('pageshow', ({ persisted }) => persisted && check());

  // Only what is to be marked is touched. A Request takes an init's members as fetch does, inherited ones too; what it refuses is a rejection, as in fetch.
  window.fetch = async (input, init) => {
    const method = init?.method ?? input?.method ?? 'GET';
    if (
      /^(get|head|options)$/i.test(method) ||
      new URL(input?.url ?? input, document.baseURI).origin !== location.origin
    )
      return fetch(input, init);
    const request = new Request(input, init);
    request.headers.set('X-CSRF', '1');
    return fetch(request);
  };

  async function logout() {
    const answer = await window.fetch('/auth/logout', {
      method: 'POST',
      headers: { Accept: 'application/json' },
    });
    if (!answer.ok) throw new Error(`/auth/logout answered ${answer.status}`);
    const { logout_url } = await answer.json();
    tabs.postMessage(null);
    location.assign(logout_url);
    // Whoever is still here stopped that, or came back.
    setTimeout(() => (leaving = null), 30_000);
  }

  window.sessionGateway = {
    check: () => check(),
    stay: () => check(true),
    // In the language of this page.
    login: (returnTo = location.pathname + location.search + location.hash) => {
      const { lang } = document.documentElement;
      const ui = lang && `&ui_locales=${encodeURIComponent(lang)}`;
      location.assign(`/auth/login?return_to=${encodeURIComponent(returnTo)}${ui}`);
    },
    // Clicked twice it is one logout: a second would no longer know the ID Token, and the provider would ask whether it is meant.
    logout: () =>
      (leaving ??= logout().catch((error) => {
        leaving = null;
        throw error;
      })),
  };
  tabs.postMessage(known);
  if (known !== null) check();
})();
