import { createHash, createSecretKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import {
  NONCE_BYTES,
  prepareXaesKey,
  TAG_BYTES,
  type XaesKey,
  xaesOpen,
  xaesSeal,
} from './xaes256gcm.js';

const { vectors, accumulated } = JSON.parse(
  readFileSync(new URL('./fixtures/xaes-256-gcm.json', import.meta.url), 'utf8'),
) as {
  vectors: {
    key: string;
    nonceAscii: string;
    K1: string;
    plaintextAscii: string;
    aadAscii: string;
    ciphertext: string;
  }[];
  accumulated: Record<string, string>;
};

const seal = (key: XaesKey, nonce: Buffer, plaintext: Buffer, aad: Buffer): Buffer =>
  xaesSeal(key, Buffer.concat([nonce, plaintext, Buffer.alloc(TAG_BYTES)]), aad);

describe('XAES-256-GCM (C2SP v1.0.1)', () => {
  test.each(vectors)('seals the published vector $ciphertext and opens it again', (v) => {
    const key = prepareXaesKey(createSecretKey(Buffer.from(v.key, 'hex')));
    const [nonce, aad] = [Buffer.from(v.nonceAscii), Buffer.from(v.aadAscii)];
    expect(key.k1.toString('hex')).toBe(v.K1);
    const sealed = seal(key, nonce, Buffer.from(v.plaintextAscii), aad);
    expect(sealed.toString('hex')).toBe(nonce.toString('hex') + v.ciphertext);
    expect(xaesOpen(key, sealed, aad).toString()).toBe(v.plaintextAscii);
  });

  test('10,000 messages drawn from SHAKE-128 accumulate to the published digest', () => {
    const stream = shake128Stream(10_000 * (32 + NONCE_BYTES + 2 + 255 + 255));
    const all: Buffer[] = [];
    let opened = 0;
    for (let i = 0; i < 10_000; i++) {
      const key = prepareXaesKey(createSecretKey(stream(32)));
      const nonce = stream(NONCE_BYTES);
      const plaintext = stream(stream(1)[0]!);
      const aad = stream(stream(1)[0]!);
      const sealed = seal(key, nonce, plaintext, aad);
      if (xaesOpen(key, sealed, aad).equals(plaintext)) opened++;
      all.push(sealed.subarray(NONCE_BYTES));
    }
    expect(opened).toBe(10_000);
    expect(
      createHash('shake128', { outputLength: 32 }).update(Buffer.concat(all)).digest('hex'),
    ).toBe(accumulated['10000']);
  });
});

/** The first `bytes` of SHAKE-128 over nothing, read piece by piece. */
function shake128Stream(bytes: number): (size: number) => Buffer {
  const all = createHash('shake128', { outputLength: bytes }).digest();
  let at = 0;
  return (size) => all.subarray(at, (at += size));
}
