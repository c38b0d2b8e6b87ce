import { createHash, createPublicKey, randomUUID } from 'node:crypto';
import { keepNewest } from '@session-gateway/database';
import {
  calculateJwkThumbprint,
  type CryptoKey,
  decodeJwt,
  importJWK,
  type JWK,
  SignJWT,
} from 'jose';
import { chooseAlgorithm, privateKeys, type SigningKey, signingKey } from './signingKey.js';

/** Nonces that resource servers want in their proofs; one for each, so this many servers. */
const MAX_NONCES = 100;

interface Key {
  readonly signing: SigningKey;
  readonly thumbprint: string;
  readonly publicJwk: JWK;
  readonly pair: KeyPair;
}

interface KeyPair {
  readonly algorithm: string;
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
}

/**
 * Keys that access tokens are bound to (RFC 9449): whoever takes such a token away cannot use it without its key, which
 * never leaves the process. New tokens are bound to the first; the others are on their way in or out, so that all
 * instances can use every token while the key is changed.
 */
export class DpopKeys {
  readonly #keys: Map<string, Key>;
  readonly #first: string;
  readonly #wanted: string | undefined;
  readonly #nonces = new Map<string, string>();

  private constructor(keys: readonly [Key, ...Key[]], wanted: string | undefined) {
    this.#first = keys[0].thumbprint;
    this.#keys = new Map(keys.map((key) => [key.thumbprint, key]));
    this.#wanted = wanted;
  }

  /**
   * `algorithm`: what the keys sign with, where they can.
   * @throws TypeError when there is no private key to sign with, which the configuration has ruled out
   */
  static async from(pem: string, algorithm?: string): Promise<DpopKeys> {
    const [first, ...others] = await Promise.all(
      privateKeys(pem).map((one) => importKey(one, algorithm)),
    );
    if (first === undefined) throw new TypeError('there is no DPoP key');
    return new DpopKeys([first, ...others], algorithm);
  }

  /** Signs with what the provider lists in `dpop_signing_alg_values_supported` from now on (RFC 9449 §5.1). */
  async useSupported(supported: readonly string[] | undefined): Promise<void> {
    for (const [thumbprint, key] of this.#keys) {
      const algorithm = chooseAlgorithm(key.signing, { wanted: this.#wanted, supported });
      if (algorithm !== key.pair.algorithm)
        this.#keys.set(thumbprint, { ...key, pair: await importPair(key.signing, algorithm) });
    }
  }

  /** The first key's JWK SHA-256 thumbprint (RFC 7638), as tokens name it in `cnf.jkt`. */
  get thumbprint(): string {
    return this.#first;
  }

  /** The first key, and the `alg` of its proofs. */
  get keyPair(): { privateKey: CryptoKey; publicKey: CryptoKey; algorithm: string } {
    return this.#key(this.#first).pair;
  }

  /** Whether an access token is bound to one of these keys (`ours`), to another one (`another`), or to none. */
  binding(accessToken: string): 'ours' | 'another' | 'none' {
    const { thumbprint } = credentialOf(accessToken);
    if (thumbprint === null) return 'none';
    return this.#keys.has(thumbprint) ? 'ours' : 'another';
  }

  /**
   * A proof for one request with a token that is `ours` (§4.2), with the server's latest nonce. `url` counts
   * without query and fragment.
   */
  async proof(method: string, url: URL, accessToken: string): Promise<string> {
    const { token, thumbprint } = credentialOf(accessToken);
    const { pair, publicJwk } = this.#key(thumbprint);
    const nonce = this.#nonces.get(url.origin);
    return new SignJWT({
      jti: randomUUID(),
      htm: method,
      htu: url.origin + url.pathname,
      ath: createHash('sha256').update(token).digest('base64url'),
      ...(nonce === undefined ? {} : { nonce }),
    })
      .setProtectedHeader({ typ: 'dpop+jwt', alg: pair.algorithm, jwk: publicJwk })
      .setIssuedAt()
      .sign(pair.privateKey);
  }

  /** Keeps the nonce that a resource server gave with an answer (§8.2, §9). */
  useNonce(origin: string, nonce: string): void {
    keepNewest(this.#nonces, origin, nonce, MAX_NONCES);
  }

  #key(thumbprint: string | null): Key {
    const key = this.#keys.get(thumbprint ?? '') ?? this.#keys.get(this.#first);
    if (key === undefined) throw new TypeError('there is no DPoP key');
    return key;
  }
}

/** Whether a PEM holds private keys to sign with, one or more, and no other. */
export function areDpopKeys(pem: string): boolean {
  const keys = privateKeys(pem);
  return keys.length > 0 && keys.every((key) => signingKey(key) !== null);
}

async function importKey(pem: string, wanted: string | undefined): Promise<Key> {
  const signing = signingKey(pem);
  if (signing === null) throw new TypeError('a DPoP key is no private key to sign with');
  const publicJwk = createPublicKey(signing.key).export({ format: 'jwk' }) as JWK;
  const [thumbprint, pair] = await Promise.all([
    calculateJwkThumbprint(publicJwk),
    importPair(signing, chooseAlgorithm(signing, { wanted })),
  ]);
  return { signing, thumbprint, publicJwk, pair };
}

async function importPair({ key }: SigningKey, algorithm: string): Promise<KeyPair> {
  const [privateKey, publicKey] = await Promise.all([
    importJWK(key.export({ format: 'jwk' }) as JWK, algorithm),
    importJWK(createPublicKey(key).export({ format: 'jwk' }) as JWK, algorithm, {
      extractable: true,
    }),
  ]);
  return {
    algorithm,
    privateKey: privateKey as CryptoKey,
    publicKey: publicKey as CryptoKey,
  };
}

const BOUND = /^DPoP ([A-Za-z0-9_-]{43}) (.+)$/s;

/**
 * An access token as it is kept. One of type DPoP that does not name its key itself, since it is opaque, is
 * kept with its key's thumbprint before it: the two belong together in storage too. No access token has a
 * blank in it (RFC 6750 §2.1).
 */
export function keptToken(token: string, type: string, thumbprint: string | undefined): string {
  return type === 'dpop' && thumbprint !== undefined && boundTo(token) === null
    ? `DPoP ${thumbprint} ${token}`
    : token;
}

/** The token in what is kept, and the thumbprint of the key that it is bound to; null: to none. Nothing is verified. */
export function credentialOf(kept: string): { token: string; thumbprint: string | null } {
  const [, thumbprint, token] = BOUND.exec(kept) ?? [];
  return thumbprint !== undefined && token !== undefined
    ? { token, thumbprint }
    : { token: kept, thumbprint: boundTo(kept) };
}

/** The claim's name, plainly or with its letters as escapes. */
const MAY_BE_BOUND = /"cnf"|\\u/;

/** The thumbprint of the key that a JWT is bound to; null for none, and for what is no JWT. */
function boundTo(accessToken: string): string | null {
  // Asked of every token that goes up, most of which are bound to no key: decoding one whole costs several times more.
  const [, payload = ''] = accessToken.split('.', 2);
  if (!MAY_BE_BOUND.test(Buffer.from(payload, 'base64url').toString('latin1'))) return null;
  try {
    const { cnf } = decodeJwt<{ cnf?: { jkt?: unknown } }>(accessToken);
    return typeof cnf?.jkt === 'string' ? cnf.jkt : null;
  } catch {
    return null;
  }
}
