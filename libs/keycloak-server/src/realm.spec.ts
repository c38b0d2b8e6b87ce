import { describe, expect, test } from '@jest/globals';
import { gatewayClient, renderRealm } from './realm.js';

describe('the development realm', () => {
  test('is for the gateway at localhost:3000 as it stands in the file', () => {
    const client = gatewayClient(renderRealm());
    expect(client.redirectUris).toEqual(['http://localhost:3000/auth/callback']);
    expect(client.attributes).toMatchObject({
      'backchannel.logout.url': 'http://localhost:3000/auth/backchannel-logout',
    });
  });

  test('names every gateway where browsers return to, and the first for logout tokens', () => {
    const client = gatewayClient(
      renderRealm({
        gatewayUrls: ['http://a.test:1/', 'http://b.test'],
        accessTokenLifespanSeconds: 5,
      }),
    );
    expect(client.redirectUris).toEqual([
      'http://a.test:1/auth/callback',
      'http://b.test/auth/callback',
    ]);
    expect(client.attributes).toMatchObject({
      'post.logout.redirect.uris': [
        'http://a.test:1/',
        'http://a.test:1/auth/logged-out',
        'http://b.test/',
        'http://b.test/auth/logged-out',
      ].join('##'),
      'backchannel.logout.url': 'http://a.test:1/auth/backchannel-logout',
      'backchannel.logout.session.required': 'true',
      'pkce.code.challenge.method': 'S256',
    });
    expect(renderRealm({ accessTokenLifespanSeconds: 5 }).accessTokenLifespan).toBe(5);
  });

  test('replaces each refresh token at its first use and offers the gateway the code flow only', () => {
    const realm = renderRealm();
    expect(realm).toMatchObject({
      revokeRefreshToken: true,
      refreshTokenMaxReuse: 0,
      sslRequired: 'none',
    });
    expect(gatewayClient(realm)).toMatchObject({
      standardFlowEnabled: true,
      implicitFlowEnabled: false,
      directAccessGrantsEnabled: false,
      serviceAccountsEnabled: false,
      publicClient: false,
    });
  });
});
