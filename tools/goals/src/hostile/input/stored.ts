import { createCipheriv } from 'node:crypto';
import {
  AuthError,
  createKeyring,
  type Keyring,
  type ReadPolicy,
  type StoredClass,
  TokenEncryption,
  type TokenLocation,
} from '@session-gateway/keycloak-auth';
import type { Random } from '../../harness/random.js';
import { bentText, joined } from './grammar.js';
import type { Surface } from './trial.js';

const MAX_TOKEN_BYTES = 2 ** 20;
const KIDS = ['k1', 'k26a', 'k26b'];

interface Known {
  stored: string;
  token: string;
  location: TokenLocation;
  kind: 'v2' | 'plan';
}

/** What reads stored values. */
export interface Reader {
  classify(stored: string): StoredClass;
  open(stored: string, location: TokenLocation): string;
}
const ours = (keyring: Keyring, readPolicy: ReadPolicy): Reader => {
  const encryption = new TokenEncryption({ keyring, readPolicy });
  return {
    classify: (stored) => TokenEncryption.classify(stored),
    open: (stored, location) => encryption.open(stored, location),
  };
};

/** Values of the token columns. What opens must have been sealed, in its very place, in its very spelling. */
export function storedSurface(random: Random, readerOf: typeof ours = ours): Surface {
  const keyring = createKeyring({
    keyText: random.text(48),
    keyringJson: JSON.stringify({
      primary: 'k26b',
      keys: KIDS.map((kid) => ({ kid, key: random.bytes(32).toString('base64url') })),
    }),
  });
  const { planKey } = keyring;
  if (!planKey) throw new Error('the keyring has no plan key');
  const policies: ReadPolicy[] = ['v2', 'v2+plan', 'all'];
  const readers = policies.map((readPolicy) => ({
    readPolicy,
    reader: readerOf(keyring, readPolicy),
  }));
  const sealer = new TokenEncryption({ keyring, randomBytes: (size) => random.bytes(size) });
  const places = ['access_token', 'refresh_token', 'id_token'].flatMap((column) =>
    ['row-1', 'row-2', '行-3'].map((rowId) => ({ table: 'user_sessions', column, rowId })),
  );
  const planValue = (token: string): string => {
    const iv = random.bytes(16);
    const cipher = createCipheriv('aes-256-gcm', planKey, iv);
    const body = Buffer.concat([cipher.update(token, 'utf8'), cipher.final()]);
    return [iv, cipher.getAuthTag(), body].map((part) => part.toString('hex')).join(':');
  };
  const known: Known[] = Array.from({ length: 200 }, (_, i) => {
    const token = random.text(1 + random.below(i % 20 === 0 ? 3000 : 60));
    const location = random.pick(places);
    if (i % 4 !== 0)
      return {
        kind: 'v2',
        token,
        location,
        stored: sealer.seal(token, location, random.pick(KIDS)),
      };
    return { kind: 'plan', token, location, stored: planValue(token) };
  });
  const plans = known.filter(({ kind }) => kind === 'plan');
  /** Authentic, and larger than any token. */
  const huge = planValue('x'.repeat(MAX_TOKEN_BYTES + 1));
  const byStored = new Map(known.map((entry) => [entry.stored, entry]));
  const pieces = [
    'v2.',
    'v2',
    'V2.',
    'v3.',
    'k1',
    'k26b',
    'zz',
    '.',
    '..',
    ':',
    '::',
    '=',
    '==',
    '+',
    '/',
    '-',
    '_',
    'A',
    'AAAA',
    '0',
    '00',
    'ff',
    'FF',
    '\n',
    '\r\n',
    '\0',
    ' ',
    '\ufeff',
    '\u0141',
    '\u00e9',
    '\ud800',
    '\u200b',
    'null',
    '0'.repeat(32),
    'A'.repeat(54),
    '%3D',
    'eyJhbGciOiJSUzI1NiJ9',
  ];
  const stored = (): { text: string; location: TokenLocation } => {
    const { stored: sound, location } = random.pick(known);
    const choice = random.below(100);
    const elsewhere = random.chance(0.3) ? random.pick(places) : location;
    if (choice < 10) return { text: sound, location: elsewhere };
    if (choice === 10 && random.chance(0.5)) return { text: huge, location };
    if (choice < 14)
      return {
        text: random
          .pick(plans)
          .stored.replace(/(?<=:)[0-9a-f]{32}(?=:)/, (tag) =>
            tag.slice(0, 2 * (4 + random.below(12))),
          ),
        location,
      };
    if (choice < 60) return { text: bentText(random, sound, pieces), location };
    if (choice < 70) return { text: sound.slice(0, -1) + random.text(1), location };
    if (choice < 80)
      return {
        text: sound.slice(0, random.below(40)) + random.pick(known).stored.slice(random.below(40)),
        location: elsewhere,
      };
    if (choice < 99 || random.chance(0.95))
      return {
        text:
          random.pick([
            'v2.',
            'v2.k1.',
            '',
            `${'0'.repeat(32)}:`,
            `${'0'.repeat(32)}:${'0'.repeat(32)}:`,
          ]) + joined(random, pieces, 8),
        location: elsewhere,
      };
    return {
      text:
        random.pick(['v2.k1.', 'v2.k1', `${'0'.repeat(32)}:${'0'.repeat(32)}:`, '']) +
        random.pick(['A', '0', 'Zz', '\n', '=']).repeat(MAX_TOKEN_BYTES * 2 + random.below(1000)),
      location,
    };
  };
  return {
    name: 'stored value',
    weight: 20,
    next() {
      const { text, location } = stored();
      const { readPolicy, reader } = random.pick(readers);
      const storedClass = classOf(text);
      const origin = byStored.get(text);
      const mayAsText =
        storedClass === 'plain' && readPolicy === 'all' && text.length <= 2 * MAX_TOKEN_BYTES + 66;
      const mayUnbound = origin ? readPolicy !== 'v2' : mayAsText;
      const may = origin?.kind === 'v2' ? samePlace(origin.location, location) : mayUnbound;
      return {
        input: JSON.stringify([
          text.length > 2000 ? `${text.slice(0, 100)}… ${text.length} characters` : text,
          location,
          readPolicy,
        ]),
        run: () => ({
          seen: reader.classify(text),
          token: text === '' ? null : reader.open(text, location),
        }),
        documented: (error) =>
          error instanceof AuthError &&
          error.code === 'token_unreadable' &&
          error.message === 'a stored token does not open' &&
          error.cause === undefined,
        accepted: (outcome) => (outcome as { token: string | null }).token !== null,
        wrong(outcome) {
          const { seen, token } = outcome as { seen: StoredClass; token: string | null };
          if (seen !== storedClass) return `a value of class ${storedClass} counts as ${seen}`;
          if (token === null) return null;
          if (!may) return 'a value opens that was not sealed so, or not there';
          return token === (origin?.token ?? text) ? null : 'a value opens to another token';
        },
        wronglyRefused: () => (may ? 'a sound value does not open' : null),
      };
    },
  };
}

/** The class by the grammar as it is published, and by encoding anew. */
function classOf(text: string): StoredClass {
  if (text === '') return 'empty';
  if (text.startsWith('v2.')) {
    const encoded = /^v2\.[a-z0-9]{1,16}\.([A-Za-z0-9_-]{54,})$/.exec(text)?.[1];
    return encoded !== undefined &&
      !encoded.includes('\n') &&
      Buffer.from(encoded, 'base64url').toString('base64url') === encoded
      ? 'v2'
      : 'malformed';
  }
  return text.length >= 68 &&
    text.length % 2 === 0 &&
    /^[0-9a-f]{32}:[0-9a-f]{32}:/.test(text) &&
    !/[^0-9a-f]/.test(text.slice(66))
    ? 'plan'
    : 'plain';
}

const samePlace = (a: TokenLocation, b: TokenLocation): boolean =>
  a.table === b.table && a.column === b.column && a.rowId === b.rowId;
