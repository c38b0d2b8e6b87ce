import type { Database } from '@session-gateway/database';
import {
  isAuthError,
  type Keyring,
  knownKeys,
  type StoredClass,
  TokenEncryption,
  type UnreadableReason,
} from '@session-gateway/keycloak-auth';
import { openTokenTable, TableError, type TokenTable } from './tokenTable.js';

export interface InspectOptions {
  readonly table: string;
  readonly idColumn: string;
  readonly column: string;
  readonly id: string;
  /** A value to look at instead of the stored one. */
  readonly value: string | null;
}

/** What one stored value is. Never the token, nor any part of it. */
export interface Inspection {
  readonly format: StoredClass;
  readonly kid: string | null;
  readonly characters: number;
  /** Of the token inside, when the value has the form for one. */
  readonly tokenBytes: number | null;
  /** Null when there is nothing to open. */
  readonly opens: boolean | null;
  /** What is wrong when it does not open. */
  readonly wrong: 'key' | 'row' | 'bytes' | 'key or bytes' | null;
  readonly explanation: string;
  readonly lines: readonly string[];
}

const USUAL_COLUMNS = ['access_token', 'refresh_token', 'id_token'];
/** How many rows are tried as the one that a value was sealed for. */
const SEARCH_ROWS = 200_000;
const PAGE_ROWS = 20_000;
const SAMPLE = 20;

/** @throws TableError when there is no such table, column or row */
export async function inspect(
  options: InspectOptions,
  db: Database,
  keyring: Keyring,
): Promise<Inspection> {
  const { column, id } = options;
  const columns =
    options.table === 'user_sessions' && USUAL_COLUMNS.includes(column) ? USUAL_COLUMNS : [column];
  const table = await openTokenTable(db.sql, {
    table: options.table,
    idColumn: options.idColumn,
    columns,
  });
  const stored = options.value ?? (await readValue(table, db, options));
  const format = TokenEncryption.classify(stored);
  const encryption = new TokenEncryption({ keyring, readPolicy: 'all' });
  const facts = {
    format,
    kid: stored === null ? null : TokenEncryption.kidOf(stored),
    characters: stored?.length ?? 0,
    tokenBytes: tokenBytes(format, stored),
  };
  const say = (
    opens: boolean | null,
    wrong: Inspection['wrong'],
    explanation: string,
  ): Inspection => ({
    ...facts,
    opens,
    wrong,
    explanation,
    lines: describe(options, { ...facts, opens, wrong, explanation }),
  });

  if (stored === null || format === 'empty') return say(null, null, 'there is no value');
  if (format === 'plain')
    return say(
      true,
      null,
      'it is in plaintext: anybody who reads the database can use it; encrypt it with `nx run migrations:encrypt-tokens -- --execute`',
    );
  if (format === 'malformed')
    return say(
      false,
      'bytes',
      'it begins like a v2 value and is none: characters are missing, added or changed',
    );
  const reason = reasonOf(encryption, stored, { table: table.name, column, rowId: id });
  if (reason === null)
    return say(
      true,
      null,
      format === 'plan'
        ? 'it has the older format, which is bound to no row'
        : 'it is whole, in its own place, and under a key that is there',
    );
  if (reason === 'too_large') return say(false, 'bytes', 'it is larger than any token');
  if (reason === 'not_text')
    return say(false, 'bytes', 'it is authentic, but what was sealed is no text');

  if (format === 'plan') {
    if (reason === 'no_plan_key')
      return say(
        false,
        'key',
        'it has the older format, and SESSION_TOKEN_ENCRYPTION_KEY, which opens that, is not set',
      );
    const others = await othersOpen(table, db, encryption, column, 'plan', null);
    return others
      ? say(
          false,
          'bytes',
          "other values of the older format open with this key: this one's bytes were changed",
        )
      : say(
          false,
          'key or bytes',
          'it has the older format, and no other value of it opens with this SESSION_TOKEN_ENCRYPTION_KEY either: most likely it is another key',
        );
  }

  const { kid } = facts;
  const known =
    kid === null
      ? undefined
      : (await knownKeys(db.sql).catch(() => [])).find((key) => key.kid === kid);
  if (kid === null || reason === 'unknown_kid')
    return say(
      false,
      'key',
      `the key ${kid ?? ''} is not in the keyring${known ? '; the database has known it' : ', and this database has never known it'}`,
    );
  if (known && known.fingerprint !== keyring.fingerprint(kid))
    return say(
      false,
      'key',
      `the key under the id ${kid} in this keyring is another one than the one that this database knows`,
    );
  const { home, everyRow } = await findHome(table, columns, db, encryption, stored, options);
  if (home)
    return say(
      false,
      'row',
      `it was sealed for ${home.column} of row ${home.id}: somebody, or some program, has moved it here`,
    );
  if (known || (await othersOpen(table, db, encryption, column, 'v2', kid))) {
    return say(
      false,
      'bytes',
      `the key is the right one and ${everyRow ? 'no row of this table' : `none of the first ${SEARCH_ROWS} rows`} is its home: its bytes were changed, or the row that it was sealed for is gone`,
    );
  }
  return say(
    false,
    'key or bytes',
    `nothing else here is sealed under ${kid}, so that the key cannot be judged`,
  );
}

