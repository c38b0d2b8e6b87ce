import { beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  createGuard,
  type Guard,
  GuardError,
  type GuardRequest,
  memoryOfProcess,
} from './index.js';
import {
  BASE_URL,
  CLAIMS,
  ISSUER,
  issuerOf,
  judge,
  type Key,
  newKey,
  now,
  proofFor,
  requestOf,
  sign,
  thumbprintOf,
} from './testing/world.js';

let key: Key;
let token: string;
let bound: string;
let proof: string;
let guard: Guard;
const guardOf = () =>
  createGuard({
    issuer: ISSUER,
    audience: 'orders',
    now,
    fetch: issuerOf(key).fetch,
    dpop: { baseUrls: BASE_URL },
  });

beforeAll(async () => {
  key = await newKey('ES256', 'k1');
  token = await sign({ key, claims: CLAIMS });
  bound = await sign({ key, claims: { ...CLAIMS, cnf: { jkt: await thumbprintOf(key) } } });
  proof = await proofFor(bound, key);
  guard = guardOf();
});

/** Fails on what is no GuardError: `judge` throws it on. */
const refused = async (request: GuardRequest): Promise<boolean> =>
  (await judge(guard, request)).code !== 'passed';
const jsonPart = fc
  .json({ maxDepth: 3 })
  .map((text) => Buffer.from(text).toString('base64url') || 'e30');
const odd = fc.string({ unit: 'binary', maxLength: 60 });
/**
 * The bytes that a JWT stands for; null for what is none. The last character of a part may be written in more ways than one
 * (RFC 4648 §3.5), and blanks may stand around it in its field.
 */
const bytesOf = (jwt: string): string | null => {
  const parts = /^ *([\w-]+)\.([\w-]+)\.([\w-]+) *$/.exec(jwt)?.slice(1);
  return parts?.map((part) => Buffer.from(part, 'base64url').toString('hex')).join('.') ?? null;
};
/** A JWT with one character replaced, left out or put in, and another one for that. */
const nearly = (text: string) =>
  fc
    .tuple(fc.nat(text.length - 1), fc.constantFrom(0, 1), fc.string({ maxLength: 2 }))
    .map(([at, cut, put]) => text.slice(0, at) + put + text.slice(at + cut))
    .filter((changed) => bytesOf(changed) !== bytesOf(text));

describe('hostile requests', () => {
  test('with any fields are refused by a GuardError', async () => {
    const fields = fc.array(
      fc.oneof(
        odd,
        fc
          .tuple(fc.constantFrom('Bearer ', 'DPoP ', 'bearer\t', 'Basic '), odd)
          .map((p) => p.join('')),
        fc.tuple(jsonPart, jsonPart, jsonPart).map((parts) => `Bearer ${parts.join('.')}`),
        fc.tuple(jsonPart, jsonPart, jsonPart).map((parts) => `DPoP ${parts.join('.')}`),
      ),
      { maxLength: 3 },
    );
    await fc.assert(
      fc.asyncProperty(fields, fields, odd, odd, async (authorization, dpop, method, url) =>
        refused({ method, url, authorization, dpop }),
      ),
      { numRuns: 400 },
    );
  });

  test('with a token that was changed anywhere are refused', async () => {
    await fc.assert(
      fc.asyncProperty(nearly(token), (one) => refused(requestOf(`Bearer ${one}`))),
      { numRuns: 400 },
    );
  });

  test('with any signed claims and header never break the guard', async () => {
    const claims = fc.dictionary(
      fc.constantFrom(
        ...Object.keys(CLAIMS),
        'cnf',
        'nbf',
        'authorization',
        'client_id',
        '__proto__',
      ),
      fc.jsonValue({ maxDepth: 2 }),
    );
    await fc.assert(
      fc.asyncProperty(claims, fc.jsonValue({ maxDepth: 1 }), async (some, typ) => {
        const one = await sign({ key, claims: { ...CLAIMS, ...some }, header: { typ } }).catch(
          () => 'not to be signed',
        );
        await judge(guard, requestOf(`Bearer ${one}`), {
          roles: ['realm:user', 'reader', '__proto__:x'],
          acr: '1',
          maxAgeSeconds: 1,
          scopes: 'openid',
        });
      }),
      { numRuns: 300 },
    );
  });

  test('with a proof that was changed anywhere, or for any other target, are refused', async () => {
    const ask = (dpop: string, url = '/x') =>
      refused(requestOf(`DPoP ${bound}`, { dpop: [dpop], url }));
    await fc.assert(
      fc.asyncProperty(nearly(proof), (one) => ask(one)),
      { numRuns: 200 },
    );
    const target = fc
      .oneof(odd, fc.webPath(), fc.webUrl())
      .filter((url) => !/^\/x(\?|#|$)/.test(url));
    await fc.assert(
      fc.asyncProperty(target, (url) => ask(proof, url)),
      { numRuns: 200 },
    );
    // A control: the same proof as it stands.
    expect(await ask(proof)).toBe(false);
  });

  test('with any proof that the right key signs never break the guard', async () => {
    const claims = fc.dictionary(
      fc.constantFrom('jti', 'htm', 'htu', 'iat', 'ath', 'nonce', 'exp', 'nbf'),
      fc.oneof(fc.jsonValue({ maxDepth: 1 }), fc.webUrl(), odd),
      { minKeys: 1 },
    );
    await fc.assert(
      fc.asyncProperty(claims, fc.jsonValue({ maxDepth: 1 }), async (some, jwk) => {
        const one = await proofFor(bound, key, some).catch(() => 'none');
        await judge(guard, requestOf(`DPoP ${bound}`, { dpop: [one] }));
        const keyed = await proofFor(bound, key, {}, { jwk }).catch(() => 'none');
        return refused(requestOf(`DPoP ${bound}`, { dpop: [keyed] }));
      }),
      { numRuns: 200 },
    );
  });
});

test('the replay memory stays within its bound, and no proof passes twice, for any order of times', () => {
  const uses = fc.array(fc.tuple(fc.nat(40), fc.nat(400), fc.integer({ min: 1, max: 30 })), {
    maxLength: 200,
  });
  fc.assert(
    fc.property(uses, (list) => {
      let time = 0;
      const memory = memoryOfProcess({ capacity: 10, now: () => time });
      const lives = new Map<number, number>();
      for (const [id, later, ttl] of list) {
        time += later;
        const alive = [...lives.values()].filter((end) => end > time).length;
        try {
          const first = memory.firstUse(String(id), ttl);
          if (first === (lives.get(id) ?? 0) > time) return false;
          if (first) lives.set(id, time + ttl * 1000);
        } catch (error) {
          // Full: of live ones, or of ones behind a live one.
          if (!(error instanceof GuardError)) throw error;
        }
        if (alive > 10) return false;
      }
      return true;
    }),
  );
});
