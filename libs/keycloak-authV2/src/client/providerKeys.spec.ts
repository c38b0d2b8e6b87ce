import { beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, jwtVerify, SignJWT } from 'jose';
import { ProviderKeys, type TokenSource } from './providerKeys.js';

const ISSUER = 'https://id.example/realms/r';

interface RealmKey {
  kid: string;
  privateKey: CryptoKey;
  jwk: JWK;
}

async function newKey(kid: string): Promise<RealmKey> {
  const { privateKey, publicKey } = await generateKeyPair('ES256');
  return {
    kid,
    privateKey,
    jwk: { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' },
  };
}

const tokenBy = ({ kid, privateKey }: RealmKey, claims = {}): Promise<string> =>
  new SignJWT({ iss: ISSUER, exp: Math.floor(Date.now() / 1000) + 60, ...claims })
    .setProtectedHeader({ alg: 'ES256', kid })
    .sign(privateKey);

describe("the realm's keys", () => {
  let [old, fresh, stranger]: RealmKey[] = [];
  let published: JWK[];
  let now: number;
  let reads: number;
  let isAway: boolean;
  let keys: ProviderKeys;

  beforeAll(async () => {
    [old, fresh, stranger] = await Promise.all(['old', 'fresh', 'nobody'].map(newKey));
  });
  beforeEach(() => {
    [published, now, reads, isAway] = [[old!.jwk], 0, 0, false];
    keys = new ProviderKeys({
      issuer: ISSUER,
      now: () => now,
      sleep: async (ms) => void (now += ms),
      read: async () => {
        reads++;
        now += 10;
        if (isAway) throw new TypeError('fetch failed');
        return { keys: structuredClone(published) };
      },
    });
  });

  const outcome = async (token: string, source: TokenSource = 'bearer'): Promise<string> => {
    try {
      await jwtVerify(token, await keys.current(source));
      return 'verified';
    } catch (error) {
      const { code, reason } = error as { code: string; reason?: string };
      return reason === undefined ? code : `${code} ${reason}`;
    }
  };

  test.each<TokenSource>(['provider', 'bearer', 'logout'])(
    'a new one counts at once for a token from %s, however lately they were read',
    async (source) => {
      expect(await outcome(await tokenBy(old!), source)).toBe('verified');
      published = [fresh!.jwk, old!.jwk];
      now += 1;
      expect(await outcome(await tokenBy(fresh!), source)).toBe('verified');
      expect(await outcome(await tokenBy(old!), source)).toBe('verified');
      expect(reads).toBe(2);
    },
  );

  test('a new one counts at once, or is asked to come again in a second, whatever strangers send', async () => {
    const strangers = await Promise.all(
      Array.from({ length: 200 }, (_, i) => tokenBy({ ...stranger!, kid: `nobody ${i}` })),
    );
    const told = new Set<string>();
    for (const token of strangers) told.add(await outcome(token));
    expect([...told]).toEqual(['ERR_JWKS_NO_MATCHING_KEY', 'provider_unavailable keys_busy']);
    expect(reads).toBeLessThanOrEqual(20);

    published = [fresh!.jwk, old!.jwk];
    const genuine = await tokenBy(fresh!);
    expect(await outcome(genuine)).toBe('provider_unavailable keys_busy');
    now += 1_000;
    expect(await outcome(genuine)).toBe('verified');
    // The provider sends a logout token once: strangers with bearer tokens do not stand in its way.
    published = [stranger!.jwk];
    expect(await outcome(await tokenBy(stranger!), 'logout')).toBe('verified');
  });

  test('a new one counts within a second for a logout token, whatever strangers send as such', async () => {
    const flood = async (from: number): Promise<void> => {
      for (let i = from; i < from + 100; i++)
        expect(await outcome(await tokenBy({ ...stranger!, kid: `nobody ${i}` }), 'logout')).toBe(
          'ERR_JWKS_NO_MATCHING_KEY',
        );
    };
    await flood(0);
    published = [fresh!.jwk];
    const asked = now;
    expect(await outcome(await tokenBy(fresh!), 'logout')).toBe('verified');
    expect(now - asked).toBeLessThanOrEqual(1_010);
  });

  test('are not looked for again for a token that is not of this issuer, or over, by its own words', async () => {
    await outcome(await tokenBy(old!));
    for (const claims of [{ iss: 'https://elsewhere.example' }, { exp: 1 }, { exp: 'soon' }])
      expect(await outcome(await tokenBy(stranger!, claims))).toBe('ERR_JWKS_NO_MATCHING_KEY');
    expect(reads).toBe(1);
  });

  test('one that is withdrawn counts for a minute at most, and the key set is another one then', async () => {
    const token = await tokenBy(old!);
    expect(await outcome(token)).toBe('verified');
    const { generation } = await keys.current('bearer');
    published = [fresh!.jwk];
    now += 59_000;
    expect(await outcome(token)).toBe('verified');
    now += 1_000;
    expect(await outcome(token)).toBe('ERR_JWKS_NO_MATCHING_KEY');
    expect((await keys.current('bearer')).generation).not.toBe(generation);
  });

  test('count on for ten minutes while the provider is away, which nobody waits for twice in five seconds', async () => {
    const token = await tokenBy(old!);
    expect(await outcome(token)).toBe('verified');
    isAway = true;
    now += 60_000;
    expect([await outcome(token), await outcome(token), reads]).toEqual([
      'verified',
      'verified',
      2,
    ]);
    now += 540_000;
    expect(await outcome(token)).toBe('provider_unavailable jwks');
    isAway = false;
    expect(await outcome(token)).toBe('verified');
  });

  test('that make no key set are as good as none', async () => {
    published = 'garbage' as unknown as JWK[];
    expect(await outcome(await tokenBy(old!))).toBe('provider_unavailable jwks');
    published = [old!.jwk];
    expect(await outcome(await tokenBy(old!))).toBe('verified');
  });

  test('callers at one time share one look', async () => {
    published = [fresh!.jwk];
    const token = await tokenBy(fresh!);
    expect(new Set(await Promise.all(Array.from({ length: 50 }, () => outcome(token))))).toEqual(
      new Set(['verified']),
    );
    expect(reads).toBe(1);
  });
});
