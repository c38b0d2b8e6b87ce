import { sessionIdOfKey, uuidOf } from './cookieHash.js';

/** What the session's owner may see of it beyond what a request is judged by. */
export interface Profile {
  readonly preferredUsername: string | null;
  readonly email: string | null;
  readonly name: string | null;
}

/** A live session as a request is judged by it: no token, no cookie, nothing that only the account page shows. */
export interface Session {
  readonly id: string;
  /** The provider's `sub`. */
  readonly subject: string;
  /** The provider's session id, opaque, up to 255 characters. */
  readonly sid: string | null;
  readonly createdAt: Date;
  readonly lastAccessedAt: Date;
  /** The end whatever happens: absolute timeout, or earlier when the refresh token ends earlier. */
  readonly expiresAt: Date;
  /** When the access token ends; null when there is none. */
  readonly tokenExpiresAt: Date | null;
  /** The whole life of the current access token; null for a session from before it was kept. */
  readonly tokenLifetimeSeconds: number | null;
  /** The provider's own idle time, where that is shorter than the setting. */
  readonly idleTimeoutSeconds: number | null;
  readonly fingerprint: string | null;
  /** How the person was authenticated (`acr`), as far as the provider told. */
  readonly acr: string | null;
  /** `realm:NAME` and `CLIENT:NAME`. */
  readonly roles: readonly string[];
  /** Raised by every write to the tokens. */
  readonly version: number;
  /** Where this process has read the row: the shared cache does not hold it. */
  readonly profile?: Profile;
}

/** A cached session, and when PostgreSQL last said that it is so. */
export interface CachedSession {
  readonly session: Session;
  readonly confirmedAt: Date;
}

const LAYOUT = 6;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const HEX = /^(?:[0-9a-f]{2})+$/;
/**
 * How a text is written: not at all, as it is, as the 16 bytes of a UUID, as the bytes that it
 * is the base64url or hex of.
 */
const [NULL, PLAIN, AS_UUID, AS_BASE64URL, AS_HEX] = [0, 1, 2, 3, 4] as const;
const FORMS = 8;
const MAX_TEXT_BYTES = 65_535;
const MAX_SHARED = 255;

/**
 * Packs for the cache, where memory is what counts: times as milliseconds from each other, numbers in as many bytes as
 * they need, UUIDs and base64url as bytes, of a role only what differs from the role before, and no id that `key`,
 * under which it is kept, tells.
 */
export function packSession({ session, confirmedAt }: CachedSession, key: string): Buffer {
  const bytes: number[] = [LAYOUT];
  const number = (value: number): void => {
    for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
    bytes.push(value);
  };
  // The sign is the lowest bit.
  const since = (from: Date, at: Date, above = 0): void =>
    number(
      above +
        (at >= from
          ? (at.getTime() - from.getTime()) * 2
          : (from.getTime() - at.getTime()) * 2 - 1),
    );
  const bare = (value: Uint8Array, form: number, forms: number): void => {
    if (value.length > MAX_TEXT_BYTES)
      throw new RangeError('a session field is too long for the cache');
    number(value.length * forms + form);
    for (const byte of value) bytes.push(byte);
  };
  const text = (value: string | null): void => {
    if (value === null) return number(NULL);
    if (UUID.test(value))
      return void bytes.push(AS_UUID, ...Buffer.from(value.replaceAll('-', ''), 'hex'));
    if (HEX.test(value)) return bare(Buffer.from(value, 'hex'), AS_HEX, FORMS);
    const decoded = Buffer.from(value, 'base64url');
    if (decoded.toString('base64url') === value) return bare(decoded, AS_BASE64URL, FORMS);
    bare(Buffer.from(value, 'utf8'), PLAIN, FORMS);
  };
  since(new Date(0), session.createdAt);
  since(session.createdAt, session.lastAccessedAt);
  since(session.lastAccessedAt, confirmedAt);
  since(session.createdAt, session.expiresAt);
  if (session.tokenExpiresAt) since(confirmedAt, session.tokenExpiresAt, 1);
  else number(0);
  number(session.version);
  number(session.tokenLifetimeSeconds === null ? 0 : session.tokenLifetimeSeconds + 1);
  number(session.idleTimeoutSeconds ?? 0);
  const id = session.id === sessionIdOfKey(key) ? null : session.id;
  const { subject, sid, fingerprint, acr } = session;
  for (const value of [id, subject, sid, fingerprint, acr]) text(value);
  let before: Uint8Array = new Uint8Array();
  for (const role of session.roles) {
    const now = Buffer.from(role, 'utf8');
    let shared = 0;
    while (
      shared < Math.min(before.length, now.length, MAX_SHARED) &&
      before[shared] === now[shared]
    )
      shared++;
    number(shared);
    bare(now.subarray(shared), 0, 1);
    before = now;
  }
  return Buffer.from(bytes);
}

