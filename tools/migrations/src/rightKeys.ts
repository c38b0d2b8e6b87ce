import type { Sql } from '@session-gateway/database';
import { type Keyring, TokenEncryption } from '@session-gateway/keycloak-auth';
import type { Judge } from './judge.js';
import type { Patience } from './patience.js';
import { knownUnreadable } from './quarantine.js';
import type { TokenTable } from './tokenTable.js';

/** Few enough to be looked at within the bounds of a statement, where each value must be fetched for its beginning. */
const SURVEY_ROWS = 4_000;
/** So many pages take seconds on a busy database. */
const PAGES_PER_NOTE = 100;

/** A key that the values say is missing or wrong: nothing was written. */
export class KeyError extends Error {
  override readonly name = 'KeyError';
}

/**
 * A wrong key must not seal anything: of each kind of sealed value that is there, one of a sample has to open. Values
 * that are in quarantine already say nothing about a key, and a damaged one nothing about a key that is known to be
 * right: one of `confirmed`, or that of the older format beside values which the same key text has opened. False when
 * the job is to stop. Of a large table it notes how far it is.
 * @throws KeyError when none of a sample opens; UnknownKidError
 */
export async function requireRightKeys(
  table: TokenTable,
  {
    keyring,
    judge,
    patience,
    books,
    confirmed,
    note,
  }: {
    keyring: Keyring;
    judge: Judge;
    patience: Patience;
    books: boolean;
    confirmed: readonly string[];
    note: (line: string) => void;
  },
): Promise<boolean> {
  const sample = (sql: Sql, column: string, ids: readonly string[]) =>
    sampleOf(sql, table, column, ids, books);
  const opened = new Set<string>();
  const faults = new Map<string, string>();
  for (let [after, pages]: [string | null, number] = [null, 0]; ; pages++) {
    const from: string | null = after;
    const page: Awaited<ReturnType<TokenTable['survey']>> | null = await patience.patiently(() =>
      patience.bounded((sql) => table.survey(sql, from, SURVEY_ROWS)),
    );
    if (page === null) return false;
    for (const { column, kid, ids } of page.found) {
      const kind = kid ?? '';
      if (opened.has(kind)) continue;
      const values = await patience.patiently(() =>
        patience.bounded((sql) => sample(sql, column, ids)),
      );
      if (values === null) return false;
      const fault = faultOf(values, kid, column, keyring, judge);
      if (fault === null) opened.add(kind);
      else if (fault !== undefined) faults.set(kind, fault);
    }
    if (page.last === null) break;
    if (pages === 1) note('looking which keys the values are under, before anything is written');
    else if (pages > 0 && pages % PAGES_PER_NOTE === 0)
      note(`${pages * SURVEY_ROWS} rows looked at`);
    after = page.last;
  }
  const right = new Set([...opened, ...confirmed]);
  if (keyring.planKid !== null && opened.has(keyring.planKid)) right.add('');
  for (const [kind, fault] of faults) if (!right.has(kind)) throw wrongKey(kind, fault);
  return true;
}

/** Why none of the values under a key opens; null as soon as one does, undefined when none is under it. */
function faultOf(
  values: Awaited<ReturnType<typeof sampleOf>>,
  kid: string | null,
  column: string,
  keyring: Keyring,
  judge: Judge,
): string | null | undefined {
  let fault: string | null | undefined;
  for (const { id, value } of values) {
    const isUnder =
      kid === null
        ? TokenEncryption.classify(value) === 'plan'
        : TokenEncryption.kidOf(value) === kid;
    if (!isUnder) continue;
    if (kid !== null && !keyring.key(kid)) throw judge.unknownKid(kid, column, id);
    fault = judge.openFault(value, column, id);
    if (fault === null) return null;
  }
  return fault;
}

async function sampleOf(
  sql: Sql,
  table: TokenTable,
  column: string,
  ids: readonly string[],
  books: boolean,
): Promise<{ id: string; value: string }[]> {
  const known = books ? await knownUnreadable(sql, table.key, column, ids) : new Set<string>();
  return table.values(
    sql,
    column,
    ids.filter((id) => !known.has(id)),
  );
}

function wrongKey(kid: string, fault: string): KeyError {
  if (kid !== '')
    return new KeyError(
      `the key ${kid} is not the one that the values under ${kid} were sealed with: none of a sample opens; nothing was changed`,
    );
  if (fault === 'no_plan_key')
    return new KeyError(
      'SESSION_TOKEN_ENCRYPTION_KEY must be set: there are values of the older format, which it opens; nothing was changed',
    );
  return new KeyError(
    'SESSION_TOKEN_ENCRYPTION_KEY is not the key of the values of the older format that are there: none of a sample opens; nothing was changed',
  );
}
