import { createPrivateKey, type KeyObject } from 'node:crypto';

/** A private key to sign with, and what it can sign, the usual first. */
export interface SigningKey {
  readonly key: KeyObject;
  readonly algorithms: readonly [string, ...string[]];
}

/** Names of what a client may sign with (RFC 7518 §3.1, RFC 8037, RFC 9864). */
export const CLIENT_ALGORITHMS = [
  'RS256',
  'PS256',
  'RS384',
  'PS384',
  'RS512',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
] as const;

const RSA: SigningKey['algorithms'] = ['RS256', 'PS256', 'RS384', 'PS384', 'RS512', 'PS512'];
/** One signature under two names: the older is the one that providers know. */
const ED25519: SigningKey['algorithms'] = ['EdDSA', 'Ed25519'];
const EC: Readonly<Record<string, SigningKey['algorithms']>> = {
  prime256v1: ['ES256'],
  secp384r1: ['ES384'],
  secp521r1: ['ES512'],
};

/**
 * The private key in a PEM (PKCS #1, SEC 1 or PKCS #8): RSA, EC on a NIST curve, or Ed25519; null for anything else.
 */
export function signingKey(pem: string): SigningKey | null {
  try {
    const key = createPrivateKey(pem);
    const algorithms = algorithmsOf(key);
    return algorithms === undefined ? null : { key, algorithms };
  } catch {
    return null;
  }
}

function algorithmsOf(key: KeyObject): SigningKey['algorithms'] | undefined {
  switch (key.asymmetricKeyType) {
    case 'rsa':
      return RSA;
    case 'ed25519':
      return ED25519;
    default:
      return EC[key.asymmetricKeyDetails?.namedCurve ?? ''];
  }
}

/** Whether a PEM is a private key to sign with. */
export const isSigningKey = (pem: string): boolean => signingKey(pem) !== null;

/** Whether one of the private keys in a PEM can sign with an algorithm. */
export const canSignWith = (pem: string, algorithm: string): boolean =>
  privateKeys(pem).some((one) => signingKey(one)?.algorithms.includes(algorithm) ?? false);

const PEM = /-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----/g;

/** Each of the keys in a PEM. */
export const privateKeys = (pem: string): string[] => pem.match(PEM) ?? [];

/**
 * What a key signs with: as it is told, where it can, else the first that the provider lists, else the usual.
 * `supported` is undefined where the provider lists none.
 */
export function chooseAlgorithm(
  { algorithms }: SigningKey,
  { wanted, supported }: { wanted?: string | undefined; supported?: readonly string[] | undefined },
): string {
  if (wanted !== undefined && algorithms.includes(wanted)) return wanted;
  return algorithms.find((name) => supported?.includes(name)) ?? algorithms[0];
}
