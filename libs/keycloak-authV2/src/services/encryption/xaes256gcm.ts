import { type Cipher, createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto';

export const NONCE_BYTES = 24;
export const TAG_BYTES = 16;

/**
 * An XAES-256-GCM key ready for use (C2SP XAES-256-GCM v1.0.1). Preparing costs one AES block; each message then costs
 * two more and one AES-256-GCM call. One AES object serves all messages, which is safe: ECB without padding turns whole
 * blocks into whole blocks at once and keeps nothing of them, so no message bears on the next.
 */
export interface XaesKey {
  readonly aes: Cipher;
  readonly k1: Buffer;
  /**
   * What AES makes a message key of, all but the nonce: `messageKey` writes that in and is done before anyone else can.
   */
  readonly blocks: Buffer;
}

export function prepareXaesKey(key: KeyObject): XaesKey {
  const aes = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
  const l = aes.update(Buffer.alloc(16));
  const k1 = Buffer.alloc(16);
  for (let i = 0; i < 16; i++) k1[i] = (byte(l, i) << 1) | (byte(l, i + 1) >> 7);
  // The CMAC subkey step: a carry out of the top bit folds back as x^128 = x^7 + x^2 + x + 1 (NIST SP 800-38B §6.1).
  if (byte(l, 0) & 0x80) k1[15] = byte(k1, 15) ^ 0x87;
  const blocks = Buffer.concat([k1, k1]);
  for (const [half, counter] of [
    [0, 1],
    [16, 2],
  ] as const) {
    blocks[half + 1] = byte(k1, 1) ^ counter;
    blocks[half + 2] = byte(k1, 2) ^ 0x58;
  }
  return { aes, k1, blocks };
}

/**
 * Seals in place: nonce, plaintext and room for the tag become nonce, ciphertext and tag, and nothing is left of the
 * plaintext. The nonce must be 24 random bytes, new for every message.
 */
export function xaesSeal(key: XaesKey, message: Buffer, associatedData: Buffer): Buffer {
  const tagAt = message.length - TAG_BYTES;
  const cipher = createCipheriv(
    'aes-256-gcm',
    messageKey(key, message),
    message.subarray(12, NONCE_BYTES),
  );
  cipher.setAAD(associatedData);
  message.set(cipher.update(message.subarray(NONCE_BYTES, tagAt)), NONCE_BYTES);
  // GCM is a stream: `final` computes the tag and gives no bytes.
  cipher.final();
  message.set(cipher.getAuthTag(), tagAt);
  return message;
}

/** The plaintext of what `xaesSeal` made, or an exception from node:crypto when anything at all does not match. */
export function xaesOpen(key: XaesKey, sealed: Buffer, associatedData: Buffer): Buffer {
  const tagAt = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv(
    'aes-256-gcm',
    messageKey(key, sealed),
    sealed.subarray(12, NONCE_BYTES),
    { authTagLength: TAG_BYTES },
  );
  decipher.setAAD(associatedData);
  decipher.setAuthTag(sealed.subarray(tagAt));
  const plaintext = decipher.update(sealed.subarray(NONCE_BYTES, tagAt));
  // Throws unless the tag is right: nothing of the plaintext leaves before.
  decipher.final();
  return plaintext;
}

/** NIST SP 800-108r1 KDF in counter mode with CMAC over one block each, as the specification unrolls it. */
function messageKey({ aes, k1, blocks }: XaesKey, nonce: Buffer): Buffer {
  for (let i = 0; i < 12; i++) blocks[4 + i] = blocks[20 + i] = byte(nonce, i) ^ byte(k1, 4 + i);
  return aes.update(blocks);
}

const byte = (buffer: Buffer, index: number): number => buffer[index] ?? 0;
