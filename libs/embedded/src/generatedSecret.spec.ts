import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { readOrCreateSecret } from './generatedSecret.js';

const folder = mkdtempSync(join(tmpdir(), 'session-gateway-secret-'));
afterAll(() => rmSync(folder, { recursive: true }));

test("a generated secret is 32 random bytes for the owner's eyes only, and stays the same", () => {
  const file = join(folder, 'deep/down/a.key');
  const secret = readOrCreateSecret(file);
  expect(Buffer.from(secret, 'base64url')).toHaveLength(32);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readOrCreateSecret(file)).toBe(secret);
  expect(readOrCreateSecret(join(folder, 'b.key'))).not.toBe(secret);
});

test('a secret that somebody wrote is taken as it is, and an empty file is no secret', () => {
  writeFileSync(join(folder, 'own.key'), 'my own\n');
  expect(readOrCreateSecret(join(folder, 'own.key'))).toBe('my own');
  writeFileSync(join(folder, 'empty.key'), '\n');
  expect(() => readOrCreateSecret(join(folder, 'empty.key'))).toThrow(/is empty: delete it/);
  expect(readFileSync(join(folder, 'empty.key'), 'utf8')).toBe('\n');
});
