const TEXT_OID = 25;
const HEADER_BYTES = 20;
const NULL = -1;

/**
 * A `text[]` parameter in PostgreSQL's binary form: lengths and bytes. Neither side has to look at each character of a
 * token for quotes, as the textual form makes both do.
 */
export function textArray(elements: readonly (string | null)[]): Buffer {
  const lengths = elements.map((element) => (element === null ? NULL : Buffer.byteLength(element)));
  const array = Buffer.allocUnsafe(
    HEADER_BYTES + lengths.reduce((sum, length) => sum + 4 + Math.max(0, length), 0),
  );
  // Dimensions, whether there are NULLs, type of elements; of the one dimension its length and its first index.
  [1, lengths.includes(NULL) ? 1 : 0, TEXT_OID, elements.length, 1].forEach((word, index) =>
    array.writeInt32BE(word, 4 * index),
  );
  let at = HEADER_BYTES;
  elements.forEach((element, index) => {
    const length = lengths[index] ?? NULL;
    at = array.writeInt32BE(length, at);
    // As many bytes as characters: it is ASCII, which needs no encoding.
    if (element !== null)
      at += array.write(element, at, length === element.length ? 'latin1' : 'utf8');
  });
  return array;
}
