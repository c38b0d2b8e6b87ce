import { createHash, createSecretKey, hkdfSync, type KeyObject, scryptSync } from 'node:crypto';
import { AuthError } from '../../errors.js';
import { prepareXaesKey, type XaesKey } from './xaes256gcm.js';

/** The keys a process can open tokens with; exactly one of them, the primary key, seals. */
export interface Keyring {
  readonly primary: string;
  readonly kids: readonly string[];
  /** Keys that open values and seal none. */
  readonly decryptOnly: ReadonlySet<string>;
  key(kid: string): XaesKey | undefined;
  /** 32 hex digits that name a key without telling it, so that two keys under one id can be told apart. */
  fingerprint(kid: string): string | undefined;
  /** The key that authenticates entries of the shared cache: derived from the token key, and of no use for tokens. */
  cacheKey(kid: string): KeyObject | undefined;
  /** Names all keys together, that of the plan's format included: other keys, another text. */
  readonly digest: string;
  /** The key of the plan's format, when `SESSION_TOKEN_ENCRYPTION_KEY` is known: AES-256-GCM, read only. */
  readonly planKey: KeyObject | undefined;
  /**
   * The id under which the same key text seals: where that key is right, so is `planKey`. Null when
   * the keyring has no such key.
   */
  readonly planKid: string | null;
}

const KID = /^[a-z0-9]{1,16}$/;
export const MIN_KEY_TEXT_LENGTH = 32;

/**
 * The keyring of a deployment: the JSON keyring when there is one, else the single key `k1` derived from the plan's key
 * text by HKDF-SHA-256 (RFC 5869). scrypt (RFC 7914) runs here, once per process, never per token.
 * @throws AuthError `keyring_invalid`, whose message names what is wrong and never a key.
 */
export function createKeyring(source: {
  keyText?: string | undefined;
  keyringJson?: string | undefined;
}): Keyring {
  const { keyText, keyringJson } = source;
  if (keyText !== undefined && keyText.length < MIN_KEY_TEXT_LENGTH) {
    throw invalid(`the key text is shorter than ${MIN_KEY_TEXT_LENGTH} characters`);
  }
  const planBytes = keyText === undefined ? undefined : planBytesOf(keyText);
  const planKey = planBytes && createSecretKey(planBytes);
  const k1 = planBytes && k1Of(planBytes);
  if (keyringJson !== undefined) return keyringOf(parseKeyring(keyringJson), planKey, k1);
  if (!k1) throw invalid('there is neither a keyring nor a key text');
  return keyringOf(
    { primary: 'k1', keys: new Map([['k1', k1]]), decryptOnly: new Set() },
    planKey,
    k1,
  );
}

interface ParsedKeyring {
  primary: string;
  keys: Map<string, Buffer>;
  decryptOnly: Set<string>;
}

function keyringOf(
  { primary, keys, decryptOnly }: ParsedKeyring,
  planKey: KeyObject | undefined,
  k1: Buffer | undefined,
): Keyring {
  const prepared = new Map(
    [...keys].map(([kid, bytes]) => [kid, prepareXaesKey(createSecretKey(bytes))]),
  );
  const cacheKeys = new Map([...keys].map(([kid, bytes]) => [kid, cacheKeyOf(bytes)]));
  const fingerprints = new Map([...keys].map(([kid, bytes]) => [kid, fingerprintOf(bytes)]));
  const digest = createHash('sha256')
    .update(JSON.stringify([planKey && fingerprintOf(planKey), ...[...fingerprints].sort()]))
    .digest('base64url');
  return {
    primary,
    kids: [...prepared.keys()],
    decryptOnly,
    key: (kid) => prepared.get(kid),
    fingerprint: (kid) => fingerprints.get(kid),
    cacheKey: (kid) => cacheKeys.get(kid),
    digest,
    planKey,
    planKid: k1 && keys.get('k1')?.equals(k1) ? 'k1' : null,
  };
}

const fingerprintOf = (key: Buffer | KeyObject): string =>
  Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), 'session-token/fingerprint', 16)).toString(
    'hex',
  );

