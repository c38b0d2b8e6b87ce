/** Where a token is stored. A sealed value opens in this place only. */
export interface TokenLocation {
  readonly table: string;
  readonly column: string;
  readonly rowId: string;
}

/**
 * The associated data of a v2 value: version, key id, table, column and row id, each as a 2-byte big-endian length and
 * its UTF-8 bytes, so that no two places share an encoding.
 */
export function associatedData(kid: string, { table, column, rowId }: TokenLocation): Buffer {
  const parts: Buffer[] = [];
  for (const field of ['session-token/v2', kid, table, column, rowId]) {
    const bytes = Buffer.from(field, 'utf8');
    if (bytes.length > 0xffff) throw new RangeError('a table, column or row id is longer than 65,535 bytes');
    const length = Buffer.alloc(2);
    length.writeUInt16BE(bytes.length);
    parts.push(length, bytes);
  }
  return Buffer.concat(parts);
}