async function readValue(
  table: TokenTable,
  db: Database,
  { column, id, table: name }: InspectOptions,
): Promise<string | null> {
  const [row] = await table.values(db.sql, column, [id]);
  if (row) return row.value;
  if ((await table.ids(db.sql, null, 1, id)).length === 0)
    throw new TableError(`${name} has no row ${id}`);
  return null;
}

function reasonOf(
  encryption: TokenEncryption,
  stored: string,
  at: { table: string; column: string; rowId: string },
): UnreadableReason | null {
  try {
    encryption.open(stored, at);
    return null;
  } catch (error) {
    if (isAuthError(error, 'token_unreadable')) return error.reason as UnreadableReason;
    throw error;
  }
}

/** The place that a value opens in: another column of its row first, then every row. */
async function findHome(
  table: TokenTable,
  columns: readonly string[],
  db: Database,
  encryption: TokenEncryption,
  stored: string,
  { column, id }: InspectOptions,
): Promise<{ home: { column: string; id: string } | null; everyRow: boolean }> {
  const opensAt = (at: string, rowId: string): boolean =>
    reasonOf(encryption, stored, { table: table.name, column: at, rowId }) === null;
  const sameRow = columns.find((other) => other !== column && opensAt(other, id));
  if (sameRow) return { home: { column: sameRow, id }, everyRow: false };
  let after: string | null = null;
  for (let tried = 0; tried < SEARCH_ROWS; tried += PAGE_ROWS) {
    const page: string[] = await table.ids(db.sql, after, PAGE_ROWS);
    for (const rowId of page) {
      const at = columns.find((each) => opensAt(each, rowId));
      if (at !== undefined) return { home: { column: at, id: rowId }, everyRow: false };
    }
    after = page.at(-1) ?? null;
    if (after === null) return { home: null, everyRow: true };
  }
  return { home: null, everyRow: false };
}

/** Whether any of a few other values of the same kind opens: then the key is the right one. */
async function othersOpen(
  table: TokenTable,
  db: Database,
  encryption: TokenEncryption,
  column: string,
  format: 'v2' | 'plan',
  kid: string | null,
): Promise<boolean> {
  const opens = (at: string, { id, value }: { id: string; value: string }): boolean =>
    TokenEncryption.classify(value) === format &&
    reasonOf(encryption, value, { table: table.name, column: at, rowId: id }) === null;
  for (let after: string | null = null; ;) {
    const page: Awaited<ReturnType<TokenTable['survey']>> = await table.survey(
      db.sql,
      after,
      PAGE_ROWS,
    );
    for (const candidates of page.found) {
      if (candidates.kid !== kid) continue;
      const sample = candidates.ids.slice(0, SAMPLE);
      const values = await table.values(db.sql, candidates.column, sample);
      if (values.some((each) => opens(candidates.column, each))) return true;
    }
    if (page.last === null) return false;
    after = page.last;
  }
}

function tokenBytes(format: StoredClass, stored: string | null): number | null {
  if (stored === null) return null;
  if (format === 'v2')
    return Buffer.from(stored.slice(stored.lastIndexOf('.') + 1), 'base64url').length - 40;
  if (format === 'plan') return (stored.length - stored.lastIndexOf(':') - 1) / 2;
  return format === 'plain' ? Buffer.byteLength(stored) : null;
}

const FORMATS: Readonly<Record<StoredClass, string>> = {
  v2: 'v2',
  plan: 'the older one, iv:tag:ciphertext',
  plain: 'plaintext',
  malformed: 'none: it claims to be v2',
  empty: 'no value',
};

function describe(
  { table, column, id, value }: InspectOptions,
  {
    format,
    kid,
    characters,
    tokenBytes: bytes,
    opens,
    wrong,
    explanation,
  }: Omit<Inspection, 'lines'>,
): string[] {
  const opened = opens ? 'yes' : 'no';
  return [
    `${column} of row ${id} in ${table}${value === null ? '' : ' (a value given, not the stored one)'}`,
    `  format   ${FORMATS[format]}`,
    ...(kid === null ? [] : [`  key id   ${kid}`]),
    `  size     ${characters} characters${bytes === null || format === 'plain' ? '' : `, a token of ${bytes} bytes`}`,
    `  opens    ${opens === null ? '-' : opened}`,
    ...(wrong === null ? [] : [`  wrong    ${wrong}`]),
    `  ${explanation}`,
  ];
}
