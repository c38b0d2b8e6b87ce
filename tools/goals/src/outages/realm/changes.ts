import type { KeycloakServer } from '@session-gateway/keycloak-server';
import {
  both,
  call,
  type Change,
  client,
  clientOf,
  type Make,
  mapper,
  newKey,
  onlyNewKey,
  person,
  realm,
  realmRole,
  type Scene,
  withoutScope,
} from './world.js';

/** Nobody notices. */
const unseen = (name: string, make: Make): Change => ({
  name,
  make,
  answer: '200',
  session: 'kept',
  told: null,
});
/** The provider refuses for a while, whatever it calls that; nothing is lost. */
const outage = (name: string, reason: string, make: Make): Change => ({
  name,
  make,
  answer: '503 provider_unavailable',
  session: 'kept',
  told: `refresh_failed ${reason}`,
});
/** The provider does not know the gateway any more, until an operator mends that. */
const rejection = (name: string, reason: string, make: Make): Change => ({
  ...outage(name, reason, make),
  answer: '502 provider_rejected',
});
/** The person has to log in again. */
const end = (name: string, told: string, make: Make): Change => ({
  name,
  make,
  answer: '401 reauthentication_required',
  session: 'grant_ended',
  told,
});
const user = ({ session }: Scene): string => `/users/${session.subject}`;
/** A cold server takes seconds for its first grant, which is not what is judged here. */
async function started(keycloak: KeycloakServer): Promise<void> {
  await keycloak.start();
  await fetch(`${keycloak.issuer}/protocol/openid-connect/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'password',
      client_id: 'reports',
      client_secret: keycloak.clientSecret,
      username: 'demo',
      password: 'demo',
    }),
  });
}
const now = (): number => Math.floor(Date.now() / 1000) + 1;

const KEYS: readonly Change[] = [
  unseen('a new RSA key', newKey('rsa-generated', 'RS256')),
  unseen('a new RSA key, the old one disabled', onlyNewKey('rsa-generated', 'RS256')),
  {
    ...unseen('a new key for refresh tokens', newKey('hmac-generated', 'HS512')),
    // It is gone again, and the token that it signed with it.
    later: '401 reauthentication_required',
  },
  end(
    'a new key for refresh tokens, the old one disabled',
    'refresh_failed invalid_refresh_token',
    onlyNewKey('hmac-generated', 'HS512'),
  ),
  unseen(
    'ID Tokens signed with ES256',
    client({ attributes: { 'id.token.signed.response.alg': 'ES256' } }),
  ),
  unseen(
    'access tokens signed with PS256',
    both(
      newKey('rsa-generated', 'PS256'),
      client({ attributes: { 'access.token.signed.response.alg': 'PS256' } }),
    ),
  ),
  unseen("the realm's default algorithm ES384", realm({ defaultSignatureAlgorithm: 'ES384' })),
];

const CLIENT: readonly Change[] = [
  rejection('another client secret', 'unauthorized_client', async (scene) => {
    const { id, secret } = await clientOf(scene);
    await scene.keycloak.admin('POST', `/clients/${id}/client-secret`);
    return () => scene.keycloak.setClient({ secret });
  }),
  rejection('the client disabled', 'invalid_client', client({ enabled: false })),
  rejection('the client deleted and made anew', 'invalid_client', async (scene) => {
    const before = await clientOf(scene);
    await scene.keycloak.admin('DELETE', `/clients/${before.id}`);
    return () => scene.keycloak.admin('POST', '/clients', before);
  }),
  rejection(
    'client authentication by signed JWT',
    'invalid_client',
    client({ clientAuthenticatorType: 'client-jwt' }),
  ),
  unseen('the standard flow switched off', client({ standardFlowEnabled: false })),
  unseen(
    'pushed authorization requests required',
    client({ attributes: { 'require.pushed.authorization.requests': 'true' } }),
  ),
  rejection('consent required', 'invalid_scope', client({ consentRequired: true })),
  unseen('full scope off', client({ fullScopeAllowed: false })),
  unseen('other redirect URIs', client({ redirectUris: ['http://127.0.0.1:1/x'] })),
  unseen(
    'lightweight access tokens',
    client({ attributes: { 'client.use.lightweight.access.token.enabled': 'true' } }),
  ),
  {
    ...unseen('no refresh tokens', client({ attributes: { 'use.refresh.tokens': 'false' } })),
    // The one before is spent, and there is no other.
    later: '401 reauthentication_required',
  },
  rejection(
    'bound tokens required',
    'invalid_request',
    client({ attributes: { 'dpop.bound.access.tokens': 'true' } }),
  ),
  unseen(
    'access tokens of this client for 20 s',
    client({ attributes: { 'access.token.lifespan': '20' } }),
  ),
  end('not before now, for the client', 'reuse_suspected stale_token', (scene) =>
    client({ notBefore: now() })(scene),
  ),
];

const SCOPES: readonly Change[] = [
  unseen('the scope profile removed', withoutScope('profile')),
  unseen('the scope email removed', withoutScope('email')),
  unseen('the scope roles removed', withoutScope('roles')),
  unseen('the scope basic removed', withoutScope('basic')),
  unseen(
    'an audience added',
    mapper('oidc-audience-mapper', {
      'included.custom.audience': 'elsewhere',
      'access.token.claim': 'true',
    }),
  ),
  {
    name: 'pairwise subjects',
    make: mapper('oidc-sha256-pairwise-sub-mapper', {
      sectorIdentifierUri: '',
      pairwiseSubAlgorithmSalt: 'salt',
    }),
    answer: '401 reauthentication_required',
    session: 'subject_changed',
    told: 'session_ended subject_changed',
  },
];

const PEOPLE: readonly Change[] = [
  end('the person disabled', 'refresh_failed user_disabled', person({ enabled: false })),
  end('the person deleted', 'refresh_failed session_not_active', call('DELETE', user)),
  {
    name: 'the person logged out by an administrator',
    make: call('POST', (scene) => `${user(scene)}/logout`),
    answer: '401 session_not_found',
    session: 'backchannel_logout',
    told: 'session_ended backchannel_logout',
  },
  unseen(
    'another password',
    call('PUT', (scene) => `${user(scene)}/reset-password`, {
      type: 'password',
      value: 'another',
      temporary: false,
    }),
  ),
  unseen('a required action', person({ requiredActions: ['UPDATE_PASSWORD'] })),
  unseen('another address', person({ email: 'another@example.com' })),
  {
    ...unseen('a role given', realmRole('admin', 'POST')),
    role: { name: 'realm:admin', held: true },
  },
  {
    ...unseen('a role taken away', realmRole('user', 'DELETE')),
    role: { name: 'realm:user', held: false },
  },
];

const SESSIONS: readonly Change[] = [
  {
    name: 'the session deleted',
    make: call('DELETE', ({ sid }) => `/sessions/${encodeURIComponent(sid)}`),
    answer: '401 session_not_found',
    session: 'backchannel_logout',
    told: 'session_ended backchannel_logout',
  },
  end('all sessions logged out', 'reuse_suspected stale_token', async ({ keycloak }) => {
    await keycloak.admin('POST', '/logout-all');
    return () => keycloak.setRealm({ notBefore: 0 });
  }),
  end('not before now, for the realm', 'reuse_suspected stale_token', async ({ keycloak }) => {
    await keycloak.setRealm({ notBefore: now() });
    return () => keycloak.setRealm({ notBefore: 0 });
  }),
  end(
    'logged out while the logout URL is not set',
    'refresh_failed session_not_active',
    async (scene) => {
      const restore = await client({ attributes: { 'backchannel.logout.url': '' } })(scene);
      await scene.keycloak.admin('POST', `${user(scene)}/logout`);
      return restore;
    },
  ),
];

const REALM: readonly Change[] = [
  outage('the realm disabled', 'access_denied', realm({ enabled: false })),
  outage(
    'another frontend URL',
    'issuer_mismatch',
    realm({ attributes: { frontendUrl: 'http://elsewhere.example' } }),
  ),
  rejection('https required of everybody', 'invalid_request', realm({ sslRequired: 'ALL' })),
  unseen('access tokens for 30 s', realm({ accessTokenLifespan: 30 })),
  unseen('access tokens for a day', realm({ accessTokenLifespan: 86_400 })),
  unseen('sessions idle for 5 min', realm({ ssoSessionIdleTimeout: 300 })),
  unseen('sessions for an hour', realm({ ssoSessionMaxLifespan: 3_600 })),
  {
    name: 'sessions for one second',
    make: realm({ ssoSessionMaxLifespan: 1 }),
    answer: '401 reauthentication_required',
    // Keycloak notices when it is asked, and tells its clients before it answers.
    session: 'backchannel_logout',
    told: 'session_ended backchannel_logout',
  },
  unseen('client sessions idle for 2 min', realm({ clientSessionIdleTimeout: 120 })),
  unseen('refresh tokens reusable', realm({ revokeRefreshToken: false })),
  unseen(
    'refresh tokens revoked',
    both(realm({ revokeRefreshToken: false }), realm({ revokeRefreshToken: true })),
  ),
  unseen('refresh tokens used twice', realm({ refreshTokenMaxReuse: 1 })),
  unseen('brute force protection', realm({ bruteForceProtected: true })),
  outage('a Keycloak that is away', 'no_answer', async ({ keycloak }) => {
    await keycloak.stop();
    return () => started(keycloak);
  }),
  end('a Keycloak restored from a copy', 'refresh_failed session_not_active', async (scene) => {
    const { keycloak } = scene;
    await keycloak.stop();
    const restore = await keycloak.copyData();
    await keycloak.start();
    await scene.renew();
    await keycloak.stop();
    await restore();
    await started(keycloak);
    return undefined;
  }),
];

export const CHANGES: readonly Change[] = [
  ...KEYS,
  ...CLIENT,
  ...SCOPES,
  ...PEOPLE,
  ...SESSIONS,
  ...REALM,
];
