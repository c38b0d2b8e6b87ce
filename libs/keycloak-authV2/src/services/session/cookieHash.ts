import { createHash, hash, randomBytes } from 'node:crypto';

/** A new session cookie: 32 random bytes, base64url. Only the browser ever holds it. */
export function newSessionCookie(): string {
  return randomBytes(32).toString('base64url');
}

/**
 * What the server keeps of a session cookie: SHA-256 over the value's text. A session from before cookies were
 * secrets has its id as cookie.
 */
export function cookieHash(cookie: string): Buffer {
  return createHash('sha256').update(cookie, 'utf8').digest();
}

/** The cache key of a session: 132 bits of the cookie's hash, which is more than a collision-free key needs. */
export function sessionCacheKey(hashed: Uint8Array): string {
  return keyOf(Buffer.from(hashed).toString('base64url'));
}

/** The same in one step, for every request. */
export function cacheKeyOfCookie(cookie: string): string {
  return keyOf(hash('sha256', cookie, 'base64url'));
}

/**
 * The id of a new session: a UUID of version 8 (RFC 9562) whose bits are those of its cache key, so that copies need
 * not hold it. It says nothing of the cookie that its hash does not say.
 */
export function sessionIdOfKey(key: string): string {
  const bytes = Buffer.from(key.slice(2), 'base64url').subarray(0, 16);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return uuidOf(bytes);
}

/** 16 bytes as UUIDs are written. */
export function uuidOf(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

const keyOf = (base64url: string): string => `s:${base64url.slice(0, 22)}`;
