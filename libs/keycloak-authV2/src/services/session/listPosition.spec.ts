import { describe, expect, test } from '@jest/globals';
import { cursorOf, positionOf } from './listPosition.js';

const encoded = (text: string | Buffer): string => Buffer.from(text).toString('base64url');

describe('a cursor', () => {
  test.each([
    ['1764319763123456', '01234567-89ab-8cde-8f01-23456789abcd'],
    ['0', 'a'],
    ['-1', 'an id with spaces'],
    ['8999999999999999', 'ä\n'],
  ])('stands for one place (%s, %s)', (createdAtMicros, id) => {
    const cursor = cursorOf({ createdAtMicros, id });
    expect(cursor).toMatch(/^[\w-]+$/);
    expect(positionOf(cursor)).toEqual({ createdAtMicros, id });
  });

  test.each([
    ['empty', ''],
    ['an id as it is', '01234567-89ab-8cde-8f01-23456789abcd'],
    ['no base64url', '!'],
    ['padded', `${encoded('1 a')}=`],
    ['in base64', Buffer.from('1 ~~?').toString('base64')],
    ['without a time', encoded(' a')],
    ['without an id', encoded('1 ')],
    ['with a time that is none', encoded('1.5 a')],
    ['with a time beyond what is exact', encoded('9007199254740993 a')],
    ['with a NUL', encoded('1 a\0')],
    ['no UTF-8', encoded(Buffer.from([0x31, 0x20, 0xff]))],
    ['with bits left over', `${encoded('1 ab').slice(0, -1)}Z`],
  ])('that is %s stands for none', (_, cursor) => {
    expect(positionOf(cursor)).toBeNull();
  });
});
