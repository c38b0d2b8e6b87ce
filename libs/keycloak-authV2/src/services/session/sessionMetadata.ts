/** A live session as a request is judged by it: no token, no cookie, nothing that only the account page shows. */
export interface Session {
  readonly id: string;
  readonly userId: string;
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
  readonly fingerprint: string | null;
  /** `realm:NAME` and `CLIENT:NAME`. */
  readonly roles: readonly string[];
  /** Raised by every write to the tokens. */
  readonly version: number;
}

/** A cached session, and when PostgreSQL last said that it is so. */
export interface CachedSession {
  readonly session: Session;
  readonly confirmedAt: Date;
}

const LAYOUT = 1;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const NULL_TEXT = 0xffff;
const UUID_TEXT = 0xfffe;
const NO_TIME = 0xffffffffffff;

/** Packs for the cache: times as 6-byte milliseconds, UUIDs as 16 bytes, everything else as length and UTF-8. */
export function packSession({ session, confirmedAt }: CachedSession): Buffer {
  const parts: Buffer[] = [Buffer.of(LAYOUT)];
  const time = (at: Date | null): void => {
    const bytes = Buffer.alloc(6);
    bytes.writeUIntBE(at ? at.getTime() : NO_TIME, 0, 6);
    parts.push(bytes);
  };
  const integer = (value: number): void => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    parts.push(bytes);
  };
  const text = (value: string | null): void => {
    const length = Buffer.alloc(2);
    if (value !== null && UUID.test(value)) {
      length.writeUInt16BE(UUID_TEXT);
      parts.push(length, Buffer.from(value.replaceAll('-', ''), 'hex'));
      return;
    }
    const bytes = Buffer.from(value ?? '', 'utf8');
    if (bytes.length >= UUID_TEXT) throw new RangeError('a session field is too long for the cache');
    length.writeUInt16BE(value === null ? NULL_TEXT : bytes.length);
    parts.push(length, bytes);
  };
  for (const at of [confirmedAt, session.createdAt, session.lastAccessedAt, session.expiresAt, session.tokenExpiresAt]) time(at);
  integer(session.version);
  integer(session.tokenLifetimeSeconds ?? 0xffffffff);
  for (const value of [session.id, session.userId, session.subject, session.sid, session.fingerprint]) text(value);
  for (const role of session.roles) text(role);
  return Buffer.concat(parts);
}

/** The session in a cached value, or null for anything that is not exactly one: what is cached is never trusted to be well-formed. */
export function unpackSession(packed: Buffer): CachedSession | null {
  try {
    return read(packed);
  } catch {
    // Reading past the end is how damage shows.
    return null;
  }
}

function read(packed: Buffer): CachedSession | null {
  if (packed[0] !== LAYOUT) return null;
  let at = 1;
  const time = (): Date | null => {
    const value = packed.readUIntBE(at, 6);
    at += 6;
    return value === NO_TIME ? null : new Date(value);
  };
  const integer = (): number => {
    const value = packed.readUInt32BE(at);
    at += 4;
    return value;
  };
  const text = (): string | null => {
    const length = packed.readUInt16BE(at);
    at += 2;
    if (length === NULL_TEXT) return null;
    const size = length === UUID_TEXT ? 16 : length;
    if (at + size > packed.length) throw new RangeError('cut short');
    const bytes = packed.subarray(at, (at += size));
    return length === UUID_TEXT ? bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-') : bytes.toString('utf8');
  };
  const [confirmedAt, createdAt, lastAccessedAt, expiresAt, tokenExpiresAt] = [time(), time(), time(), time(), time()];
  const [version, lifetime] = [integer(), integer()];
  const [id, userId, subject, sid, fingerprint] = [text(), text(), text(), text(), text()];
  const roles: string[] = [];
  while (at < packed.length) roles.push(text() ?? '');
  if (!confirmedAt || !createdAt || !lastAccessedAt || !expiresAt || !id || !userId || !subject) return null;
  if ([confirmedAt, createdAt, lastAccessedAt, expiresAt].some((d) => Number.isNaN(d.getTime()))) return null;
  const session: Session = {
    id, userId, subject, sid: sid ?? null, createdAt, lastAccessedAt, expiresAt, tokenExpiresAt: tokenExpiresAt ?? null,
    tokenLifetimeSeconds: lifetime === 0xffffffff ? null : (lifetime ?? null), fingerprint: fingerprint ?? null, roles, version: version ?? 0,
  };
  return { session, confirmedAt };
}
