import type { TokenLocation } from '@session-gateway/keycloak-auth';
import type { Random } from './random.js';

/** A stored value, what it opens to and where it belongs. */
export interface Sealed {
  readonly stored: string;
  readonly token: string;
  readonly location: TokenLocation;
}

export type AttackKind =
  | 'byte bit'
  | 'text bit'
  | 'truncated'
  | 'tag cut'
  | 'appended'
  | 'respelled'
  | 'spliced'
  | 'moved'
  | 'relabelled';
/** A stored value that was changed, or stands where it does not belong. Nothing of the kind may open. */
export interface Attack {
  readonly kind: AttackKind;
  readonly stored: string;
  readonly location: TokenLocation;
}

const TAG_BYTES = 16;
const NONCE_BYTES = 24;
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/**
 * Every attack on one value; `others` are sound values to take parts from, `kids` the key ids that could be claimed.
 */
export function* attacksOn(
  value: Sealed,
  others: readonly Sealed[],
  kids: readonly string[],
  random: Random,
): Generator<Attack> {
  const { location } = value;
  for (const stored of bitFlips(value.stored)) yield { kind: 'text bit', stored, location };
  for (let length = 0; length < value.stored.length; length++)
    yield { kind: 'truncated', stored: value.stored.slice(0, length), location };
  if (!value.stored.startsWith('v2.')) {
    yield* onPlan(value, random);
    return;
  }
  for (const attack of onV2(value, others, random)) yield { location, ...attack };
  for (const elsewhere of otherPlaces(location))
    yield { kind: 'moved', stored: value.stored, location: elsewhere };
  const [, kid = '', encoded = ''] = value.stored.split('.');
  for (const claimed of [...kids, 'zz', kid.toUpperCase(), `${kid}0`, ''])
    if (claimed !== kid) yield { kind: 'relabelled', stored: `v2.${claimed}.${encoded}`, location };
}

function* onV2(
  { stored }: Sealed,
  others: readonly Sealed[],
  random: Random,
): Generator<Omit<Attack, 'location'>> {
  const [, kid = '', encoded = ''] = stored.split('.');
  const bytes = Buffer.from(encoded, 'base64url');
  const of = (...parts: Buffer[]): string =>
    `v2.${kid}.${Buffer.concat(parts).toString('base64url')}`;
  const [nonce, tag] = [bytes.subarray(0, NONCE_BYTES), bytes.subarray(-TAG_BYTES)];
  const body = bytes.subarray(NONCE_BYTES, -TAG_BYTES);

  for (const bent of byteFlips(bytes)) yield { kind: 'byte bit', stored: of(bent) };
  for (let length = 0; length < TAG_BYTES; length++) {
    yield { kind: 'tag cut', stored: of(nonce, body, tag.subarray(0, length)) };
    if (length > 0)
      yield { kind: 'tag cut', stored: of(nonce, body, tag.subarray(TAG_BYTES - length)) };
  }
  yield { kind: 'tag cut', stored: of(nonce, body, Buffer.alloc(TAG_BYTES)) };
  for (let length = 1; length <= TAG_BYTES; length++) {
    const more = random.bytes(length);
    yield { kind: 'appended', stored: of(bytes, more) };
    yield { kind: 'appended', stored: of(nonce, body, more, tag) };
    yield { kind: 'appended', stored: of(more, bytes) };
  }
  yield { kind: 'appended', stored: of(bytes, tag) };
  for (const other of others) {
    const parts = Buffer.from(other.stored.split('.')[2] ?? '', 'base64url');
    if (other.stored === stored || parts.length < NONCE_BYTES + TAG_BYTES) continue;
    yield { kind: 'spliced', stored: of(parts.subarray(0, NONCE_BYTES), body, tag) };
    yield { kind: 'spliced', stored: of(nonce, parts.subarray(NONCE_BYTES, -TAG_BYTES), tag) };
    yield { kind: 'spliced', stored: of(nonce, body, parts.subarray(-TAG_BYTES)) };
  }
  yield {
    kind: 'spliced',
    stored: [bytes.subarray(0, 16), tag, body].map((part) => part.toString('hex')).join(':'),
  };

  const middle = encoded.length >> 1;
  // The last character may hold bits that belong to no byte: 16 or 4 spellings of the same bytes.
  const spare = [1, 1, 16, 4][encoded.length % 4] ?? 1;
  const last = ALPHABET.indexOf(encoded.at(-1) ?? '');
  for (let bits = 1; bits < spare; bits++)
    yield { kind: 'respelled', stored: stored.slice(0, -1) + (ALPHABET[last ^ bits] ?? '') };
  for (const end of ['=', '==', '===', '\n', '\r\n', ' ', '\0', '.', '%3D'])
    yield { kind: 'respelled', stored: stored + end };
  for (const inside of ['=', '\n', ' ', '.', '\t', '\u200b', '+', '/'])
    yield {
      kind: 'respelled',
      stored: `v2.${kid}.${encoded.slice(0, middle)}${inside}${encoded.slice(middle)}`,
    };
  for (const start of [' ', '\n', '\ufeff', '.', 'v2.'])
    yield { kind: 'respelled', stored: start + stored };
  const standard = encoded.replaceAll('-', '+').replaceAll('_', '/');
  if (standard !== encoded) yield { kind: 'respelled', stored: `v2.${kid}.${standard}` };
  yield { kind: 'respelled', stored: `V2.${kid}.${encoded}` };
  yield { kind: 'respelled', stored: `v2.${kid}.${bytes.toString('hex')}` };
}

