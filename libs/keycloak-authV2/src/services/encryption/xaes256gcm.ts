import { type Cipher, createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto';

export const NONCE_BYTES = 24;
export const TAG_BYTES = 16;

/**
 * An XAES-256-GCM key ready for use (C2SP XAES-256-GCM v1.0.1). Preparing costs one AES block; each message then costs
 * two more and one AES-256-GCM call. The AES object is kept because ECB has no state between whole blocks.
 */
export interface XaesKey {
  readonly aes: Cipher;
  readonly k1: Buffer;
}

export function prepareXaesKey(key: KeyObject): XaesKey {
  const aes = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
  const l = aes.update(Buffer.alloc(16));
  const k1 = Buffer.alloc(16);
  for (let i = 0; i < 16; i++) k1[i] = (byte(l, i) << 1) | (i < 15 ? byte(l, i + 1) >> 7 : 0);
  // The CMAC subkey step: a carry out of the top bit folds back as x^128 = x^7 + x^2 + x + 1 (NIST SP 800-38B §6.1).
  if (byte(l, 0) & 0x80) k1[15] = byte(k1, 15) ^ 0x87;
  return { aes, k1 };
}

/** Ciphertext followed by the 16-byte tag. The nonce must be 24 random bytes, new for every message. */
export function xaesSeal(key: XaesKey, nonce: Buffer, plaintext: Buffer, associatedData: Buffer): Buffer {
  const cipher = createCipheriv('aes-256-gcm', messageKey(key, nonce), nonce.subarray(12, NONCE_BYTES));
  cipher.setAAD(associatedData);
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/** The plaintext, or an exception from node:crypto when anything at all does not match. `sealed` ends with the tag. */
export function xaesOpen(key: XaesKey, nonce: Buffer, sealed: Buffer, associatedData: Buffer): Buffer {
  const tagAt = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv('aes-256-gcm', messageKey(key, nonce), nonce.subarray(12, NONCE_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(associatedData);
  decipher.setAuthTag(sealed.subarray(tagAt));
  return Buffer.concat([decipher.update(sealed.subarray(0, tagAt)), decipher.final()]);
}

/** NIST SP 800-108r1 KDF in counter mode with CMAC over one block each, as the specification unrolls it. */
function messageKey({ aes, k1 }: XaesKey, nonce: Buffer): KeyObject {
  const blocks = Buffer.alloc(32);
  for (let half = 0; half < 2; half++) {
    const at = half * 16;
    blocks[at + 1] = half + 1;
    blocks[at + 2] = 0x58;
    nonce.copy(blocks, at + 4, 0, 12);
    for (let i = 0; i < 16; i++) blocks[at + i] = byte(blocks, at + i) ^ byte(k1, i);
  }
  return createSecretKey(aes.update(blocks));
}

const byte = (buffer: Buffer, index: number): number => buffer[index] ?? 0;
