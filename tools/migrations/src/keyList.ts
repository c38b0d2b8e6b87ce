import {
  countStored,
  faultOf,
  type Instance,
  type Keyring,
  knownKeys,
  liveInstances,
  type StoredCount,
} from '@session-gateway/keycloak-auth';
import type { Database } from '@session-gateway/database';

/** A key, what it is for now, and who and what depends on it. */
export interface ListedKey {
  readonly kid: string;
  readonly status: 'primary' | 'waiting' | 'decrypt-only' | 'retired' | 'missing';
  readonly fingerprint: string | null;
  /** Why the keyring's key is not the database's. */
  readonly problem: string | null;
  readonly values: number;
  readonly columns: Readonly<Record<string, number>>;
  /** Live gateways that have it, and that seal under it. */
  readonly knownTo: number;
  readonly sealing: number;
}

export interface KeyList {
  readonly keys: readonly ListedKey[];
  /** Values under no key id. */
  readonly older: { readonly plan: number; readonly plain: number; readonly malformed: number };
  readonly gateways: readonly Instance[];
}

/** Every key of the keyring, of the database's list, and of stored values. */
export async function listKeys(db: Database, keyring: Keyring): Promise<KeyList> {
  const [known, counts, gateways] = await Promise.all([
    knownKeys(db.sql),
    countStored(db.sql),
    liveInstances(db.sql),
  ]);
  const kids = [
    ...new Set([
      ...keyring.kids,
      ...known.map((key) => key.kid),
      ...counts.flatMap(({ kid }) => kid ?? []),
    ]),
  ];
  const keys = kids.map((kid) => {
    const inDatabase = known.find((key) => key.kid === kid);
    const ofKey = counts.filter((count) => count.kid === kid);
    return {
      kid,
      status: statusOf(keyring, kid, inDatabase?.retiredAt ?? null),
      fingerprint: keyring.fingerprint(kid) ?? inDatabase?.fingerprint ?? null,
      problem: inDatabase ? faultOf(keyring, inDatabase) : null,
      values: sum(ofKey),
      columns: byColumn(ofKey),
      knownTo: gateways.filter((instance) => instance.keys[kid] !== undefined).length,
      sealing: gateways.filter((instance) => instance.primaryKid === kid).length,
    };
  });
  const older = (kind: StoredCount['kind']): number =>
    sum(counts.filter((count) => count.kind === kind));
  return {
    keys,
    older: { plan: older('plan'), plain: older('plain'), malformed: older('malformed') },
    gateways,
  };
}

/** As people read it. */
export function keyTable({ keys, older: { plan, plain, malformed }, gateways }: KeyList): string {
  const cells = [
    ['key', 'status', 'values', 'access', 'refresh', 'id', 'gateways', 'fingerprint'],
    ...keys.map((key) => [
      key.kid,
      key.status,
      String(key.values),
      ...['access_token', 'refresh_token', 'id_token'].map((column) =>
        String(key.columns[column] ?? 0),
      ),
      `${key.knownTo} of ${gateways.length}`,
      (key.fingerprint ?? '-').slice(0, 16),
    ]),
  ];
  const widths = (cells[0] ?? []).map((_, index) =>
    Math.max(...cells.map((row) => row[index]?.length ?? 0)),
  );
  const lines = cells.map((row) =>
    row
      .map((cell, index) =>
        index >= 2 && index <= 5
          ? cell.padStart(widths[index] ?? 0)
          : cell.padEnd(widths[index] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
  if (plan + plain + malformed > 0)
    lines.push(
      '',
      `under no key id: ${plan} of the older format, ${plain} in plaintext, ${malformed} malformed`,
    );
  for (const { problem } of keys) if (problem) lines.push('', problem);
  lines.push(
    '',
    gateways.length === 0
      ? 'no gateway is at work'
      : `gateways at work:\n${gateways.map(told).join('\n')}`,
  );
  return lines.join('\n');
}

/** One line on a gateway. */
export const told = ({ id, primaryKid, keys, seenAt }: Instance): string =>
  `  gateway ${id}: seals under ${primaryKid}, knows ${Object.keys(keys).join(', ')}, seen ${seenAt.toISOString()}`;

export function byColumn(counts: readonly StoredCount[]): Record<string, number> {
  const columns: Record<string, number> = {};
  for (const { column, values } of counts) columns[column] = (columns[column] ?? 0) + values;
  return columns;
}

const sum = (counts: readonly StoredCount[]): number =>
  counts.reduce((total, { values }) => total + values, 0);

function statusOf(keyring: Keyring, kid: string, retiredAt: Date | null): ListedKey['status'] {
  if (retiredAt) return 'retired';
  if (!keyring.key(kid)) return 'missing';
  if (keyring.primary === kid) return 'primary';
  return keyring.decryptOnly.has(kid) ? 'decrypt-only' : 'waiting';
}
