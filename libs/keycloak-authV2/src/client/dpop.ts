import { createHash, createPublicKey, randomUUID } from 'node:crypto';
import { keepNewest } from '@session-gateway/database';
import { calculateJwkThumbprint, type CryptoKey, decodeJwt, importJWK, type JWK, SignJWT } from 'jose';
import { signingKey } from './clientAuthentication.js';

const PEM = /-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----/g;
/** Nonces that resource servers want in their proofs; one for each, so this many servers. */
const MAX_NONCES = 100;

interface Key {
  readonly thumbprint: string;
  readonly algorithm: string;
  readonly publicJwk: JWK;
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
}

/**
 * Keys that access tokens are bound to (RFC 9449): whoever takes such a token away cannot use it without its key, which
 * never leaves the process. New tokens are bound to the first; the others are on their way in or out, so that all
 * instances can use every token while the key is changed.
 */
export class DpopKeys {
  readonly #keys: ReadonlyMap<string, Key>;
  readonly #first: Key;
  readonly #nonces = new Map<string, string>();

  private constructor(keys: readonly [Key, ...Key[]]) {
    this.#first = keys[0];
    this.#keys = new Map(keys.map((key) => [key.thumbprint, key]));
  }

  /** @throws TypeError when there is no private key to sign with, which the configuration has ruled out */
  static async from(pem: string): Promise<DpopKeys> {
    const [first, ...others] = await Promise.all((pem.match(PEM) ?? []).map(importKey));
    if (first === undefined) throw new TypeError('there is no DPoP key');
    return new DpopKeys([first, ...others]);
  }

  /** The first key's JWK SHA-256 thumbprint (RFC 7638), as tokens name it in `cnf.jkt`. */
  get thumbprint(): string {
    return this.#first.thumbprint;
  }

  get keyPair(): { privateKey: CryptoKey; publicKey: CryptoKey } {
    return this.#first;
  }

  /** Whether an access token is bound to one of these keys (`ours`), to another one (`another`), or to none. */
  binding(accessToken: string): 'ours' | 'another' | 'none' {
    const jkt = boundTo(accessToken);
    return jkt === null ? 'none' : this.#keys.has(jkt) ? 'ours' : 'another';
  }

  /** A proof for one request with a token that is `ours` (§4.2), with the server's latest nonce. `url` counts without query and fragment. */
  async proof(method: string, url: URL, accessToken: string): Promise<string> {
    const key = this.#keys.get(boundTo(accessToken) ?? '') ?? this.#first;
    const nonce = this.#nonces.get(url.origin);
    return new SignJWT({
      jti: randomUUID(), htm: method, htu: url.origin + url.pathname,
      ath: createHash('sha256').update(accessToken).digest('base64url'),
      ...(nonce === undefined ? {} : { nonce }),
    }).setProtectedHeader({ typ: 'dpop+jwt', alg: key.algorithm, jwk: key.publicJwk }).setIssuedAt().sign(key.privateKey);
  }

  /** Keeps the nonce that a resource server gave with an answer (§8.2, §9). */
  useNonce(origin: string, nonce: string): void {
    keepNewest(this.#nonces, origin, nonce, MAX_NONCES);
  }
}

/** Whether a PEM holds private keys to sign with, one or more, and no other. */
export function areDpopKeys(pem: string): boolean {
  const keys = pem.match(PEM) ?? [];
  return keys.length > 0 && keys.every((key) => signingKey(key) !== null);
}

async function importKey(pem: string): Promise<Key> {
  const found = signingKey(pem);
  if (found === null) throw new TypeError('a DPoP key is no private key to sign with');
  const { key, algorithm } = found;
  const publicJwk = createPublicKey(key).export({ format: 'jwk' }) as JWK;
  const [thumbprint, privateKey, publicKey] = await Promise.all([
    calculateJwkThumbprint(publicJwk), importJWK(key.export({ format: 'jwk' }) as JWK, algorithm), importJWK(publicJwk, algorithm, { extractable: true }),
  ]);
  return { thumbprint, algorithm, publicJwk, privateKey: privateKey as CryptoKey, publicKey: publicKey as CryptoKey };
}

/** The thumbprint of the key that a JWT is bound to; null for none, and for what is no JWT. Nothing is verified. */
function boundTo(accessToken: string): string | null {
  try {
    const { cnf } = decodeJwt<{ cnf?: { jkt?: unknown } }>(accessToken);
    return typeof cnf?.jkt === 'string' ? cnf.jkt : null;
  } catch {
    return null;
  }
}
