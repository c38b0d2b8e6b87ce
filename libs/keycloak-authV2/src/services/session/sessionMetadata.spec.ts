import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { packSession, type Session, unpackSession } from './sessionMetadata.js';

const time = fc.integer({ min: 0, max: 4_102_444_800_000 }).map((ms) => new Date(ms));
const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 255 });
const id = fc.oneof(fc.uuid(), text);
const session: fc.Arbitrary<Session> = fc.record({
  id, userId: id, subject: id, sid: fc.option(text), createdAt: time, lastAccessedAt: time, expiresAt: time, tokenExpiresAt: fc.option(time),
  tokenLifetimeSeconds: fc.option(fc.integer({ min: 0, max: 86_400 })), fingerprint: fc.option(text), roles: fc.array(text, { maxLength: 12 }), version: fc.nat(),
});

describe('packed session metadata', () => {
  test('is unpacked to what was packed', () => {
    fc.assert(fc.property(session, time, (original, confirmedAt) => {
      expect(unpackSession(packSession({ session: original, confirmedAt }))).toEqual({ session: original, confirmedAt });
    }));
  });

  test('cut short anywhere, with bytes changed, or of anything else never throws, and never lacks what a request is judged by', () => {
    fc.assert(fc.property(session, fc.nat(), fc.uint8Array({ maxLength: 64 }), (original, where, noise) => {
      const packed = packSession({ session: original, confirmedAt: new Date(0) });
      const bent = Buffer.from(packed);
      bent[where % bent.length]! ^= 0xff;
      for (const garbage of [packed.subarray(0, where % packed.length), bent, Buffer.from(noise)]) {
        const found = unpackSession(garbage);
        if (found) expect([found.session.id, found.session.userId, found.session.subject].every((field) => field.length > 0)).toBe(true);
      }
    }));
  });

  test('of a usual session takes less than 150 bytes', () => {
    const uuid = '7b1f6f0e-3c55-4f8e-9b0a-2f7f0e6b1c11';
    const at = new Date();
    const usual: Session = { id: uuid, userId: uuid, subject: uuid, sid: 'L4r9VG8N7RVr4H_RBFNhow8l', createdAt: at, lastAccessedAt: at, expiresAt: at, tokenExpiresAt: at, tokenLifetimeSeconds: 300, fingerprint: '0123456789abcdef', roles: [], version: 3 };
    expect(packSession({ session: usual, confirmedAt: at }).length).toBeLessThan(150);
  });
});
