import { createDecipheriv, hkdfSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { associatedData, type TokenLocation } from './associatedData.js';
import { createKeyring } from './keyring.js';
import { TokenEncryption } from './TokenEncryption.js';

interface Vector extends TokenLocation {
  keyText?: string;
  keyring?: object;
  stored: string;
  token: string;
}
interface Golden extends Vector {
  format: 'plan' | 'v2';
  what: string;
}

const golden = JSON.parse(
  readFileSync(new URL('./fixtures/golden.json', import.meta.url), 'utf8'),
) as Golden[];
const doc = readFileSync(
  new URL('../../../../../docs/review/token-format.md', import.meta.url),
  'utf8',
);

const reader = ({ keyText, keyring }: Pick<Vector, 'keyText' | 'keyring'>): TokenEncryption =>
  new TokenEncryption({
    keyring: createKeyring({ keyText, keyringJson: keyring && JSON.stringify(keyring) }),
  });

/** What stands after a name in a block of the document. */
function inDoc(name: string): string {
  const [, value] = new RegExp(`^${name} {2,}(\\S.*)$`, 'm').exec(doc) ?? [];
  if (value === undefined)
    throw new Error(`docs/review/token-format.md has no line that begins with ${name}`);
  return value;
}

describe('a golden value', () => {
  test.each(golden)('of format $format opens to its token: $what', (entry) => {
    expect(TokenEncryption.classify(entry.stored)).toBe(entry.format);
    expect(reader(entry).open(entry.stored, entry)).toBe(entry.token);
  });

  const v2 = golden.filter(({ format }) => format === 'v2');
  test.each(v2)('of format v2 does not open in another column: $what', (entry) => {
    expect(() =>
      reader(entry).open(entry.stored, { ...entry, column: `${entry.column}_2` }),
    ).toThrow(expect.objectContaining({ code: 'token_unreadable', reason: 'not_authentic' }));
  });

  test.each(v2)('of format v2 is as long as the document computes: $what', ({ stored, token }) => {
    const prefix = `v2.${TokenEncryption.kidOf(stored)}.`;
    expect(stored).toHaveLength(
      prefix.length + Math.ceil((4 * (24 + Buffer.byteLength(token) + 16)) / 3),
    );
  });

  test('is there for each format and for a decrypt-only key', () => {
    const kinds = golden.map(({ format, stored }) =>
      `${format} ${TokenEncryption.kidOf(stored) ?? ''}`.trim(),
    );
    expect(new Set(kinds)).toEqual(new Set(['plan', 'v2 k1', 'v2 k26a', 'v2 k26b']));
  });
});

describe('docs/review/token-format.md', () => {
  const VECTOR =
    /^(key text|keyring) {2,}(.+)\nplace {2,}(\S+) (\S+) (\S+)\ntoken {2,}(.+)\n(v2\..+)$/gm;
  const vectors = [...doc.matchAll(VECTOR)].map(
    ([
      ,
      source,
      key = '',
      table = '',
      column = '',
      rowId = '',
      token = '',
      stored = '',
    ]): Vector => ({
      ...(source === 'keyring' ? { keyring: JSON.parse(key) as object } : { keyText: key }),
      table,
      column,
      rowId,
      token,
      stored,
    }),
  );

  test('has no line of a v2 value that is not one of its vectors, and at least two of them', () => {
    expect(vectors.length).toBeGreaterThanOrEqual(2);
    expect(doc.match(/^v2\.[a-z0-9]+\..*$/gm)).toEqual(vectors.map(({ stored }) => stored));
  });

  test.each(vectors)('shows a vector that opens to its token: $stored', (vector) => {
    expect(reader(vector).open(vector.stored, vector)).toBe(vector.token);
  });

  test('shows each step to the first vector as it is', () => {
    const { keyText, stored, token, ...place } = vectors[0]!;
    const planKey = createKeyring({ keyText }).planKey!.export();
    expect(inDoc('plan key')).toBe(planKey.toString('hex'));
    expect(inDoc('key k1')).toBe(
      Buffer.from(hkdfSync('sha256', planKey, '', 'session-token/v2/k1', 32)).toString('hex'),
    );
    const fields = [...doc.matchAll(/^([0-9a-f]{4}) ([0-9a-f]+) {2,}/gm)]
      .map(([, length = '', bytes = '']) => length + bytes)
      .join('');
    expect(fields).toBe(associatedData('k1', place).toString('hex'));
    const bytes = Buffer.from(stored.slice('v2.k1.'.length), 'base64url');
    const decipher = createDecipheriv(
      'aes-256-gcm',
      Buffer.from(inDoc('message key'), 'hex'),
      bytes.subarray(12, 24),
    );
    decipher.setAAD(Buffer.from(fields, 'hex')).setAuthTag(bytes.subarray(-16));
    expect(
      Buffer.concat([decipher.update(bytes.subarray(24, -16)), decipher.final()]).toString(),
    ).toBe(token);
  });
});
