import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { cacheKeyOfCookie, sessionIdOfKey } from './cookieHash.js';
import { packSession, type Session, unpackSession } from './sessionMetadata.js';

const time = fc.integer({ min: 0, max: 4_102_444_800_000 }).map((ms) => new Date(ms));
const text = fc.oneof(
  fc.stringMatching(/^[0-9a-f]{1,40}$/),
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 255 }),
  fc
    .uint8Array({ minLength: 1, maxLength: 40 })
    .map((bytes) => Buffer.from(bytes).toString('base64url')),
);
const KEY = cacheKeyOfCookie('a cookie');
const id = fc.oneof(fc.uuid(), text);
const session: fc.Arbitrary<Session> = fc.record({
  id: fc.oneof(id, fc.constant(sessionIdOfKey(KEY))),
  subject: id,
  sid: fc.option(text),
  createdAt: time,
  lastAccessedAt: time,
  expiresAt: time,
  tokenExpiresAt: fc.option(time),
  tokenLifetimeSeconds: fc.option(fc.integer({ min: 0, max: 86_400 })),
  idleTimeoutSeconds: fc.option(fc.integer({ min: 1, max: 86_400 })),
  fingerprint: fc.option(text),
  acr: fc.option(text),
  roles: fc.array(text, { maxLength: 12 }),
  version: fc.nat(),
});

describe('packed session metadata', () => {
  test('is unpacked to what was packed', () => {
    fc.assert(
      fc.property(session, time, (original, confirmedAt) => {
        expect(unpackSession(packSession({ session: original, confirmedAt }, KEY), KEY)).toEqual({
          session: original,
          confirmedAt,
        });
      }),
    );
  });

  test('cut short anywhere, with bytes changed, or of anything else never throws, and never lacks what a request is judged by', () => {
    fc.assert(
      fc.property(session, fc.nat(), fc.uint8Array({ maxLength: 64 }), (original, where, noise) => {
        const packed = packSession({ session: original, confirmedAt: new Date(0) }, KEY);
        const bent = Buffer.from(packed);
        bent[where % bent.length]! ^= 0xff;
        for (const garbage of [
          packed.subarray(0, where % packed.length),
          bent,
          Buffer.from(noise),
        ]) {
          const found = unpackSession(garbage, KEY);
          if (found)
            expect(
              [found.session.id, found.session.subject].every((field) => field.length > 0),
            ).toBe(true);
        }
      }),
    );
  });

  test('of a usual session takes at most 72 bytes, which is what memory is given for, and its ten roles what differs between them', () => {
    const uuid = '7b1f6f0e-3c55-4f8e-9b0a-2f7f0e6b1c11';
    const at = new Date();
    const usual: Session = {
      id: sessionIdOfKey(KEY),
      subject: uuid,
      sid: 'L4r9VG8N7RVr4H_RBFNhow8l',
      createdAt: at,
      lastAccessedAt: at,
      expiresAt: new Date(at.getTime() + 36_000_000),
      tokenExpiresAt: new Date(at.getTime() + 300_000),
      tokenLifetimeSeconds: 300,
      idleTimeoutSeconds: 120,
      fingerprint: '0123456789abcdef',
      acr: '1',
      roles: [],
      version: 3,
    };
    const confirmedAt = new Date(at.getTime() + 20_000);
    expect(packSession({ session: usual, confirmedAt }, KEY).length).toBeLessThanOrEqual(72);
    const roles = Array.from({ length: 10 }, (_, i) => `realm:team-member-${i}`);
    expect(packSession({ session: { ...usual, roles }, confirmedAt }, KEY).length).toBeLessThan(
      125,
    );
  });
});