const cacheKeyOf = (key: Buffer): KeyObject =>
  createSecretKey(Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), 'session-cache/v1', 32)));

/** A keyring that can be replaced while it is in use: each seal and each open sees one keyring or the other, whole. */
export interface ReloadableKeyring extends Keyring {
  replace(next: Keyring): void;
}

export function reloadable(initial: Keyring): ReloadableKeyring {
  let now = initial;
  return {
    get primary() {
      return now.primary;
    },
    get kids() {
      return now.kids;
    },
    get decryptOnly() {
      return now.decryptOnly;
    },
    get planKey() {
      return now.planKey;
    },
    get planKid() {
      return now.planKid;
    },
    get digest() {
      return now.digest;
    },
    key: (kid) => now.key(kid),
    fingerprint: (kid) => now.fingerprint(kid),
    cacheKey: (kid) => now.cacheKey(kid),
    replace(next) {
      now = next;
    },
  };
}

/** The 32 bytes of `k1`, the key that a key text alone makes. */
export function keyOfText(keyText: string): Buffer {
  return k1Of(planBytesOf(keyText));
}

/**
 * What scrypt made of the last key text: the keyring is read twice at a start and again at each reload,
 * in the midst of requests.
 */
let lastPlan: { readonly keyText: string; readonly bytes: Buffer } | undefined;

function planBytesOf(keyText: string): Buffer {
  if (lastPlan?.keyText !== keyText)
    lastPlan = { keyText, bytes: scryptSync(keyText, 'session-tokens-salt', 32) };
  return lastPlan.bytes;
}

const k1Of = (planBytes: Buffer): Buffer =>
  Buffer.from(hkdfSync('sha256', planBytes, Buffer.alloc(0), 'session-token/v2/k1', 32));

function parseKeyring(json: string): ParsedKeyring {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    // The parser's own message may quote the text, and so a key.
    throw invalid('it is not valid JSON');
  }
  if (
    !isRecord(parsed) ||
    typeof parsed['primary'] !== 'string' ||
    !Array.isArray(parsed['keys'])
  ) {
    throw invalid('it must be { "primary": "<kid>", "keys": [ { "kid", "key", "status"? } ] }');
  }
  const keys = new Map<string, Buffer>();
  const seen = new Set<string>();
  const decryptOnly = new Set<string>();
  for (const [index, entry] of (parsed['keys'] as unknown[]).entries()) {
    const where = `key number ${index + 1}`;
    if (!isRecord(entry) || typeof entry['kid'] !== 'string' || !KID.test(entry['kid'])) {
      throw invalid(`${where} needs a "kid" of 1 to 16 characters a-z and 0-9`);
    }
    const {
      kid,
      key,
      status = 'active',
    } = entry as { kid: string; key?: unknown; status?: unknown };
    if (keys.has(kid)) throw invalid(`the kid ${kid} stands there twice`);
    const bytes = typeof key === 'string' ? Buffer.from(key, 'base64url') : Buffer.alloc(0);
    if (bytes.length !== 32 || bytes.toString('base64url') !== (key as string).replace(/=$/, '')) {
      throw invalid(`the key of ${kid} is not 32 bytes in base64url`);
    }
    if (seen.has(bytes.toString('hex')))
      throw invalid(`the key of ${kid} stands there twice, under another kid too`);
    if (new Set(bytes).size < 8)
      throw invalid(`the key of ${kid} is not random: generate one with 32 random bytes`);
    if (status !== 'active' && status !== 'decrypt-only')
      throw invalid(`the status of ${kid} is neither "active" nor "decrypt-only"`);
    if (status === 'decrypt-only') decryptOnly.add(kid);
    seen.add(bytes.toString('hex'));
    keys.set(kid, bytes);
  }
  const { primary } = parsed as { primary: string };
  if (!keys.has(primary)) throw invalid('the primary names no key of the keyring');
  if (decryptOnly.has(primary)) throw invalid('the primary key is decrypt-only');
  return { primary, keys, decryptOnly };
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const invalid = (what: string): AuthError => new AuthError('keyring_invalid', what);
