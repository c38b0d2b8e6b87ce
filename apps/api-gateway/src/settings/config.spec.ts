import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { ConfigError } from '@session-gateway/keycloak-auth';
import { readConfig } from './config.js';

const production = {
  NODE_ENV: 'production',
  PUBLIC_URL: 'https://app.example',
  DATABASE_URL: 'postgresql://u:p@db/app',
  REDIS_URL: 'redis://cache',
  KEYCLOAK_ISSUER: 'https://id.example/realms/r',
  KEYCLOAK_CLIENT_ID: 'gateway',
  KEYCLOAK_CLIENT_SECRET: 'a-client-secret',
  SESSION_TOKEN_ENCRYPTION_KEY: 'a key text of thirty-two characters or more',
};

const folder = mkdtempSync(join(tmpdir(), 'config-'));
afterAll(() => rmSync(folder, { recursive: true }));
/** The same configuration with everything in files. */
function inFiles(env: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).map(([name, value]) => {
      writeFileSync(join(folder, name), `${value}\n`);
      return [`${name}_FILE`, join(folder, name)];
    }),
  );
}

function problems(env: Record<string, string>): readonly string[] {
  try {
    readConfig(env);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}
const names = (env: Record<string, string>): string[] =>
  problems(env)
    .map((line) => line.split(/[ :,]/)[0] ?? '')
    .sort();

describe('the configuration', () => {
  test('of nothing at all is complete for development', () => {
    const config = readConfig({});
    expect([
      config.port,
      config.publicUrl.href,
      config.databaseUrl,
      config.keycloak,
      config.keyring,
    ]).toEqual([3000, 'http://localhost:3000/', undefined, undefined, undefined]);
  });

  test('starts the development provider of itself on this machine only', () => {
    const own = {
      DATABASE_URL: 'postgresql://u:p@db/app',
      SESSION_TOKEN_ENCRYPTION_KEY: 'a key text of thirty-two characters or more',
    };
    const at = (PUBLIC_URL: string, DEVELOPMENT_PROVIDER = ''): string[] =>
      names({ ...own, PUBLIC_URL, DEVELOPMENT_PROVIDER });
    for (const url of ['http://localhost:3000', 'http://127.0.0.1', 'http://[::1]:1', ''])
      expect([url, at(url), at(url, 'false')]).toEqual([url, [], ['KEYCLOAK_ISSUER']]);
    for (const url of ['https://app.example', 'http://app.example', 'https://localhost:3000'])
      expect([url, at(url), at(url, 'true')]).toEqual([url, ['KEYCLOAK_ISSUER'], []]);
    expect(at('http://localhost', 'yes')).toEqual(['DEVELOPMENT_PROVIDER']);
    expect(names({ ...production, DEVELOPMENT_PROVIDER: 'true' })).toEqual([
      'DEVELOPMENT_PROVIDER',
    ]);
    expect(readConfig({ DEVELOPMENT_PROVIDER: 'true' }).developmentProviderForAll).toBe(true);
    expect(readConfig({}).developmentProviderForAll).toBe(false);
  });

  test('names what is wrong with a cookie name and the address after a logout', () => {
    expect(
      names({ SESSION_COOKIE_NAME: '__Host-x', POST_LOGOUT_URL: 'http://elsewhere.example' }),
    ).toEqual(['POST_LOGOUT_URL', 'SESSION_COOKIE_NAME']);
    expect(readConfig({ SESSION_COOKIE_NAME: 'sid' }).sessionCookieName).toBe('sid');
  });

  test('names what a login may ask for', () => {
    expect(readConfig({}).login).toEqual({
      scope: 'openid profile email',
      loginParameters: [
        'prompt',
        'login_hint',
        'acr_values',
        'max_age',
        'ui_locales',
        'kc_idp_hint',
        'kc_action',
      ],
    });
    const own = {
      KEYCLOAK_SCOPE: 'openid organization:*',
      LOGIN_PARAMETERS: ' scope,claims , x-y',
    };
    expect(readConfig(own).login).toEqual({
      scope: 'openid organization:*',
      loginParameters: ['scope', 'claims', 'x-y'],
    });
    for (const scope of ['profile email', 'openid  profile', ' openid', 'openid "x"', 'OPENID'])
      expect([scope, names({ KEYCLOAK_SCOPE: scope })]).toEqual([scope, ['KEYCLOAK_SCOPE']]);
    for (const list of ['prompt,client_id', 'state', 'request_uri', 'return_to', 'a b', '=', '1'])
      expect([list, names({ LOGIN_PARAMETERS: list })]).toEqual([list, ['LOGIN_PARAMETERS']]);
  });

  test('names whose roles are told', () => {
    const rolesOf = (IDENTITY_ROLES: string) => readConfig({ IDENTITY_ROLES }).identity.roles;
    expect([rolesOf(''), rolesOf('none'), rolesOf('realm, app')]).toEqual([
      'all',
      [],
      ['realm', 'app'],
    ]);
    for (const list of ['all,realm', 'realm,,app', 'none,app', ','])
      expect([list, names({ IDENTITY_ROLES: list })]).toEqual([list, ['IDENTITY_ROLES']]);
    expect(names({ IDENTITY_ROLES_MAX_BYTES: '65537' })).toEqual(['IDENTITY_ROLES_MAX_BYTES']);
  });

  test('of production with everything set is accepted', () => {
    expect(problems(production)).toEqual([]);
  });

  test('leaves the addresses of the provider as they are written', () => {
    const written = {
      KEYCLOAK_ISSUER: 'HTTPS://id.example/realms/r/',
      KEYCLOAK_INTERNAL_URL: 'https://inside.example/realms/r/',
    };
    expect(readConfig({ ...production, ...written }).keycloak).toMatchObject({
      issuer: written.KEYCLOAK_ISSUER,
      internalUrl: written.KEYCLOAK_INTERNAL_URL,
    });
  });

  test('of what keys sign with has to fit the keys', () => {
    const pem = (type: 'ed25519' | 'rsa'): string =>
      (type === 'rsa'
        ? generateKeyPairSync('rsa', { modulusLength: 2048 })
        : generateKeyPairSync('ed25519')
      ).privateKey
        .export({ type: 'pkcs8', format: 'pem' })
        .toString();
    const withKeys = (KEYCLOAK_CLIENT_KEY_ALG: string, more: Record<string, string>) =>
      names({ ...production, KEYCLOAK_CLIENT_KEY_ALG, ...more });
    const [rsa, ed] = [pem('rsa'), pem('ed25519')];
    const jwt = { KEYCLOAK_CLIENT_AUTH: 'private_key_jwt', KEYCLOAK_CLIENT_KEY: rsa };
    expect(withKeys('PS256', jwt)).toEqual([]);
    expect(withKeys('PS256', { ...jwt, KEYCLOAK_DPOP_KEY: ed })).toEqual([]);
    expect(withKeys('EdDSA', { ...jwt, KEYCLOAK_DPOP_KEY: ed })).toEqual([
      'KEYCLOAK_CLIENT_KEY_ALG',
    ]);
    expect(withKeys('EdDSA', { KEYCLOAK_DPOP_KEY: ed })).toEqual([]);
    expect(withKeys('ES256', { KEYCLOAK_DPOP_KEY: ed })).toEqual(['KEYCLOAK_CLIENT_KEY_ALG']);
    expect(
      readConfig({ ...production, ...jwt, KEYCLOAK_CLIENT_KEY_ID: 'k 1' }).keycloak,
    ).toMatchObject({
      clientKeyId: 'k 1',
      clientKeyAlgorithm: undefined,
      idTokenAlgorithm: undefined,
    });
  });

  test('whose keyring has been refused before tells that alone, not that a key is missing', () => {
    const rest = Object.fromEntries(
      Object.entries(production).filter(([name]) => name !== 'SESSION_TOKEN_ENCRYPTION_KEY'),
    );
    const refused = ['SESSION_TOKEN_KEYRING is not wrapped'];
    expect(() => readConfig(rest, [...refused])).toThrow(
      expect.objectContaining({ problems: refused }),
    );
    expect(() =>
      readConfig({ ...rest, SESSION_TOKEN_ENCRYPTION_KEY: 'short' }, [...refused]),
    ).toThrow(
      expect.objectContaining({
        problems: [...refused, expect.stringMatching(/^SESSION_TOKEN_ENCRYPTION_KEY: .* shorter/)],
      }),
    );
  });

  test('of production names every embedded part at once', () => {
    expect(names({ NODE_ENV: 'production' })).toEqual([
      'DATABASE_URL',
      'KEYCLOAK_ISSUER',
      'PUBLIC_URL',
      'REDIS_URL',
      'SESSION_TOKEN_ENCRYPTION_KEY',
    ]);
  });

  test('of production refuses plain http unless it is allowed by name', () => {
    const http = {
      ...production,
      PUBLIC_URL: 'http://app.example',
      KEYCLOAK_ISSUER: 'http://id.example/realms/r',
    };
    expect(names(http)).toEqual(['KEYCLOAK_ISSUER', 'PUBLIC_URL']);
    expect(problems({ ...http, ALLOW_INSECURE_HTTP: 'true' })).toEqual([]);
  });

  test.each([
    ['NODE_ENV', 'Production'],
    ['NODE_ENV', 'prod '],
    ['PORT', 'http'],
    ['PORT', '70000'],
    ['PUBLIC_URL', 'app.example'],
    ['PUBLIC_URL', 'https://app.example/base'],
    ['DATABASE_URL', 'mysql://u:sesame@db'],
    ['DATABASE_URL', 'postgresql://u@db/app?connection_limit=sesame'],
    ['DIRECT_DATABASE_URL', 'postgresql://u@db/app?pool_timeout=sesame'],
    ['REDIS_URL', 'sesame'],
    ['KEYCLOAK_ISSUER', 'not a url sesame'],
    ['KEYCLOAK_CLIENT_SECRET', ''],
    ['SESSION_TOKEN_ENCRYPTION_KEY', 'sesame'],
    ['SESSION_TOKEN_KEYRING', '{"primary":"sesame"}'],
    ['SESSION_IDLE_TIMEOUT', '-1'],
    ['SESSION_COOKIE_SAMESITE', 'none'],
    ['TOKEN_READ_POLICY', 'v1'],
    ['LOG_LEVEL', 'loud'],
    ['REFRESH_AHEAD', '1.5'],
    ['GATEWAY_ROUTES', '[{"path":"/a","upstream":"sesame"}]'],
    ['PUBLIC_URL', 'https://app.example\n'],
    ['DATABASE_URL', 'postgresql://u:p@d\tb/app'],
    ['REDIS_URL', 'redis://cache '],
    ['KEYCLOAK_ISSUER', 'ht\ntps://id.example/realms/main'],
    ['KEYCLOAK_INTERNAL_URL', 'https://id.example\0'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'http://traces\r'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'https://user:sesame@traces'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'https://sesame@traces'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'https://traces/?token=sesame'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'https://traces?'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'https://traces/#sesame'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'sesame'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'se same=x'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'a=%sesame'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'a=sesame%0Ab'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'a=x,Content-Length=1'],
    ['GATEWAY_ROUTES', '[{"path":"/a","upstream":"http://sesame/\\n"}]'],
    ['KEYCLOAK_CLIENT_AUTH', 'none'],
    ['KEYCLOAK_ID_TOKEN_ALG', 'HS256'],
    ['KEYCLOAK_ID_TOKEN_ALG', 'none'],
    ['KEYCLOAK_CLIENT_KEY_ALG', 'HS256'],
    ['KEYCLOAK_CLIENT_KEY_ID', 'sesame\n'],
    ['BACKCHANNEL_LOGOUT_SCOPE', 'all'],
    ['LOGOUT_TOKEN_TYP', 'no'],
    ['TRUSTED_PROXIES', '10.0.0.0/8, sesame'],
    ['KEYCLOAK_DPOP_KEY', 'sesame'],
  ])('with a wrong %s names it and keeps the value to itself', (name, value) => {
    const found = problems({ ...production, [name]: value });
    expect(found.map((line) => line.split(/[ :]/)[0])).toEqual([name]);
    expect(found.join()).not.toContain('sesame');
  });

  test('refuses permissions of Keycloak for tokens that are bound to a key', () => {
    const key = generateKeyPairSync('ed25519')
      .privateKey.export({ type: 'pkcs8', format: 'pem' })
      .toString();
    const withRoute = (route: object) =>
      problems({
        ...production,
        KEYCLOAK_DPOP_KEY: key,
        GATEWAY_ROUTES: JSON.stringify([{ path: '/a', upstream: 'http://api', ...route }]),
      });
    expect(withRoute({})).toEqual([]);
    expect(withRoute({ enforce: ['orders'] })).toEqual([
      expect.stringMatching(/^GATEWAY_ROUTES: enforce .* KEYCLOAK_DPOP_KEY/),
    ]);
  });

  test('with several faults reports them all', () => {
    expect(
      names({ ...production, PORT: 'x', REDIS_URL: 'x', SESSION_TOKEN_ENCRYPTION_KEY: 'short' }),
    ).toEqual(['PORT', 'REDIS_URL', 'SESSION_TOKEN_ENCRYPTION_KEY']);
  });

  test('with a secret both given and in a file, or a file that is not there, is refused', () => {
    expect(names({ ...production, KEYCLOAK_CLIENT_SECRET_FILE: '/nowhere' })).toEqual([
      'KEYCLOAK_CLIENT_SECRET',
    ]);
    expect(
      problems({
        ...production,
        KEYCLOAK_CLIENT_SECRET: '',
        KEYCLOAK_CLIENT_SECRET_FILE: '/nowhere',
      }).join(),
    ).toContain('KEYCLOAK_CLIENT_SECRET_FILE');
  });

  test('of production may stand in files, and of one that cannot be read nothing else is said', () => {
    const { NODE_ENV, ...rest } = production;
    const { publicUrl, keycloak } = readConfig({ NODE_ENV, ...inFiles(rest) });
    expect([publicUrl.href, keycloak?.issuer]).toEqual([
      'https://app.example/',
      'https://id.example/realms/r',
    ]);
    for (const name of Object.keys(rest)) {
      expect(
        problems({ NODE_ENV, ...inFiles(rest), [`${name}_FILE`]: join(folder, 'nothing') }),
      ).toEqual([`${name}_FILE names a file that cannot be read`]);
    }
  });

  test('tells the collector of traces who sends them', () => {
    const headers = (OTEL_EXPORTER_OTLP_HEADERS: string) =>
      readConfig({ OTEL_EXPORTER_OTLP_HEADERS }).otlpHeaders;
    expect(headers('Authorization=Basic%20dXNlcjpwYXNz, x-tenant = a=b ,')).toEqual({
      authorization: 'Basic dXNlcjpwYXNz',
      'x-tenant': 'a=b',
    });
    expect(readConfig(inFiles({ OTEL_EXPORTER_OTLP_HEADERS: 'api-key=k' })).otlpHeaders).toEqual({
      'api-key': 'k',
    });
    expect(readConfig({}).otlpHeaders).toEqual({});
  });
});
