import {
  AuthError,
  isAuthError,
  type Keyring,
  type StoredClass,
  TokenEncryption,
} from '@session-gateway/keycloak-auth';
import type { Quarantined } from './quarantine.js';
import type { Counters } from './runs.js';
import type { TokenRow, TokenWrite } from './tokenTable.js';

/** A value under a key that this process does not have. The run stops, and goes on once it has the key. */
export class UnknownKidError extends Error {
  override readonly name = 'UnknownKidError';
}

/** What is to be done with a batch. */
export interface Judged {
  readonly writes: TokenWrite[];
  readonly quarantined: Quarantined[];
  /** Of each row to be written, the classes of the values that are replaced. */
  readonly before: Map<string, StoredClass[]>;
  readonly met: Met;
}

/** Values by column and by class or key id, and bytes; `written`: of new values alone. */
export interface Met {
  readonly byColumn: Record<string, Record<string, number>>;
  readonly bytes: { before: number; after: number; written: number };
}

/** Decides about stored values and makes the new ones, in memory. */
export class Judge {
  /** Of all batches that were counted. */
  readonly met: Met;
  readonly #encryption: TokenEncryption;

  constructor(
    private readonly on: {
      readonly keyring: Keyring;
      /** A key id, or `plain`. */
      readonly target: string;
      readonly columns: readonly string[];
      /** How many characters each column takes at most. */
      readonly maxLengths: readonly (number | null)[];
      /** As sealed values are bound to it. */
      readonly tableName: string;
    },
  ) {
    this.#encryption = new TokenEncryption({ keyring: on.keyring, readPolicy: 'all' });
    this.met = this.#nothing();
  }

  /** A batch that is read ahead may be judged and never written: whoever is through with one counts it. */
  count({ byColumn, bytes }: Met): void {
    for (const [column, counts] of Object.entries(byColumn))
      for (const [label, number] of Object.entries(counts))
        add(this.met.byColumn, column, label, number);
    for (const kind of ['before', 'after', 'written'] as const) this.met.bytes[kind] += bytes[kind];
  }

  /**
   * Every new value is opened and compared before it counts.
   * @throws UnknownKidError with `stopAtUnknownKid`; without it such a value counts as one that does not open
   */
  judge(
    batch: readonly TokenRow[],
    counters: Counters,
    { firstSweep, stopAtUnknownKid }: { firstSweep: boolean; stopAtUnknownKid: boolean },
  ): Judged {
    const { columns, maxLengths, target, keyring, tableName } = this.on;
    const writes: TokenWrite[] = [];
    const quarantined: Quarantined[] = [];
    const before = new Map<string, StoredClass[]>();
    const met = this.#nothing();
    for (const row of batch) {
      let wanted = false;
      const classes: StoredClass[] = [];
      const values = columns.map((column, index) => {
        const stored = row.values[index] ?? null;
        const storedClass = TokenEncryption.classify(stored);
        if (stored === null || storedClass === 'empty') return null;
        counters.values += 1;
        const kid = storedClass === 'v2' ? stored.slice(3, stored.indexOf('.', 3)) : null;
        add(met.byColumn, column, kid === null ? storedClass : `v2 ${kid}`, 1);
        const current = target === 'plain' ? storedClass === 'plain' : kid === target;
        if (kid !== null && !keyring.key(kid) && stopAtUnknownKid)
          throw this.unknownKid(kid, column, row.id);
        if (!current && storedClass !== 'malformed')
          counters.remaining[remainder(storedClass)] += 1;
        const location = { table: tableName, column, rowId: row.id };
        try {
          const token = this.#encryption.open(stored, location);
          const storedBytes = Buffer.byteLength(stored);
          met.bytes.before += storedBytes;
          if (current) {
            if (firstSweep) counters.alreadyCurrent += 1;
            met.bytes.after += storedBytes;
            return null;
          }
          if (token === '')
            throw new AuthError('token_unreadable', 'a sealed value holds an empty token', {
              reason: 'empty',
            });
          const replacement =
            target === 'plain' ? asPlain(token) : this.#encryption.seal(token, location, target);
          if (this.#encryption.open(replacement, location) !== token)
            throw new Error('a value that was just sealed does not open');
          if (replacement.length > (maxLengths[index] ?? Infinity))
            throw new AuthError('token_unreadable', 'a column is too short for the new value', {
              reason: 'too_long',
            });
          const newBytes = Buffer.byteLength(replacement);
          met.bytes.after += newBytes;
          met.bytes.written += newBytes;
          wanted = true;
          classes.push(storedClass);
          return replacement;
        } catch (error) {
          if (!isAuthError(error, 'token_unreadable')) throw error;
          quarantined.push({ column, rowId: row.id, reason: error.reason ?? 'unreadable' });
          return null;
        }
      });
      if (wanted) {
        writes.push({ id: row.id, version: row.version, values });
        before.set(row.id, classes);
      }
    }
    return { writes, quarantined, before, met };
  }

  /** Why a value does not open in its place; null when it does. */
  openFault(value: string, column: string, rowId: string): string | null {
    try {
      this.#encryption.open(value, { table: this.on.tableName, column, rowId });
      return null;
    } catch (error) {
      if (isAuthError(error, 'token_unreadable')) return error.reason ?? 'unreadable';
      throw error;
    }
  }

  unknownKid(kid: string, column: string, rowId: string): UnknownKidError {
    return new UnknownKidError(
      `${this.on.tableName}.${column} of row ${rowId} is sealed under the key ${kid}, which is not in the keyring: add it (decrypt-only will do) and start again`,
    );
  }

  #nothing(): Met {
    return {
      byColumn: Object.fromEntries(this.on.columns.map((column) => [column, {}])),
      bytes: { before: 0, after: 0, written: 0 },
    };
  }
}

function add(byColumn: Met['byColumn'], column: string, label: string, number: number): void {
  const counts = byColumn[column];
  if (counts) counts[label] = (counts[label] ?? 0) + number;
}

/** A token that would be read back as something else must not be written in the clear. */
function asPlain(token: string): string {
  if (TokenEncryption.classify(token) !== 'plain')
    throw new AuthError('token_unreadable', 'a token looks like a sealed value', {
      reason: 'looks_sealed',
    });
  if (token.includes('\0'))
    throw new AuthError('token_unreadable', 'PostgreSQL stores no text with a NUL character', {
      reason: 'not_storable',
    });
  return token;
}

/** Where a value that is not current is counted. */
export function remainder(storedClass: StoredClass): keyof Counters['remaining'] {
  if (storedClass === 'plan') return 'plan';
  return storedClass === 'v2' ? 'otherKid' : 'plain';
}
