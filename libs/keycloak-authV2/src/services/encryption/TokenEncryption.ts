import { createDecipheriv, randomBytes } from 'node:crypto';
import { AuthError } from '../../errors.js';
import { associatedData, type TokenLocation } from './associatedData.js';
import type { Keyring } from './keyring.js';
import { NONCE_BYTES, TAG_BYTES, xaesOpen, xaesSeal } from './xaes256gcm.js';

/** What a stored value is, by grammar alone. `malformed` claims to be v2 and is not; it is never taken for a token. */
export type StoredClass = 'empty' | 'v2' | 'plan' | 'plain' | 'malformed';
/** Which classes a process opens. */
export type ReadPolicy = 'v2' | 'v2+plan' | 'all';
/** Why a stored value does not open: for logs, metrics and quarantine, never for a client. */
export type UnreadableReason = 'malformed' | 'too_large' | 'refused_by_policy' | 'unknown_kid' | 'no_plan_key' | 'not_authentic' | 'not_text';

/** No token is larger; checked before any cryptography, in both directions. */
export const MAX_TOKEN_BYTES = 1024 * 1024;

const V2 = /^v2\.([a-z0-9]{1,16})\.([A-Za-z0-9_-]{54,})$/;
const PLAN = /^([0-9a-f]{32}):([0-9a-f]{32}):((?:[0-9a-f]{2})+)$/;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Seals tokens as v2 values (XAES-256-GCM) bound to their table, column and row, and opens v2 values and those of the
 * plan's format. Pure: no I/O, no clock; randomness can be replaced for test vectors only.
 */
export class TokenEncryption {
  readonly #keyring: Keyring;
  readonly #readPolicy: ReadPolicy;
  readonly #onRead: (storedClass: StoredClass) => void;
  readonly #randomBytes: (size: number) => Buffer;

  constructor(options: {
    keyring: Keyring;
    readPolicy?: ReadPolicy;
    /** Told the class of each value that opened, so that reads of old formats can be counted. */
    onRead?: (storedClass: StoredClass) => void;
    randomBytes?: (size: number) => Buffer;
  }) {
    this.#keyring = options.keyring;
    this.#readPolicy = options.readPolicy ?? 'v2+plan';
    this.#onRead = options.onRead ?? (() => undefined);
    this.#randomBytes = options.randomBytes ?? randomBytes;
  }

  /** The class of a stored value, by strict grammar, never by trial decryption. */
  static classify(stored: string | null): StoredClass {
    if (stored === null || stored === '') return 'empty';
    if (stored.startsWith('v2.')) return parseV2(stored) ? 'v2' : 'malformed';
    return PLAN.test(stored) ? 'plan' : 'plain';
  }

  /** The key id of a v2 value, or null for any other. */
  static kidOf(stored: string): string | null {
    return parseV2(stored)?.kid ?? null;
  }

  /** `v2.<kid>.<base64url(nonce || ciphertext || tag)>` under the primary key. A new nonce each time: 192 random bits. */
  seal(token: string, location: TokenLocation, kid: string = this.#keyring.primary): string {
    const key = this.#keyring.key(kid);
    if (!key) throw unreadable('unknown_kid', `no key with the id ${kid} to seal with`);
    const plaintext = Buffer.from(token, 'utf8');
    if (plaintext.length === 0) throw new TypeError('an empty token is stored as NULL, never sealed');
    if (plaintext.length > MAX_TOKEN_BYTES) throw unreadable('too_large', `a token is larger than ${MAX_TOKEN_BYTES} bytes`);
    const nonce = this.#randomBytes(NONCE_BYTES);
    const sealed = xaesSeal(key, nonce, plaintext, associatedData(kid, location));
    return `v2.${kid}.${Buffer.concat([nonce, sealed]).toString('base64url')}`;
  }

  /**
   * The token in a stored value.
   * @throws AuthError `token_unreadable`: always the same message, so that nothing can be learned from it; `reason` says why.
   */
  open(stored: string, location: TokenLocation): string {
    const storedClass = TokenEncryption.classify(stored);
    const token = this.#open(storedClass, stored, location);
    this.#onRead(storedClass);
    return token;
  }

  #open(storedClass: StoredClass, stored: string, location: TokenLocation): string {
    switch (storedClass) {
      case 'v2':
        return this.#openV2(stored, location);
      case 'plan':
        if (this.#readPolicy === 'v2') throw unreadable('refused_by_policy');
        return this.#openPlan(stored);
      case 'plain':
        if (this.#readPolicy !== 'all') throw unreadable('refused_by_policy');
        return stored;
      case 'empty':
      case 'malformed':
        throw unreadable('malformed');
    }
  }

  #openV2(stored: string, location: TokenLocation): string {
    const value = parseV2(stored);
    if (!value) throw unreadable('malformed');
    if (value.bytes.length > NONCE_BYTES + MAX_TOKEN_BYTES + TAG_BYTES) throw unreadable('too_large');
    const key = this.#keyring.key(value.kid);
    if (!key) throw unreadable('unknown_kid');
    const { bytes, kid } = value;
    return text(() => xaesOpen(key, bytes.subarray(0, NONCE_BYTES), bytes.subarray(NONCE_BYTES), associatedData(kid, location)));
  }

  #openPlan(stored: string): string {
    const [, iv = '', tag = '', ciphertext = ''] = PLAN.exec(stored) ?? [];
    if (ciphertext.length > 2 * MAX_TOKEN_BYTES) throw unreadable('too_large');
    const key = this.#keyring.planKey;
    if (!key) throw unreadable('no_plan_key');
    return text(() => {
      // Without authTagLength node:crypto accepts tags cut to 4 bytes; the grammar forbids them already, this makes sure.
      const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(iv, 'hex'), { authTagLength: TAG_BYTES });
      decipher.setAuthTag(Buffer.from(tag, 'hex'));
      return Buffer.concat([decipher.update(ciphertext, 'hex'), decipher.final()]);
    });
  }
}

function parseV2(stored: string): { kid: string; bytes: Buffer } | null {
  const [, kid, encoded] = V2.exec(stored) ?? [];
  if (kid === undefined || encoded === undefined) return null;
  const bytes = Buffer.from(encoded, 'base64url');
  // Two spellings of one value would let a stored value change without its tag noticing.
  return bytes.toString('base64url') === encoded ? { kid, bytes } : null;
}

function text(decrypt: () => Buffer): string {
  let bytes: Buffer;
  try {
    bytes = decrypt();
  } catch {
    throw unreadable('not_authentic');
  }
  try {
    return utf8.decode(bytes);
  } catch {
    throw unreadable('not_text');
  }
}

const unreadable = (reason: UnreadableReason, message = 'a stored token does not open'): AuthError =>
  new AuthError('token_unreadable', message, { reason });

