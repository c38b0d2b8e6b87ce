// A whole React application behind the session gateway. Its page loads the helper before it:
//   <script src="/auth/client.js" defer></script> <script type="module" src="react.js"></script> <div id="root"></div>
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';

/** Calls `then` with the detail of each of the helper's events of this name. */
function useSessionEvent(name, then) {
  useEffect(() => {
    const listener = ({ detail }) => then(detail);
    addEventListener(name, listener);
    return () => removeEventListener(name, listener);
  });
}

/** Whose page it is: undefined until that is known, null for nobody; and how its session stands. */
function useSession() {
  const [me, setMe] = useState();
  const [isOver, setOver] = useState(false);
  const [warning, setWarning] = useState(null);
  useEffect(() => {
    sessionGateway.check().then((body) => setMe(body ?? null));
  }, []);
  useSessionEvent('session-started', (body) => {
    setMe(body);
    setWarning(null);
  });
  useSessionEvent('session-ended', () => {
    setMe(null);
    setOver(true);
    setWarning(null);
  });
  useSessionEvent('session-expiring', setWarning);
  useSessionEvent('session-extended', () => setWarning(null));
  return { me, isOver, warning };
}

function logInInWindow() {
  const address = `/auth/login?return_to=${encodeURIComponent(location.pathname)}`;
  const popup = open(address, 'login', 'popup,width=480,height=640');
  addEventListener('session-started', () => popup?.close(), { once: true });
}

/**
 * Sends a request and resolves with what to say of it. One that needs a login first, or a stronger one, is kept in this
 * tab for as long as that takes, and sent once more: `sendKept`.
 */
async function send(request, sub, isRepeated = false) {
  const { path, text } = request;
  const answer = await fetch(path, { method: 'POST', body: text });
  if (answer.status !== 401 || isRepeated)
    return answer.ok ? `Sent: ${text}` : `That did not work (${answer.status}).`;
  sessionStorage.setItem('kept', JSON.stringify({ request, sub }));
  const challenge = answer.headers.get('WWW-Authenticate') ?? '';
  const acr = /acr_values="([^"]+)"/.exec(challenge)?.[1];
  if (acr) {
    const query = new URLSearchParams({ acr_values: acr, return_to: location.pathname });
    location.assign(`/auth/login?${query}`);
  } else sessionGateway.login();
  return '';
}

/** What was kept is sent for the same person only: another one might have logged in. */
async function sendKept(sub) {
  const kept = JSON.parse(sessionStorage.getItem('kept'));
  sessionStorage.removeItem('kept');
  return kept?.sub === sub ? send(kept.request, sub, true) : '';
}

function Nobody({ isOver }) {
  return (
    <>
      <p>{isOver ? 'Your session is over.' : 'You are not logged in.'}</p>
      <button onClick={() => sessionGateway.login()}>Log in</button>
      <button onClick={logInInWindow}>Log in in a window</button>
    </>
  );
}

function Somebody({ user }) {
  const [said, setSaid] = useState('');
  const { sub } = user;
  useEffect(() => {
    sendKept(sub).then((what) => what && setSaid(what));
  }, [sub]);
  const order = async (form) =>
    setSaid(await send({ path: '/api/orders', text: form.get('text') }, sub));
  const pay = async () => setSaid(await send({ path: '/api/gold/pay', text: 'payment' }, sub));
  const logOut = () =>
    sessionGateway.logout().catch(() => setSaid('You could not be logged out. Try again.'));
  return (
    <>
      <p>
        Hello, <b>{user.name}</b>
      </p>
      <form action={order}>
        <label>
          Order <input name="text" required />
        </label>
        <button>Send</button>
      </form>
      <button onClick={pay}>Pay</button>
      <button onClick={logOut}>Log out</button>
      <p role="status">{said}</p>
    </>
  );
}

function Warning({ secondsLeft, extendable }) {
  return (
    <section role="alert">
      <p>Your session ends in {Math.round(secondsLeft)} seconds.</p>
      {extendable && <button onClick={() => sessionGateway.stay()}>Stay logged in</button>}
    </section>
  );
}

function App() {
  const { me, isOver, warning } = useSession();
  if (me === undefined) return null;
  return (
    <main>
      <h1>Orders</h1>
      {me ? <Somebody user={me.user} /> : <Nobody isOver={isOver} />}
      {warning && <Warning {...warning} />}
    </main>
  );
}

createRoot(document.getElementById('root')).render(<App />);
