import { spawnSync } from 'node:child_process';
import { createCipheriv, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from '@jest/globals';
import { describeWith } from '@session-gateway/testkit';
import { associatedData, type TokenLocation } from './associatedData.js';
import { createKeyring } from './keyring.js';
import { MAX_TOKEN_BYTES, TokenEncryption } from './TokenEncryption.js';
import { NONCE_BYTES, TAG_BYTES, xaesSeal } from './xaes256gcm.js';

interface Stored extends TokenLocation {
  format?: string;
  what?: string;
  keyText?: string;
  keyring?: object;
  stored: string;
}

const program = fileURLToPath(new URL('./fixtures/read_token.py', import.meta.url));
const golden = JSON.parse(
  readFileSync(new URL('./fixtures/golden.json', import.meta.url), 'utf8'),
) as (Stored & { token: string })[];
const v2 = golden.filter(({ format }) => format === 'v2');
const closed = { status: 1, stdout: '', stderr: 'does not open\n' };

/** What the reader of another language makes of a stored value. It is not told the token. */
function read({ keyText, keyring, table, column, rowId, stored }: Stored): {
  status: number | null;
  stdout: string;
  stderr: string;
} {
  const { status, stdout, stderr } = spawnSync('python3', [program], {
    input: JSON.stringify({ keyText, keyring, table, column, rowId, stored }),
    encoding: 'utf8',
    maxBuffer: 2 * MAX_TOKEN_BYTES,
  });
  return { status, stdout, stderr };
}
const opened = (token: string): ReturnType<typeof read> => ({
  status: 0,
  stdout: token,
  stderr: '',
});

/** The stored value with its bytes changed; a plan value is taken apart at its colons. */
function bent(
  { stored }: Stored,
  part: 'nonce' | 'ciphertext' | 'tag',
  change: (bytes: Buffer) => Buffer,
): string {
  const plan = /^(\w+):(\w+):(\w+)$/.exec(stored);
  const [prefix = ''] = /^v2\.\w+\./.exec(stored) ?? [];
  const all = Buffer.from(stored.slice(prefix.length), 'base64url');
  const parts: Record<'nonce' | 'ciphertext' | 'tag', Buffer> = plan
    ? {
        nonce: Buffer.from(plan[1]!, 'hex'),
        tag: Buffer.from(plan[2]!, 'hex'),
        ciphertext: Buffer.from(plan[3]!, 'hex'),
      }
    : { nonce: all.subarray(0, 24), ciphertext: all.subarray(24, -16), tag: all.subarray(-16) };
  parts[part] = change(Buffer.from(parts[part]));
  return plan
    ? [parts.nonce, parts.tag, parts.ciphertext].map((bytes) => bytes.toString('hex')).join(':')
    : prefix + Buffer.concat([parts.nonce, parts.ciphertext, parts.tag]).toString('base64url');
}

function flipped(bytes: Buffer): Buffer {
  bytes[bytes.length - 1]! ^= 1;
  return bytes;
}

describeWith(['python3+openssl'], 'a reader in another language', () => {
  describe('of a golden value', () => {
    test.each(golden)('of format $format opens it to its token: $what', (entry) => {
      expect(read(entry)).toEqual(opened(entry.token));
    });

    test.each(golden)(
      'of format $format opens it no more when a bit is flipped or the tag is cut: $what',
      (entry) => {
        // The same parts, unchanged, are the stored value again: what follows is refused for its change alone.
        expect(bent(entry, 'tag', (bytes) => bytes)).toBe(entry.stored);
        for (const part of ['nonce', 'ciphertext', 'tag'] as const)
          expect(read({ ...entry, stored: bent(entry, part, flipped) })).toEqual(closed);
        for (const length of [15, 12, 4, 0]) {
          expect(
            read({ ...entry, stored: bent(entry, 'tag', (bytes) => bytes.subarray(0, length)) }),
          ).toEqual(closed);
        }
      },
    );

    test.each(v2)('of format v2 opens it in its own place only: $what', (entry) => {
      for (const elsewhere of [
        { rowId: `${entry.rowId}2` },
        { column: 'scope' },
        { table: 'sessions' },
      ]) {
        expect(read({ ...entry, ...elsewhere })).toEqual(closed);
      }
    });

    test('opens none under another key text', () => {
      for (const entry of golden.filter(({ keyText }) => keyText)) {
        expect(read({ ...entry, keyText: 'another key text, as long as the first one' })).toEqual(
          closed,
        );
      }
    });
  });

  describe('of a value that has just been sealed', () => {
    const keyText = 'the key text of a reader in another language';
    const keyring = {
      primary: 'k2',
      keys: [
        { kid: 'k2', key: randomBytes(32).toString('base64url') },
        { kid: 'k1', key: randomBytes(32).toString('base64url') },
      ],
    };
    const sources = [{ keyText }, { keyring }, { keyText, keyring }].map((keys) => ({
      keys,
      ring: createKeyring({
        ...keys,
        keyringJson: 'keyring' in keys ? JSON.stringify(keys.keyring) : undefined,
      }),
    }));
    const place = { table: 'user_sessions', column: 'id_token', rowId: '行-1' };

    test('opens it under each of the keys, at any length around a block', () => {
      for (const { keys, ring } of sources) {
        for (const kid of ring.kids) {
          for (const token of [
            'a',
            'é'.repeat(7),
            'b'.repeat(15),
            'c'.repeat(16),
            'd'.repeat(17),
            randomBytes(600).toString('base64url'),
            '\uFEFF✓',
          ]) {
            const stored = new TokenEncryption({ keyring: ring }).seal(token, place, kid);
            expect(read({ ...keys, ...place, stored })).toEqual(opened(token));
          }
        }
      }
    });

    test('opens the largest one, and refuses one that is larger though it is authentic', () => {
      const ring = createKeyring({ keyText });
      const encryption = new TokenEncryption({ keyring: ring });
      const token = 'x'.repeat(MAX_TOKEN_BYTES);
      expect(
        read({ keyText, ...place, stored: encryption.seal(token, place) }).stdout === token,
      ).toBe(true);

      const sealed = xaesSeal(
        ring.key('k1')!,
        Buffer.concat([
          randomBytes(NONCE_BYTES),
          Buffer.from(`${token}x`),
          Buffer.alloc(TAG_BYTES),
        ]),
        associatedData('k1', place),
      );
      const iv = randomBytes(16);
      const cipher = createCipheriv('aes-256-gcm', ring.planKey!, iv);
      const ciphertext = Buffer.concat([cipher.update(`${token}x`), cipher.final()]);
      for (const stored of [
        `v2.k1.${sealed.toString('base64url')}`,
        [iv, cipher.getAuthTag(), ciphertext].map((bytes) => bytes.toString('hex')).join(':'),
      ]) {
        expect(read({ keyText, ...place, stored })).toEqual(closed);
        expect(() => encryption.open(stored, place)).toThrow(
          expect.objectContaining({ reason: 'too_large' }),
        );
      }
    });
  });

  test('refuses by grammar what the gateway refuses by grammar, other spellings of a true value among it', () => {
    const [plan, sealed] = [golden[0]!, v2[0]!];
    // The last character holds four bits that belong to no byte.
    const otherSpelling = sealed.stored.replace(/g$/, 'h');
    expect(Buffer.from(otherSpelling, 'base64url')).toEqual(
      Buffer.from(sealed.stored, 'base64url'),
    );
    const texts = (entry: Stored, ...stored: string[]): Stored[] =>
      stored.map((text) => ({ ...entry, stored: text }));
    for (const entry of [
      ...texts(
        sealed,
        otherSpelling,
        ...['\n', '=', '=='].map((end) => sealed.stored + end),
        sealed.stored.replace('.k1.', '.K1.'),
        sealed.stored.replace('.k1.', '.k2.'),
        sealed.stored.replace('v2.', 'v3.'),
        '',
        'v2.',
        'a token',
      ),
      ...texts(
        plan,
        plan.stored.toUpperCase(),
        `${plan.stored}\n`,
        `${plan.stored}0`,
        plan.stored.replaceAll(':', '.'),
      ),
    ]) {
      expect([entry.stored, read(entry)]).toEqual([entry.stored, closed]);
      expect(() =>
        new TokenEncryption({ keyring: createKeyring({ keyText: entry.keyText }) }).open(
          entry.stored,
          entry,
        ),
      ).toThrow('does not open');
    }
  });
});
