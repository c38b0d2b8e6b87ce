import { createHash, randomBytes } from 'node:crypto';

/** A new session cookie: 32 random bytes, base64url. Only the browser ever holds it. */
export function newSessionCookie(): string {
  return randomBytes(32).toString('base64url');
}

/** What the server keeps of a session cookie: SHA-256 over the value's text. A session from before cookies were secrets has its id as cookie. */
export function cookieHash(cookie: string): Buffer {
  return createHash('sha256').update(cookie, 'utf8').digest();
}

/** The cache key of a session: 128 bits of the cookie's hash, which is all that a collision-free key needs. */
export function sessionCacheKey(hash: Uint8Array): string {
  return `s:${Buffer.from(hash.subarray(0, 16)).toString('base64url')}`;
}
