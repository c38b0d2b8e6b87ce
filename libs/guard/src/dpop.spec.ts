import { beforeAll, describe, expect, test } from '@jest/globals';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { DpopProofs } from './dpop.js';
import {
  createGuard,
  type Guard,
  type GuardOptions,
  memoryOfProcess,
  rotatingNonces,
} from './index.js';
import { GuardError } from './errors.js';
import {
  BASE_URL,
  CLAIMS,
  ISSUER,
  issuerOf,
  judge,
  type Key,
  newKey,
  NOW,
  now,
  proofFor,
  requestOf,
  sign,
  thumbprintOf,
} from './testing/world.js';

/** The examples of RFC 9449: §4.1 figure 2, §7.1 figures 12 and 13, §6.1. */
const RFC = {
  tokenRequestProof:
    'eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg',
  resourceProof:
    'eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA',
  token: 'Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU',
  jkt: '0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I',
  iat: 1562262618,
};

describe('the examples of RFC 9449', () => {
  const check = async (
    change: Partial<{ method: string; url: string; proofs: string[]; token: string; jkt: string }>,
    seconds = RFC.iat,
    baseUrls = 'https://resource.example.org',
  ): Promise<string> => {
    const clock = { toleranceSeconds: 10, now: () => seconds * 1000 };
    const { jkt = RFC.jkt, ...request } = change;
    return new DpopProofs({ baseUrls }, clock)
      .check({
        method: 'GET',
        url: '/protectedresource',
        proofs: [RFC.resourceProof],
        token: RFC.token,
        confirmation: { jkt },
        ...request,
      })
      .then(
        () => 'passed',
        (error: unknown) => {
          if (error instanceof GuardError) return error.code;
          throw error;
        },
      );
  };

  test('pass as they stand', async () => {
    expect(await check({})).toBe('passed');
    expect(await check({ url: '/protectedresource?a=b#c' })).toBe('passed');
  });

  test('are refused for another request, token, key or time', async () => {
    expect(await check({ method: 'POST' })).toBe('proof_request');
    expect(await check({ method: 'get' })).toBe('proof_request');
    expect(await check({ url: '/protectedresource/' })).toBe('proof_request');
    expect(await check({}, RFC.iat, 'https://resource.example.com')).toBe('proof_request');
    expect(await check({}, RFC.iat, 'http://resource.example.org')).toBe('proof_request');
    expect(await check({ token: `${RFC.token}x` })).toBe('proof_token');
    expect(await check({ jkt: RFC.jkt.toLowerCase() })).toBe('proof_key');
    expect(await check({}, RFC.iat + 31)).toBe('proof_time');
    expect(await check({}, RFC.iat - 11)).toBe('proof_time');
    expect(await check({}, RFC.iat + 30)).toBe('passed');
  });

  test('for the token endpoint are no proof of a token', async () => {
    const request = { method: 'POST', url: '/token', proofs: [RFC.tokenRequestProof] };
    expect(await check(request, RFC.iat, 'https://server.example.com')).toBe('proof_malformed');
  });
});

