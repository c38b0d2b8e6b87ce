import { isAscii, isUtf8 } from 'node:buffer';
import { createDecipheriv, randomBytes } from 'node:crypto';
import { toUSVString } from 'node:util';
import { AuthError } from '../../errors.js';
import { associatedData, type TokenLocation } from './associatedData.js';
import type { Keyring } from './keyring.js';
import { NONCE_BYTES, TAG_BYTES, xaesOpen, xaesSeal } from './xaes256gcm.js';
import type { UnreadableReason } from '../../reasons.js';

/** What a stored value is, by grammar alone. `malformed` claims to be v2 and is not; it is never taken for a token. */
export type StoredClass = 'empty' | 'v2' | 'plan' | 'plain' | 'malformed';
/** Which classes a process opens. */
export type ReadPolicy = 'v2' | 'v2+plan' | 'all';
/** What became of one value. `kid` is one of the keyring's, or null for values under none of them. */
export interface KeyUse {
  readonly operation: 'seal' | 'open';
  readonly storedClass: StoredClass;
  readonly kid: string | null;
  readonly refused: UnreadableReason | null;
}

/** No token is larger; checked before any cryptography, in both directions. */
export const MAX_TOKEN_BYTES = 1024 * 1024;
/** The longest spelling of that, the older format's: two hex digits a byte. */
const MAX_STORED_CHARACTERS = 2 * MAX_TOKEN_BYTES + 66;
/**
 * Tokens of ordinary size are sealed in one buffer again and again: a new one for each would
 * cost as much as the cipher.
 */
const WORKSPACE_BYTES = 16 * 1024;

// The rest is held to its alphabet while it is decoded: a pattern over the whole value would
// cost as much as the cipher.
const V2_PREFIX = /^v2\.([a-z0-9]{1,16})\./;
const PLAN_PREFIX = /^([0-9a-f]{32}):([0-9a-f]{32}):/;

/**
 * Seals tokens as v2 values (XAES-256-GCM) bound to their table, column and row, and opens v2 values and those of the
 * plan's format. Pure: no I/O, no clock; randomness can be replaced for test vectors only.
 */
export class TokenEncryption {
  readonly #keyring: Keyring;
  readonly #readPolicy: ReadPolicy;
  readonly #onUse: (use: KeyUse) => void;
  readonly #randomBytes: (size: number) => Buffer;
  readonly #workspace = Buffer.alloc(WORKSPACE_BYTES);

  constructor(options: {
    keyring: Keyring;
    readPolicy?: ReadPolicy;
    /** Told of each value sealed, opened or refused, so that uses of keys and reads of old formats can be counted. */
    onUse?: (use: KeyUse) => void;
    randomBytes?: (size: number) => Buffer;
  }) {
    this.#keyring = options.keyring;
    this.#readPolicy = options.readPolicy ?? 'v2+plan';
    this.#onUse = options.onUse ?? (() => undefined);
    this.#randomBytes = options.randomBytes ?? nonceBytes;
  }

  /** The class of a stored value, by strict grammar, never by trial decryption. */
  static classify(stored: string | null): StoredClass {
    return parse(stored).storedClass;
  }

  /** The key id of a v2 value, or null for any other. */
  static kidOf(stored: string): string | null {
    const value = parse(stored);
    return value.storedClass === 'v2' ? value.kid : null;
  }

  /**
   * `v2.<kid>.<base64url(nonce || ciphertext || tag)>` under the primary key. A new nonce each time: 192 random bits.
   */
  seal(token: string, location: TokenLocation, kid: string = this.#keyring.primary): string {
    const key = this.#keyring.key(kid);
    if (!key) throw unreadable('unknown_kid', `no key with the id ${kid} to seal with`);
    if (token === '') throw new TypeError('an empty token is stored as NULL, never sealed');
    const size = Buffer.byteLength(token);
    if (size > MAX_TOKEN_BYTES)
      throw unreadable('too_large', `a token is larger than ${MAX_TOKEN_BYTES} bytes`);
    // UTF-8 has no unpaired surrogates: what was sealed would open to another text.
    if (toUSVString(token) !== token)
      throw unreadable('not_text', 'a token is not well-formed text');
    const place = associatedData(kid, location);
    const needed = NONCE_BYTES + size + TAG_BYTES;
    const message =
      needed <= WORKSPACE_BYTES ? this.#workspace.subarray(0, needed) : Buffer.allocUnsafe(needed);
    message.set(this.#randomBytes(NONCE_BYTES));
    message.write(token, NONCE_BYTES);
    const sealed = xaesSeal(key, message, place);
    this.#onUse({ operation: 'seal', storedClass: 'v2', kid, refused: null });
    return `v2.${kid}.${sealed.toString('base64url')}`;
  }

  /**
   * The token in a stored value.
   * @throws AuthError `token_unreadable`: always the same message, so that nothing can be learned
   * from it; `reason` says why.
   */
  open(stored: string, location: TokenLocation): string {
    const value = parse(stored);
    const { storedClass } = value;
    // Any text can claim any key id: only those of this keyring are told apart.
    const kid = value.storedClass === 'v2' && this.#keyring.key(value.kid) ? value.kid : null;
    try {
      const token = this.#open(value, stored, location);
      this.#onUse({ operation: 'open', storedClass, kid, refused: null });
      return token;
    } catch (error) {
      if (error instanceof AuthError)
        this.#onUse({
          operation: 'open',
          storedClass,
          kid,
          refused: error.reason as UnreadableReason,
        });
      throw error;
    }
  }

  #open(value: StoredValue, stored: string, location: TokenLocation): string {
    // A value of the plan's format that is no longer holds no larger token.
    if (stored.length > MAX_STORED_CHARACTERS) throw unreadable('too_large');
    switch (value.storedClass) {
      case 'v2':
        return this.#openV2(value, location);
      case 'plan':
        if (this.#readPolicy === 'v2') throw unreadable('refused_by_policy');
        return this.#openPlan(value);
      case 'plain':
        if (this.#readPolicy !== 'all') throw unreadable('refused_by_policy');
        return stored;
      case 'empty':
      case 'malformed':
        throw unreadable('malformed');
    }
  }

  #openV2({ kid, sealed }: Of<'v2'>, location: TokenLocation): string {
    if (sealed.length > NONCE_BYTES + MAX_TOKEN_BYTES + TAG_BYTES) throw unreadable('too_large');
    const key = this.#keyring.key(kid);
    if (!key) throw unreadable('unknown_kid');
    const place = associatedData(kid, location);
    return text(() => xaesOpen(key, sealed, place));
  }

  #openPlan({ iv, tag, ciphertext }: Of<'plan'>): string {
    const key = this.#keyring.planKey;
    if (!key) throw unreadable('no_plan_key');
    return text(() => {
      // Without authTagLength node:crypto accepts tags cut to 4 bytes; the grammar forbids them
      // already, this makes sure.
      const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES });
      decipher.setAuthTag(tag);
      return Buffer.concat([decipher.update(ciphertext), decipher.final()]);
    });
  }
}

