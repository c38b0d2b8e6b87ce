import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from '@jest/globals';
import * as h from './testing/jobHarness.js';
import { KEYS_PROGRAM, type KeyCommands, onKeyCommands } from './testing/keyCommands.js';

let k: KeyCommands;
onKeyCommands((commands) => {
  k = commands;
});

describe('inspect', () => {
  const flipped = (value: string): string =>
    value.replace(/.(?=.{30}$)/, (letter) => (letter === '0' ? '1' : '0'));
  const look = async (
    id: string,
    column: string,
    more: string[] = [],
    env?: Record<string, string | undefined>,
  ) => {
    const people = await k.run(['inspect', '--id', id, '--column', column, ...more], env);
    const { code, stdout, stderr } = await k.run(
      ['inspect', '--json', '--id', id, '--column', column, ...more],
      env,
    );
    if (code !== 0 && code !== 3) return { code, stderr };
    const facts = JSON.parse(stdout) as Record<string, unknown>;
    expect([people.code, people.stdout]).toEqual([
      code,
      expect.stringContaining(String(facts['explanation'])),
    ]);
    return { code, ...facts };
  };

  test('tells whether key, row or bytes are wrong, and never prints the token, the value or a key', async () => {
    const made = await k.keyring('a', 'b');
    const other = randomBytes(32).toString('base64url');
    const one = {
      access_token: k.sealed(made, 'one', 'access_token'),
      refresh_token: k.sealed(made, 'one', 'refresh_token', 'b'),
    };
    await k.store('one', one);
    await k.run(['add']);
    const plan = h.planValue('a token of the older format');
    k.secrets.push('a token of the older format', plan, plan.slice(70), other);
    await k.store('moved', {
      access_token: one.refresh_token,
      refresh_token: one.access_token,
      id_token: flipped(one.access_token),
    });
    await k.store('plan', {
      access_token: plan,
      refresh_token: flipped(plan),
      id_token: plan.slice(0, 60),
    });
    await k.store('odd', {
      access_token: `v2.gone.${'A'.repeat(80)}`,
      refresh_token: 'v2.a.short',
    });
    const env = {
      DATABASE_URL: k.url,
      SESSION_TOKEN_KEYRING_FILE: k.file,
      SESSION_TOKEN_ENCRYPTION_KEY: h.KEY_TEXT,
    };

    expect(await look('one', 'access_token')).toMatchObject({
      code: 0,
      format: 'v2',
      kid: 'a',
      opens: true,
      wrong: null,
      tokenBytes: 80,
      characters: one.access_token.length,
    });
    expect(await look('one', 'id_token')).toMatchObject({
      code: 0,
      format: 'empty',
      opens: null,
      explanation: 'there is no value',
    });
    expect(await look('moved', 'access_token')).toMatchObject({
      code: 3,
      kid: 'b',
      opens: false,
      wrong: 'row',
      explanation: expect.stringContaining('it was sealed for refresh_token of row one'),
    });
    expect(await look('moved', 'refresh_token')).toMatchObject({
      code: 3,
      kid: 'a',
      wrong: 'row',
      explanation: expect.stringContaining('access_token of row one'),
    });
    expect(await look('moved', 'id_token')).toMatchObject({
      code: 3,
      wrong: 'bytes',
      explanation: expect.stringContaining('its bytes were changed'),
    });
    expect(await look('odd', 'access_token')).toMatchObject({
      code: 3,
      kid: 'gone',
      wrong: 'key',
      explanation: 'the key gone is not in the keyring, and this database has never known it',
    });
    expect(await look('odd', 'refresh_token')).toMatchObject({
      code: 3,
      format: 'malformed',
      wrong: 'bytes',
    });
    expect(await look('plan', 'access_token', [], env)).toMatchObject({
      code: 0,
      format: 'plan',
      opens: true,
      tokenBytes: 27,
    });
    expect(await look('plan', 'access_token')).toMatchObject({
      code: 3,
      wrong: 'key',
      explanation: expect.stringContaining(
        'SESSION_TOKEN_ENCRYPTION_KEY, which opens that, is not set',
      ),
    });
    expect(await look('plan', 'refresh_token', [], env)).toMatchObject({ code: 3, wrong: 'bytes' });
    expect(
      await look('plan', 'access_token', [], {
        ...env,
        SESSION_TOKEN_ENCRYPTION_KEY: 'quite another text for a key of old',
      }),
    ).toMatchObject({ code: 3, wrong: 'key or bytes' });
    expect(await look('plan', 'id_token')).toMatchObject({
      code: 0,
      format: 'plain',
      opens: true,
      explanation: expect.stringContaining('it is in plaintext'),
    });
    await writeFile(
      k.file,
      JSON.stringify({ primary: 'b', keys: [{ kid: 'a', key: other }, made.keys[1]] }),
    );
    expect(await look('one', 'access_token')).toMatchObject({
      code: 3,
      wrong: 'key',
      explanation: expect.stringContaining('the key under the id a in this keyring is another one'),
    });
    await writeFile(k.file, JSON.stringify({ primary: 'b', keys: [made.keys[1]] }));
    expect(await look('one', 'access_token')).toMatchObject({
      code: 3,
      wrong: 'key',
      explanation: 'the key a is not in the keyring; the database has known it',
    });
  });

  test('looks at a value that is given, in an argument or on stdin, as if it stood in that place', async () => {
    const made = await k.keyring('a');
    const value = k.sealed(made, 'one', 'access_token');
    await k.store('one', {});
    expect(await look('one', 'access_token', ['--value', value])).toMatchObject({
      code: 0,
      opens: true,
    });
    expect(await look('two', 'access_token', ['--value', value])).toMatchObject({
      code: 3,
      wrong: 'row',
    });
    const piped = h.startJob(
      [
        '-c',
        `printf '%s\\n' "$VALUE" | "${KEYS_PROGRAM.join('" "')}" inspect --id one --column access_token --value -`,
      ],
      { DATABASE_URL: k.url, SESSION_TOKEN_KEYRING_FILE: k.file, VALUE: value },
      ['bash'],
    );
    expect(await piped.exited).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('(a value given, not the stored one)'),
    });
  });

  test('names a row, a column or a table that is not there', async () => {
    await k.keyring('a');
    expect(await look('nobody', 'access_token')).toEqual({
      code: 1,
      stderr: 'keys: user_sessions has no row nobody\n',
    });
    expect(await look('one', 'nothing')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('table user_sessions has no column nothing'),
    });
    expect(await look('one', 'x', ['--table', 'nowhere'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('there is no table nowhere'),
    });
  });
});
