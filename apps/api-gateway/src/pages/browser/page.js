// The gateway's own pages: local times, the warning before the end, and the same state in every tab.

/** The page's language, as this browser's region writes it. */
const { lang } = document.documentElement;
const locale = navigator.languages.find((one) => one.split('-')[0] === lang) ?? lang;
const today = new Date().toDateString();
function showLocal(time) {
  const at = new Date(time.dateTime);
  time.textContent = at.toLocaleString(
    locale,
    at.toDateString() === today
      ? { timeStyle: 'short' }
      : { dateStyle: 'medium', timeStyle: 'short' },
  );
}
document.querySelectorAll('time').forEach(showLocal);

const warning = document.getElementById('warning');
if (warning) {
  const [text, stay] = [warning.querySelector('p'), warning.querySelector('button')];
  let endsAt = 0;
  let tick;
  const show = () => {
    const left = Math.max(0, Math.round((endsAt - Date.now()) / 1000));
    warning.querySelector('[data-left]').textContent =
      `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`;
  };
  addEventListener('session-expiring', ({ detail: { secondsLeft, extendable } }) => {
    endsAt = Date.now() + secondsLeft * 1000;
    show();
    if (!warning.hidden) return;
    warning.hidden = false;
    stay.hidden = !extendable;
    // A screen reader says the sentence once, not every second.
    warning.querySelector('[role=alert]').textContent = extendable
      ? warning.dataset.extendable
      : warning.dataset.final;
    tick = setInterval(show, 1000);
    text.hidden = false;
  });
  addEventListener('session-extended', ({ detail }) => {
    warning.hidden = true;
    clearInterval(tick);
    const ends = document.querySelector('#ends time');
    if (!ends) return;
    ends.dateTime = detail.session.idle_expires_at;
    showLocal(ends);
  });
  stay.addEventListener('click', () => window.sessionGateway.stay());
}
// Neither this page again nor the application: each might lead to a login that the provider grants without asking, for
// somebody who has left.
addEventListener('session-ended', () => location.assign('/auth/ended'));
// The pages at the end of a session have nothing to say of a new one.
addEventListener('session-started', () =>
  location.pathname.startsWith('/auth/') ? location.assign('/account') : location.reload(),
);

// Through the helper, which tells the other tabs at once.
const failed = Object.assign(document.createElement('p'), {
  className: 'notice',
  role: 'alert',
  textContent: warning?.dataset.logoutFailed ?? '',
});
for (const form of document.querySelectorAll('form[action^="/auth/logout"]')) {
  form.addEventListener('submit', (event) => {
    if (!window.sessionGateway) return;
    event.preventDefault();
    failed.remove();
    window.sessionGateway.logout().catch(() => {
      document.querySelector('h1').after(failed);
      failed.scrollIntoView({ block: 'nearest' });
    });
  });
}
