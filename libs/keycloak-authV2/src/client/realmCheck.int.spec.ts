import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { describeWith, type KeycloakServer, startKeycloak } from '@session-gateway/testkit';
import { checkRealm } from './realmCheck.js';
import type { RealmCheckOptions, RealmFinding } from './realmFinding.js';

const GATEWAY = 'https://app.example';

describeWith(['keycloak'], 'the check of a realm', () => {
  let keycloak: KeycloakServer;
  const check = (options: Partial<RealmCheckOptions> = {}): Promise<RealmFinding[]> =>
    checkRealm({
      issuer: keycloak.issuer,
      clientId: keycloak.clientId,
      clientSecret: keycloak.clientSecret,
      publicUrl: new URL(GATEWAY),
      ...options,
    });
  const said = async (options: Partial<RealmCheckOptions> = {}): Promise<string> =>
    (await check(options))
      .filter(({ severity }) => severity !== 'unseen')
      .map(({ check: about, message }) => `${about}: ${message}`)
      .join('\n');

  beforeAll(async () => {
    keycloak = await startKeycloak({ gatewayUrl: GATEWAY });
  });
  afterAll(() => keycloak?.dispose());

  test('finds nothing wrong with the development realm, and says what it could not see', async () => {
    expect((await check()).map(({ check: about, severity }) => [about, severity])).toEqual([
      ['registration', 'unseen'],
    ]);
    expect((await keycloak.sessionsOf('demo')).length).toBe(0);
  });

  test.each<[string, Partial<RealmCheckOptions>, RegExp]>([
    ['another secret', { clientSecret: 'no' }, /^client: .*unauthorized_client: Invalid client/],
    ['another client', { clientId: 'nobody' }, /^client: .*invalid_client.*Clients > nobody/],
    [
      'another address',
      { publicUrl: new URL('https://other.example') },
      /^redirect_uri: .*other\.example\/auth\/callback.*Invalid parameter: redirect_uri\)\npost_logout: .*Invalid redirect uri\)$/,
    ],
    [
      'a scope that is not there',
      { scope: 'openid nope' },
      /^scope: .*Invalid scopes: openid nope/,
    ],
  ])('tells of %s', async (_, options, words) => {
    expect(await said(options)).toMatch(words);
  });

  test('tells of requests sent ahead that a slow person outlives', async () => {
    expect(await said({ pushedRequests: true })).toBe('');
    await keycloak.setRealm({ attributes: { parRequestUriLifespan: '60' } });
    expect(await said({ pushedRequests: true })).toMatch(/^par_lifespan: .* for 60 s/);
  });

  test('tells of an issuer that is no realm, or is written in another way', async () => {
    const { issuer, baseUrl } = keycloak;
    expect(await said({ issuer: `${baseUrl}/realms/nope` })).toMatch(
      /^metadata: KEYCLOAK_ISSUER: .*Realm does not exist/,
    );
    expect(await said({ issuer: `${issuer}/` })).toMatch(/letter for letter/);
    expect(await said({ issuer: 'http://127.0.0.1:9/realms/x' })).toMatch(/^metadata: /);
  });

  test.each<[string, Record<string, unknown>, RegExp]>([
    ['standardFlowEnabled', { standardFlowEnabled: false }, /^login: .*turn on "Standard flow"/],
    ['enabled', { enabled: false }, /^client: .*has to be enabled$/],
    [
      'require.pushed.authorization.requests',
      { attributes: { 'require.pushed.authorization.requests': 'true' } },
      /^login: .*KEYCLOAK_PAR=true/,
    ],
    [
      'exclude.issuer.from.auth.response',
      { attributes: { 'exclude.issuer.from.auth.response': 'true' } },
      /^issuer_in_response: .*turn off "Exclude Issuer/,
    ],
  ])('tells where to set the client right by %s', async (name, patch, words) => {
    await keycloak.setClient(patch);
    try {
      expect(await said()).toMatch(words);
    } finally {
      const attribute = 'attributes' in patch ? { attributes: { [name]: 'false' } } : null;
      await keycloak.setClient(attribute ?? { [name]: true });
    }
    expect(await said()).toBe('');
  });

  test("reads how the client is registered where its service account may, and compares Keycloak's clock", async () => {
    await letItRead(keycloak);
    expect(await check()).toEqual([]);
    expect(await said({ now: () => Date.now() - 60_000 })).toMatch(/^clock: .*ahead of/);
    await keycloak.setClient({
      frontchannelLogout: true,
      attributes: {
        'backchannel.logout.url': 'https://other.example/logout',
        'backchannel.logout.session.required': 'false',
      },
    });
    expect(await said()).toMatch(
      /^frontchannel: .*turn it off\nbackchannel: .*leads elsewhere.*app\.example\/auth\/backchannel-logout.*\nbackchannel: .*session required/,
    );
    await keycloak.setClient({ attributes: { 'backchannel.logout.url': '' } });
    expect(await said()).toMatch(/backchannel: "Backchannel logout URL" is empty/);
  });
});

/** Gives the client's service account the role that reads clients. */
async function letItRead(keycloak: KeycloakServer): Promise<void> {
  await keycloak.setClient({ serviceAccountsEnabled: true });
  const idOf = async (clientId: string): Promise<string> =>
    ((await keycloak.admin('GET', `/clients?clientId=${clientId}`)) as { id: string }[])[0]!.id;
  const [own, management] = [await idOf(keycloak.clientId), await idOf('realm-management')];
  const user = (await keycloak.admin('GET', `/clients/${own}/service-account-user`)) as {
    id: string;
  };
  const role = await keycloak.admin('GET', `/clients/${management}/roles/view-clients`);
  await keycloak.admin('POST', `/users/${user.id}/role-mappings/clients/${management}`, [role]);
}
