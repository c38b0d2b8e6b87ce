// A throw-away Keycloak of the folder ./keycloak with one realm, a person and some clients.
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { until } from './check.mjs';
import { freePort } from './ports.mjs';

const SECRET = 'secret';
const REDIRECT = 'http://127.0.0.1:9/callback';
const ALICE = {
  username: 'alice',
  enabled: true,
  email: 'alice@example.com',
  firstName: 'Alice',
  lastName: 'Example',
  credentials: [{ type: 'password', value: 'password' }],
  realmRoles: ['offline_access'],
};

/** `clients` and `attributes` of the realm: what differs from Keycloak's own defaults. */
export async function startKeycloak(clients, attributes = {}) {
  const realm = {
    realm: 'main',
    enabled: true,
    sslRequired: 'none',
    attributes,
    users: [ALICE],
    clients: clients.map((client) => ({
      secret: SECRET,
      redirectUris: [REDIRECT],
      directAccessGrantsEnabled: true,
      ...client,
    })),
  };
  mkdirSync('keycloak/data/import', { recursive: true });
  writeFileSync('keycloak/data/import/realm.json', JSON.stringify(realm));
  const port = await freePort();
  const child = spawn(
    'keycloak/bin/kc.sh',
    [
      'start',
      '--optimized',
      '--import-realm',
      '--cache=local',
      '--http-enabled=true',
      '--hostname-strict=false',
      '--http-host=127.0.0.1',
      `--http-port=${port}`,
      `--http-management-port=${await freePort()}`,
    ],
    {
      stdio: 'ignore',
      // A group of its own: the script starts Java, and both have to go.
      detached: true,
      env: { ...process.env, JAVA_OPTS_APPEND: '-XX:TieredStopAtLevel=1' },
    },
  );
  process.on('exit', () => process.kill(-child.pid, 'SIGKILL'));
  const base = `http://127.0.0.1:${port}/realms/main/protocol/openid-connect`;
  const isUp = () => {
    if (child.exitCode !== null) throw new Error('Keycloak did not start');
    return fetch(`${base}/certs`).then(
      ({ ok }) => ok,
      () => false,
    );
  };
  await until('Keycloak', isUp, 900_000);

  const client = (clientId) => {
    const post = async (path, form) => {
      const body = new URLSearchParams({ client_id: clientId, client_secret: SECRET, ...form });
      const text = await (await fetch(base + path, { method: 'POST', body })).text();
      return text ? JSON.parse(text) : {};
    };
    return {
      post,
      passwordLogin: () =>
        post('/token', {
          grant_type: 'password',
          username: ALICE.username,
          password: 'password',
          scope: 'openid',
        }),
      redeem: (code) =>
        post('/token', { grant_type: 'authorization_code', code, redirect_uri: REDIRECT }),
      browser: () => browserOf(base, clientId),
    };
  };
  return { base, client };
}

/** With cookies of its own, at the login of one client. */
function browserOf(base, clientId) {
  const cookies = new Map();
  const send = async (url, options = {}) => {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(url, { redirect: 'manual', ...options, headers: { cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [name, value] = line.split(';')[0].split(/=(.*)/s);
      if (/max-age=0/i.test(line)) cookies.delete(name);
      else cookies.set(name, value);
    }
    return response;
  };
  return {
    authorize(parameters) {
      const query = new URLSearchParams({
        client_id: clientId,
        redirect_uri: REDIRECT,
        response_type: 'code',
        scope: 'openid',
        ...parameters,
      });
      return send(`${base}/auth?${query}`);
    },
    /** Submits the form of a login page with the right password. */
    async submit(page) {
      const [, action] = /action="([^"]+)"/.exec(await page.text());
      const body = new URLSearchParams({ username: ALICE.username, password: 'password' });
      return send(action.replaceAll('&amp;', '&'), { method: 'POST', body });
    },
  };
}

/** The parameters of a redirect to the client. */
export const redirected = (response) =>
  Object.fromEntries(new URL(response.headers.get('location')).searchParams);