function* onPlan({ stored, location }: Sealed, random: Random): Generator<Attack> {
  const parts = stored.split(':').map((hex) => Buffer.from(hex, 'hex'));
  const [iv, tag, body] = parts as [Buffer, Buffer, Buffer];
  const of = (kind: AttackKind, ...changed: Buffer[]): Attack => ({
    kind,
    location,
    stored: changed.map((part) => part.toString('hex')).join(':'),
  });
  for (const bent of byteFlips(iv)) yield of('byte bit', bent, tag, body);
  for (const bent of byteFlips(tag)) yield of('byte bit', iv, bent, body);
  for (const bent of byteFlips(body)) yield of('byte bit', iv, tag, bent);
  for (let length = 0; length < TAG_BYTES; length++)
    yield of('tag cut', iv, tag.subarray(0, length), body);
  for (let length = 0; length < 16; length++)
    yield of('truncated', iv.subarray(0, length), tag, body);
  for (let length = 1; length <= TAG_BYTES; length++) {
    yield of('appended', iv, tag, Buffer.concat([body, random.bytes(length)]));
    yield of('appended', iv, Buffer.concat([tag, random.bytes(length)]), body);
    yield of('appended', Buffer.concat([iv, random.bytes(length)]), tag, body);
  }
  yield of('spliced', tag, iv, body);
  for (const text of [
    `${stored}\n`,
    `${stored}0`,
    `${stored}:`,
    `${stored}:00`,
    ` ${stored}`,
    `0x${stored}`,
    stored.replaceAll(':', ';'),
    stored.toUpperCase(),
  ]) {
    if (text !== stored) yield { kind: 'respelled', location, stored: text };
  }
}

function* byteFlips(bytes: Buffer): Generator<Buffer> {
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const bent = Buffer.from(bytes);
    bent[bit >> 3] = (bent[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    yield bent;
  }
}

function* bitFlips(text: string): Generator<string> {
  for (let at = 0; at < text.length; at++) {
    for (let bit = 0; bit < 8; bit++)
      yield (
        text.slice(0, at) +
        String.fromCharCode(text.charCodeAt(at) ^ (1 << bit)) +
        text.slice(at + 1)
      );
  }
}

function otherPlaces({ table, column, rowId }: TokenLocation): TokenLocation[] {
  const others = (own: string, ...names: string[]): string[] =>
    [...names, `${own} `, own.toUpperCase(), own.slice(1), ''].filter((name) => name !== own);
  return [
    ...others(table, 'user_sessions', 'sessions', `public.${table}`).map((name) => ({
      table: name,
      column,
      rowId,
    })),
    ...others(column, 'access_token', 'refresh_token', 'id_token').map((name) => ({
      table,
      column: name,
      rowId,
    })),
    ...others(rowId, `${rowId}0`, `x${rowId}`).map((name) => ({ table, column, rowId: name })),
    // The same characters in a row with the boundaries elsewhere.
    { table, column: column + rowId.slice(0, 1), rowId: rowId.slice(1) },
    { table, column: column.slice(0, -1), rowId: column.slice(-1) + rowId },
    { table: table + column.slice(0, 1), column: column.slice(1), rowId },
    { table: column, column: table, rowId },
  ];
}