type StoredValue =
  | { storedClass: 'empty' | 'plain' | 'malformed' }
  | { storedClass: 'v2'; kid: string; sealed: Buffer }
  | { storedClass: 'plan'; iv: Buffer; tag: Buffer; ciphertext: Buffer };
type Of<Class extends StoredClass> = Extract<StoredValue, { storedClass: Class }>;

function parse(stored: string | null): StoredValue {
  if (stored === null || stored === '') return { storedClass: 'empty' };
  if (stored.startsWith('v2.')) return parseV2(stored) ?? { storedClass: 'malformed' };
  return parsePlan(stored) ?? { storedClass: 'plain' };
}

function parseV2(stored: string): Of<'v2'> | null {
  const [prefix, kid] = V2_PREFIX.exec(stored) ?? [];
  if (prefix === undefined || kid === undefined) return null;
  const sealed = fromBase64url(stored.slice(prefix.length));
  return sealed && sealed.length >= NONCE_BYTES + TAG_BYTES
    ? { storedClass: 'v2', kid, sealed }
    : null;
}

function parsePlan(stored: string): Of<'plan'> | null {
  const [prefix, iv, tag] = PLAN_PREFIX.exec(stored) ?? [];
  if (prefix === undefined || iv === undefined || tag === undefined) return null;
  const ciphertext = fromHex(stored.slice(prefix.length));
  return ciphertext && ciphertext.length > 0
    ? { storedClass: 'plan', iv: Buffer.from(iv, 'hex'), tag: Buffer.from(tag, 'hex'), ciphertext }
    : null;
}

/**
 * The bytes of a base64url text, or null unless it is the very text that encoding them gives (RFC 4648 §3.5):
 * with other spellings a stored value could change without its tag noticing. The decoder skips characters
 * outside its alphabet, and then gives fewer bytes than the length stands for; it also knows `+` and `/`, and
 * takes wider characters for ASCII.
 */
function fromBase64url(encoded: string): Buffer | null {
  const bytes = Buffer.from(encoded, 'base64url');
  if (
    Math.ceil((bytes.length * 4) / 3) !== encoded.length ||
    Buffer.byteLength(encoded) !== encoded.length
  )
    return null;
  if (encoded.includes('+') || encoded.includes('/')) return null;
  // Only the last character can hold bits that belong to no byte.
  return encoded.endsWith(bytes.toString('base64url', bytes.length - (bytes.length % 3)))
    ? bytes
    : null;
}

function fromHex(encoded: string): Buffer | null {
  const bytes = Buffer.from(encoded, 'hex');
  return bytes.toString('hex') === encoded ? bytes : null;
}

function text(decrypt: () => Buffer): string {
  let bytes: Buffer;
  try {
    bytes = decrypt();
  } catch {
    throw unreadable('not_authentic');
  }
  // Nearly every token is ASCII, which takes a tenth of the time to turn into a text when that is known.
  if (isAscii(bytes)) return bytes.toString('latin1');
  if (!isUtf8(bytes)) throw unreadable('not_text');
  return bytes.toString();
}

/** So many nonces are fetched at a time: to ask for each costs half as much as to seal with it. */
const NONCES_AHEAD = 128;
let ahead = Buffer.alloc(0);

/** Random bytes, each of them handed out once. */
function nonceBytes(size: number): Buffer {
  if (ahead.length < size) ahead = randomBytes(NONCES_AHEAD * size);
  const bytes = ahead.subarray(0, size);
  ahead = ahead.subarray(size);
  return bytes;
}

const unreadable = (
  reason: UnreadableReason,
  message = 'a stored token does not open',
): AuthError => new AuthError('token_unreadable', message, { reason });