describe('requests with DPoP', () => {
  let issuerKey: Key;
  let key: Key;
  let token: string;
  let fetch: NonNullable<GuardOptions['fetch']>;
  beforeAll(async () => {
    [issuerKey, key] = await Promise.all([newKey('ES256', 'k1'), newKey()]);
    ({ fetch } = issuerOf(issuerKey));
    token = await boundTo(key);
  });

  const boundTo = async (one: Key, claims: Record<string, unknown> = {}): Promise<string> =>
    sign({
      key: issuerKey,
      claims: { ...CLAIMS, typ: 'DPoP', cnf: { jkt: await thumbprintOf(one) }, ...claims },
    });
  const guardOf = (dpop: Partial<GuardOptions['dpop']> = {}): Guard =>
    createGuard({
      issuer: ISSUER,
      audience: 'orders',
      now,
      fetch,
      dpop: { baseUrls: BASE_URL, ...dpop },
    });
  const codeOf = async (proofs: string[], guard = guardOf(), url = '/x?q=1'): Promise<string> =>
    (await judge(guard, requestOf(`DPoP ${token}`, { dpop: proofs, url }))).code;
  const proof = (claims: Record<string, unknown> = {}, header: Record<string, unknown> = {}) =>
    proofFor(token, key, claims, header);

  test('pass with one proof that is right, by each algorithm', async () => {
    expect(await codeOf([await proof()])).toBe('passed');
    for (const alg of ['RS256', 'PS256', 'ES384', 'EdDSA']) {
      const other = await newKey(alg);
      const bound = await boundTo(other);
      const dpop = [await proofFor(bound, other)];
      const { code } = await judge(guardOf(), requestOf(`dpop ${bound}`, { dpop }));
      expect([alg, code]).toEqual([alg, 'passed']);
    }
  });

  test.each<[string, Record<string, unknown>, Record<string, unknown>, string]>([
    ['without jti', { jti: undefined }, {}, 'proof_malformed'],
    ['with an empty jti', { jti: '' }, {}, 'proof_malformed'],
    ['with a jti that is no text', { jti: 1 }, {}, 'proof_malformed'],
    ['without htm', { htm: undefined }, {}, 'proof_malformed'],
    ['without htu', { htu: undefined }, {}, 'proof_malformed'],
    ['without iat', { iat: undefined }, {}, 'proof_malformed'],
    ['without ath', { ath: undefined }, {}, 'proof_malformed'],
    ['for another method', { htm: 'POST' }, {}, 'proof_request'],
    ['for another path', { htu: `${BASE_URL}/y` }, {}, 'proof_request'],
    ['for another host', { htu: 'https://evil.example/v1/x' }, {}, 'proof_request'],
    ['for a user of the host', { htu: 'https://a@orders.example/v1/x' }, {}, 'proof_request'],
    ['for no address', { htu: 'x' }, {}, 'proof_request'],
    ['that are old', { iat: NOW - 31 }, {}, 'proof_time'],
    ['that are early', { iat: NOW + 11 }, {}, 'proof_time'],
    ['that have an end', { exp: NOW - 11 }, {}, 'proof_time'],
    ['for another token', { ath: 'x' }, {}, 'proof_token'],
    ['of type JWT', {}, { typ: 'JWT' }, 'proof_malformed'],
    ['of no type', {}, { typ: undefined }, 'proof_malformed'],
    ['without a key', {}, { jwk: undefined }, 'proof_malformed'],
    ['with a demand', {}, { crit: ['b64'], b64: true }, 'passed'],
    [
      'whose address has other spellings',
      { htu: 'HTTPS://ORDERS.example:443/v1/./%78?z#f' },
      {},
      'passed',
    ],
  ])('proofs %s', async (_what, claims, header, code) => {
    expect(await codeOf([await proof(claims, header)])).toBe(code);
  });

  test('no proof, two proofs, and what is no proof are refused', async () => {
    const one = await proof();
    expect(await codeOf([])).toBe('proof_missing');
    expect(await codeOf([one, await proof()])).toBe('proof_malformed');
    expect(await codeOf([`${one}, ${await proof()}`])).toBe('proof_malformed');
    expect(await codeOf([''])).toBe('proof_malformed');
    expect(await codeOf([`${one}=`])).toBe('proof_malformed');
    expect(await codeOf(['x'.repeat(10_000)])).toBe('proof_malformed');
  });

  test('a proof with a private key, another key, or a shared secret is refused', async () => {
    const { privateKey } = await generateKeyPair('ES256', { extractable: true });
    const jwk = await exportJWK(privateKey);
    const own = { privateKey, jwk, alg: 'ES256' };
    expect(await codeOf([await proofFor(token, own)])).toBe('proof_malformed');
    const other = await newKey();
    expect(await codeOf([await proofFor(token, other)])).toBe('proof_key');
    expect(await codeOf([await proof({}, { jwk: other.jwk })])).toBe('proof_signature');
    const secret = new Uint8Array(32);
    const shared = await new SignJWT({})
      .setProtectedHeader({ alg: 'HS256', typ: 'dpop+jwt', jwk: { kty: 'oct' } })
      .sign(secret);
    expect(await codeOf([shared])).toBe('proof_algorithm');
    expect(await codeOf([await proof()], guardOf({ algorithms: ['PS256'] }))).toBe(
      'proof_algorithm',
    );
  });

  test('a proof counts once, whatever the address, and another key may have the same jti', async () => {
    const guard = guardOf();
    const used = await proof({ jti: 'same' });
    expect(await codeOf([used], guard)).toBe('passed');
    expect(await codeOf([used], guard)).toBe('proof_replayed');
    expect(await codeOf([await proof({ jti: 'same' })], guard)).toBe('proof_replayed');
    const other = await newKey();
    const bound = await boundTo(other);
    const dpop = [await proofFor(bound, other, { jti: 'same' })];
    expect((await judge(guard, requestOf(`DPoP ${bound}`, { dpop }))).code).toBe('passed');
  });

  test('a proof that is refused is not used up', async () => {
    const guard = guardOf();
    const one = await proof();
    expect(await codeOf([one], guard, '/y')).toBe('proof_request');
    expect(await codeOf([one], guard)).toBe('passed');
  });

  test('the scheme has to be that of the token, in both directions', async () => {
    const plain = await sign({ key: issuerKey, claims: CLAIMS });
    const dpop = [await proofFor(plain, key)];
    const code = async (field: string, guard = guardOf()) =>
      (await judge(guard, requestOf(field, { dpop }))).code;
    expect(await code(`DPoP ${plain}`)).toBe('token_not_bound');
    expect(await code(`Bearer ${plain}`)).toBe('passed');
    expect(await code(`Bearer ${plain}`, guardOf({ required: true }))).toBe('token_not_bound');
    expect(await code(`Bearer ${token}`)).toBe('token_bound');
    const certificate = await boundTo(key, { cnf: { 'x5t#S256': 'x' } });
    const proofs = [await proofFor(certificate, key)];
    expect((await judge(guardOf(), requestOf(`DPoP ${certificate}`, { dpop: proofs }))).code).toBe(
      'proof_key',
    );
  });

  test('several addresses of the service are its own; the path of an absolute target counts', async () => {
    const guard = guardOf({ baseUrls: ['http://orders:8080', `${BASE_URL}/`] });
    expect(await codeOf([await proof()], guard)).toBe('passed');
    const inside = await proof({ htu: 'http://orders:8080/x' });
    expect(await codeOf([inside], guard)).toBe('passed');
    expect(await codeOf([await proof()], guard, `${BASE_URL}/x?q`)).toBe('passed');
    expect(await codeOf([await proof()], guard, 'https://evil.example/v1/x')).toBe('proof_request');
    expect(await codeOf([await proof()], guard, '*')).toBe('proof_request');
  });

  test('nonces are asked for, told, and renewed in good time', async () => {
    let time = NOW;
    const nonces = rotatingNonces({ secret: 's', now: () => time * 1000 });
    const guard = guardOf({ nonces });
    const ask = async (nonce: unknown) =>
      judge(guard, requestOf(`DPoP ${token}`, { dpop: [await proof({ nonce })] }));
    const first = await ask(undefined);
    expect([first.status, first.code]).toEqual([401, 'nonce_required']);
    expect(first.headers['www-authenticate']).toMatch(/DPoP error="use_dpop_nonce", .*algs="/);
    const nonce = first.headers['dpop-nonce'];
    expect(nonce).toBe(await nonces.current());
    expect(await ask(nonce)).toMatchObject({ code: 'passed', headers: {} });
    time += 60;
    const later = await ask(nonce);
    expect([later.code, later.headers['dpop-nonce']]).toEqual(['passed', await nonces.current()]);
    time += 60;
    expect((await ask(nonce)).code).toBe('nonce_required');
    expect((await ask('forged')).code).toBe('nonce_required');
    expect((await ask(1)).code).toBe('nonce_required');
  });

  test('a replay memory that fails or is full refuses with 503 and lets nothing pass', async () => {
    const broken = guardOf({
      replayMemory: { firstUse: () => Promise.reject(new Error('no Redis')) },
    });
    const dpop = [await proof()];
    const answer = await judge(broken, requestOf(`DPoP ${token}`, { dpop }));
    expect([answer.status, answer.code]).toEqual([503, 'replay_memory_unavailable']);
    expect(answer.headers).toMatchObject({ 'retry-after': '2' });
    const odd = guardOf({ replayMemory: { firstUse: () => 'OK' as unknown as boolean } });
    expect(await codeOf([await proof()], odd)).toBe('proof_replayed');
    const full = guardOf({ replayMemory: memoryOfProcess({ capacity: 1 }) });
    expect(await codeOf([await proof()], full)).toBe('passed');
    expect(await codeOf([await proof()], full)).toBe('replay_memory_full');
  });
});

describe('the replay memory of a process', () => {
  test('forgets what has run out, and never more than it has room for', async () => {
    let time = 0;
    const memory = memoryOfProcess({ capacity: 3, now: () => time });
    const uses = (...ids: string[]) => ids.map((id) => memory.firstUse(id, 10));
    expect(uses('a', 'b', 'a')).toEqual([true, true, false]);
    time = 9_999;
    expect(uses('c', 'b')).toEqual([true, false]);
    expect(() => uses('d')).toThrow(GuardError);
    time = 10_000;
    expect(uses('a', 'b')).toEqual([true, true]);
    expect(() => uses('d')).toThrow(GuardError);
  });
});
