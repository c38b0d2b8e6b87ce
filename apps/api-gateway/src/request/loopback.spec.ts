import type { IncomingMessage } from 'node:http';
import { describe, expect, test } from '@jest/globals';
import { isFromThisMachine, isLoopbackHost } from './loopback.js';

test.each<[string, boolean]>([
  ['localhost', true],
  ['LOCALHOST.', true],
  ['app.localhost', true],
  ['127.0.0.1', true],
  ['127.9.9.9', true],
  ['[::1]', true],
  ['::ffff:127.0.0.1', true],
  ['localhost.example', false],
  ['notlocalhost', false],
  ['128.0.0.1', false],
  ['0.0.0.0', false],
  ['', false],
])('%s stands for this machine: %s', (name, expected) => {
  expect(isLoopbackHost(name)).toBe(expected);
});

describe('a request comes from this machine', () => {
  const is = (
    headers: IncomingMessage['headers'],
    remoteAddress = '127.0.0.1',
    localAddress = '127.0.0.1',
  ): boolean =>
    isFromThisMachine(
      {
        headers: { host: 'localhost:3000', ...headers },
        socket: { remoteAddress, localAddress },
      },
      '0.0.0.0',
    );

  test('by its connection, also over an address of the network', () => {
    expect([is({}), is({}, '::1', '::1'), is({}, '::ffff:127.0.0.1')]).toEqual([true, true, true]);
    expect(is({ host: '192.0.2.7:3000' }, '192.0.2.7', '192.0.2.7')).toBe(true);
    expect([is({}, '192.0.2.9', '192.0.2.7'), is({}, '', '127.0.0.1')]).toEqual([false, false]);
  });

  test('unless something on this machine says that it only passes it on', () => {
    expect(is({ 'x-forwarded-for': '127.0.0.1, ::1' })).toBe(true);
    expect(is({ forwarded: 'for="[::1]:4711";proto=http' })).toBe(true);
    for (const headers of [
      { 'x-forwarded-for': '192.0.2.9' },
      { 'x-forwarded-for': '127.0.0.1, 192.0.2.9' },
      { 'x-forwarded-for': 'unknown' },
      { 'x-real-ip': '192.0.2.9' },
      { forwarded: 'proto=http;for=192.0.2.9' },
      { 'cf-connecting-ip': '2001:db8::1' },
    ])
      expect([headers, is(headers)]).toEqual([headers, false]);
  });

  test('under a name of this machine only', () => {
    expect([is({ host: '0.0.0.0:3000' }), is({ host: '[::1]:3000' })]).toEqual([true, true]);
    for (const host of ['app.example', 'localhost.example:3000', '192.0.2.7', ''])
      expect([host, is({ host })]).toEqual([host, false]);
  });
});
