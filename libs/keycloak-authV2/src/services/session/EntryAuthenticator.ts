import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';

const TAG_BYTES = 16;

/** What a keyring gives the cache: a key of its own for each key id, and no key that opens tokens. */
export interface CacheKeys {
  readonly primary: string;
  readonly kids: readonly string[];
  cacheKey(kid: string): KeyObject | undefined;
}

/**
 * Authenticates what is kept in the shared cache, so that a program that can write there can invent, alter or move
 * nothing: HMAC-SHA-256 (RFC 2104, cut to 16 bytes as §5 allows) over the entry's key and value. Entries are written
 * under the primary key's cache key and believed under that of any key in the keyring, so that instances go on sharing
 * entries in the middle of a rotation. Under a key that is not in the keyring (any more) they are as good as absent.
 */
export class EntryAuthenticator {
  readonly #keys: CacheKeys;

  constructor(keys: CacheKeys) {
    this.#keys = keys;
  }

  /** The value with its tag behind it. */
  protect(key: string, value: Buffer): Buffer {
    const cacheKey = this.#keys.cacheKey(this.#keys.primary);
    if (!cacheKey) throw new TypeError('the keyring lacks its primary key');
    return Buffer.concat([value, tagOf(cacheKey, key, value)]);
  }

  /** The value of what `protect` returned for this very key; null for anything else. */
  verify(key: string, stored: Buffer): Buffer | null {
    if (stored.length < TAG_BYTES) return null;
    const value = stored.subarray(0, -TAG_BYTES);
    const tag = stored.subarray(-TAG_BYTES);
    const { primary, kids } = this.#keys;
    const isUnder = (kid: string): boolean => {
      const cacheKey = this.#keys.cacheKey(kid);
      return cacheKey !== undefined && timingSafeEqual(tagOf(cacheKey, key, value), tag);
    };
    return isUnder(primary) || kids.some((kid) => kid !== primary && isUnder(kid)) ? value : null;
  }
}

/** No key of an entry contains NUL, so nothing can pass from the key into the value. */
const tagOf = (cacheKey: KeyObject, key: string, value: Buffer): Buffer =>
  createHmac('sha256', cacheKey).update(`${key}\0`).update(value).digest().subarray(0, TAG_BYTES);
