#!/usr/bin/env bash
# Keycloak 26.7.3. Takes two minutes.
# Guesses: (1) a lightweight access token is for asking userinfo what it leaves out. (2) A client that introspects its own
# fresh access token is told that it is active. (3) `state` comes back whole or not at all with an error. (4) A login with
# offline_access leaves an SSO session, as any login does: the next one is silent.
# Seen: (1) userinfo refuses lightweight tokens with 401 invalid_token. (2) "active": false, until the client is in `aud`.
# (3) `state` longer than 4,000 characters is dropped without a word: the redirect has none, and clients must refuse it.
# (4) None is left: prompt=none says login_required.
. "$(dirname "$0")/lib/setup.sh"
install_keycloak 26.7.3
cat >run.mjs <<'EOF'
import { seen } from './check.mjs';
import { redirected, startKeycloak } from './keycloak.mjs';

const audience = {
  name: 'own audience',
  protocol: 'openid-connect',
  protocolMapper: 'oidc-audience-mapper',
  config: { 'included.client.audience': 'heard', 'access.token.claim': 'true' },
};
const keycloak = await startKeycloak([
  { clientId: 'app' },
  { clientId: 'heard', protocolMappers: [audience] },
  { clientId: 'light', attributes: { 'client.use.lightweight.access.token.enabled': 'true' } },
]);

const userinfo = async (client) => {
  const { access_token } = await client.passwordLogin();
  const headers = { authorization: `Bearer ${access_token}` };
  const response = await fetch(`${keycloak.base}/userinfo`, { headers });
  return [response.status, /error_description="([^"]*)/.exec(response.headers.get('www-authenticate'))?.[1]];
};
const [app, heard, light] = ['app', 'heard', 'light'].map(keycloak.client);
seen('userinfo', await userinfo(app), [200, undefined]);
seen('userinfo, lightweight', await userinfo(light), [
  401,
  'Lightweight access token not allowed for userinfo endpoint',
]);

const ownToken = async (client) => {
  const { access_token } = await client.passwordLogin();
  return (await client.post('/token/introspect', { token: access_token })).active;
};
seen('active, own token', await ownToken(app), false);
seen('active, own token, in aud', await ownToken(heard), true);

const stateLength = async (length) => {
  const response = await app.browser().authorize({ prompt: 'none', state: 'x'.repeat(length) });
  const { error, state } = redirected(response);
  return [error, state?.length];
};
seen('state of 4,000', await stateLength(4_000), ['login_required', 4_000]);
seen('state of 4,001', await stateLength(4_001), ['login_required', undefined]);

const secondLogin = async (scope) => {
  const browser = app.browser();
  const code = redirected(await browser.submit(await browser.authorize({ scope }))).code;
  await app.redeem(code);
  const again = redirected(await browser.authorize({ prompt: 'none' }));
  return again.error ?? 'silent';
};
seen('second login', await secondLogin('openid'), 'silent');
seen('second login after offline_access', await secondLogin('openid offline_access'), 'login_required');
process.exit();
EOF
node run.mjs
