import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type ProviderStub, startProviderStub } from '@session-gateway/testkit';
import { KeycloakClient } from './KeycloakClient.js';

let provider: ProviderStub;
beforeAll(async () => {
  provider = await startProviderStub({ idTokenOnRefresh: false });
});
afterAll(() => provider.dispose());

describe('a provider with an internal address', () => {
  const issuer = 'https://id.example/realms/neurotracker';

  // The second is Keycloak's hostname-backchannel-dynamic.
  test.each(['the issuer\'s', 'the internal'])('whose metadata names endpoints at %s address is asked at the internal one, over http too', async (whose) => {
    const text = await (await fetch(`${provider.issuer}/.well-known/openid-configuration`)).text();
    const metadata = whose === 'the internal' ? { ...JSON.parse(text) as object, issuer, authorization_endpoint: `${issuer}/protocol/openid-connect/auth` } : JSON.parse(text.replaceAll(provider.issuer, issuer)) as object;
    provider.answerNext({ endpoint: 'discovery', body: metadata });
    const client = new KeycloakClient({ issuer, internalUrl: provider.issuer, clientId: provider.clientId, clientSecret: provider.clientSecret });
    const { refreshToken, sub } = await provider.grant();
    expect((await client.refresh(refreshToken, sub)).accessToken).toMatch(/^eyJ/);
    expect((await client.authorizationRequest('https://app.example/auth/callback')).url.href).toContain(`${issuer}/protocol/openid-connect/auth?`);
  });
});