/**
 * The session in the value cached under `key`, or null for anything that is not exactly one: what is cached is never
 * trusted to be well-formed.
 */
export function unpackSession(packed: Buffer, key: string): CachedSession | null {
  try {
    return read(packed, key);
  } catch {
    // Reading past the end is how damage shows.
    return null;
  }
}

function read(packed: Buffer, key: string): CachedSession | null {
  if (packed[0] !== LAYOUT) return null;
  let at = 1;
  const number = (): number => {
    let [value, scale] = [0, 1];
    for (;;) {
      const byte = packed.readUInt8(at++);
      value += (byte % 128) * scale;
      if (byte < 128) break;
      scale *= 128;
    }
    if (!Number.isSafeInteger(value)) throw new RangeError('no number of ours');
    return value;
  };
  const since = (from: Date, distance = number()): Date => {
    const time = new Date(
      from.getTime() + (distance % 2 === 0 ? distance / 2 : -(distance + 1) / 2),
    );
    if (Number.isNaN(time.getTime())) throw new RangeError('no time');
    return time;
  };
  const bytes = (size: number): Buffer => {
    if (at + size > packed.length) throw new RangeError('cut short');
    return packed.subarray(at, (at += size));
  };
  const text = (): string | null => {
    const head = number();
    const size = Math.floor(head / FORMS);
    switch (head % FORMS) {
      case NULL:
        return null;
      case PLAIN:
        return bytes(size).toString('utf8');
      case AS_UUID:
        return uuidOf(bytes(16));
      case AS_BASE64URL:
        return bytes(size).toString('base64url');
      case AS_HEX:
        return bytes(size).toString('hex');
      default:
        throw new RangeError('no text of ours');
    }
  };
  const createdAt = since(new Date(0));
  const lastAccessedAt = since(createdAt);
  const confirmedAt = since(lastAccessedAt);
  const expiresAt = since(createdAt);
  const token = number();
  const tokenExpiresAt = token === 0 ? null : since(confirmedAt, token - 1);
  const version = number();
  const lifetime = number();
  const idle = number();
  const id = text() ?? sessionIdOfKey(key);
  const [subject, sid, fingerprint, acr] = [text(), text(), text(), text()];
  const roles: string[] = [];
  let before = Buffer.alloc(0);
  while (at < packed.length) {
    const shared = number();
    if (shared > before.length) throw new RangeError('no role of ours');
    before = Buffer.concat([before.subarray(0, shared), bytes(number())]);
    roles.push(before.toString('utf8'));
  }
  if (!id || !subject) return null;
  const session: Session = {
    id,
    subject,
    sid: sid ?? null,
    createdAt,
    lastAccessedAt,
    expiresAt,
    tokenExpiresAt,
    tokenLifetimeSeconds: lifetime === 0 ? null : lifetime - 1,
    idleTimeoutSeconds: idle === 0 ? null : idle,
    fingerprint: fingerprint ?? null,
    acr: acr ?? null,
    roles,
    version,
  };
  return { session, confirmedAt };
}
