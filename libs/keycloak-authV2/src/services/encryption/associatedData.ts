import { toUSVString } from 'node:util';

/** Where a token is stored. A sealed value opens in this place only. */
export interface TokenLocation {
  readonly table: string;
  readonly column: string;
  readonly rowId: string;
}

/**
 * The associated data of a v2 value: version, key id, table, column and row id, each as a 2-byte big-endian length and
 * its UTF-8 bytes, so that no two places share an encoding.
 * @throws RangeError for a name that has no such encoding
 */
export function associatedData(kid: string, { table, column, rowId }: TokenLocation): Buffer {
  // Encoded at once, with room for the lengths: a call into the encoder for each field would
  // cost as much as the cipher.
  const text = `\0\0session-token/v2\0\0${kid}\0\0${table}\0\0${column}\0\0${rowId}`;
  // UTF-8 would write every unpaired surrogate as the same three bytes.
  if (toUSVString(text) !== text)
    throw new RangeError('a table, column or row id is not well-formed text');
  const bytes = Buffer.from(text);
  let at = 0;
  for (const field of ['session-token/v2', kid, table, column, rowId]) {
    const length = Buffer.byteLength(field);
    if (length > 0xffff)
      throw new RangeError('a table, column or row id is longer than 65,535 bytes');
    bytes[at] = length >> 8;
    bytes[at + 1] = length;
    at += 2 + length;
  }
  return bytes;
}
