import { createHash, generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify, UnsecuredJWT } from 'jose';
import { areDpopKeys, DpopKeys } from './dpop.js';

const ec = (): string =>
  generateKeyPairSync('ec', { namedCurve: 'P-256' })
    .privateKey.export({ type: 'pkcs8', format: 'pem' })
    .toString();
const tokenFor = (jkt: string | undefined): string =>
  new UnsecuredJWT({ sub: 'x', ...(jkt === undefined ? {} : { cnf: { jkt } }) }).encode();
const read = (proof: string) => jwtVerify(proof, EmbeddedJWK, { typ: 'dpop+jwt' });

describe('proofs of possession', () => {
  test('are as RFC 9449 §4.2 has them, each with an id of its own', async () => {
    const keys = await DpopKeys.from(ec());
    const token = tokenFor(keys.thumbprint);
    const [one, two] = await Promise.all(
      [1, 2].map(() => keys.proof('POST', new URL('https://api.example/a%20b?q=1#f'), token)),
    );
    const { payload, protectedHeader } = await read(one!);
    expect(payload).toEqual({
      jti: expect.any(String),
      iat: expect.any(Number),
      htm: 'POST',
      htu: 'https://api.example/a%20b',
      ath: createHash('sha256').update(token).digest('base64url'),
    });
    expect(Object.keys(protectedHeader.jwk!).sort()).toEqual(['crv', 'kty', 'x', 'y']);
    expect(await calculateJwkThumbprint(protectedHeader.jwk!)).toBe(keys.thumbprint);
    expect((await read(two!)).payload.jti).not.toBe(payload.jti);
  });

  test.each([
    [
      'EdDSA',
      generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    ],
    [
      'RS256',
      generateKeyPairSync('rsa', { modulusLength: 2048 })
        .privateKey.export({ type: 'pkcs1', format: 'pem' })
        .toString(),
    ],
    [
      'ES384',
      generateKeyPairSync('ec', { namedCurve: 'P-384' })
        .privateKey.export({ type: 'sec1', format: 'pem' })
        .toString(),
    ],
  ])('are signed with %s too', async (algorithm, pem) => {
    const keys = await DpopKeys.from(pem);
    expect(
      (
        await read(
          await keys.proof('GET', new URL('https://api.example/'), tokenFor(keys.thumbprint)),
        )
      ).protectedHeader.alg,
    ).toBe(algorithm);
  });

  test('carry the latest nonce of the server that they are for', async () => {
    const keys = await DpopKeys.from(ec());
    const nonceFor = async (url: string) =>
      (await read(await keys.proof('GET', new URL(url), tokenFor(keys.thumbprint)))).payload[
        'nonce'
      ];
    keys.useNonce('https://api.example', 'first');
    keys.useNonce('https://api.example', 'second');
    expect([
      await nonceFor('https://api.example/x'),
      await nonceFor('https://other.example/x'),
    ]).toEqual(['second', undefined]);
    for (let i = 0; i < 100; i++) keys.useNonce(`https://${i}.example`, 'n');
    expect(await nonceFor('https://api.example/x')).toBeUndefined();
  });

  test('are made with the key that the token is bound to, also while it is on its way out', async () => {
    const [old, next] = [ec(), ec()];
    const [before, between] = [await DpopKeys.from(old), await DpopKeys.from(next + old)];
    const bound = tokenFor(before.thumbprint);
    expect(between.thumbprint).not.toBe(before.thumbprint);
    expect([
      between.binding(bound),
      before.binding(bound),
      (await DpopKeys.from(next)).binding(bound),
    ]).toEqual(['ours', 'ours', 'another']);
    const { protectedHeader } = await read(
      await between.proof('GET', new URL('https://api.example/'), bound),
    );
    expect(await calculateJwkThumbprint(protectedHeader.jwk!)).toBe(before.thumbprint);
  });

  test.each(['{"cnf":{"jkt":"x"}}', '{ "cnf" : { "jkt" : "x" } }', '{"\\u0063nf":{"jkt":"x"}}'])(
    'are found for a claim that is written as %s',
    async (claims) => {
      const token = `e30.${Buffer.from(claims).toString('base64url')}.`;
      expect((await DpopKeys.from(ec())).binding(token)).toBe('another');
    },
  );

  test.each([
    ['a token without cnf', tokenFor(undefined)],
    ['no JWT', 'opaque'],
    ['a strange cnf', new UnsecuredJWT({ cnf: { jkt: 5 } }).encode()],
    ['cnf of null', new UnsecuredJWT({ cnf: null }).encode()],
  ])('are not for %s', async (_, token) => {
    expect((await DpopKeys.from(ec())).binding(token)).toBe('none');
  });
});

test('what is no private key to sign with is told from what is', async () => {
  const publicPem = generateKeyPairSync('ed25519')
    .publicKey.export({ type: 'spki', format: 'pem' })
    .toString();
  const x25519 = generateKeyPairSync('x25519')
    .privateKey.export({ type: 'pkcs8', format: 'pem' })
    .toString();
  expect(
    [ec(), ec() + ec(), '', 'text', publicPem, x25519, ec() + x25519].map(areDpopKeys),
  ).toEqual([true, true, false, false, false, false, false]);
  await expect(DpopKeys.from('')).rejects.toThrow(TypeError);
});
