import type { IncomingMessage } from 'node:http';
import { describe, expect, test } from '@jest/globals';
import { forwardedHeaders, hopsOf, parseTrustedProxies, unbelievedPeer } from './forwarded.js';

const from = (peer: string, headers: IncomingMessage['headers']): Parameters<typeof hopsOf>[0] => ({
  headers,
  socket: { remoteAddress: peer },
});
const trusted = parseTrustedProxies('10.0.0.0/8, 2001:db8::/32')!;

describe('the client of a request', () => {
  test.each<[string, string, string | undefined, string[]]>([
    ['is the peer when nobody is in between', '192.0.2.9', undefined, ['192.0.2.9']],
    ['is the peer whatever an untrusted one claims', '192.0.2.9', '1.1.1.1', ['192.0.2.9']],
    ['is whom a trusted proxy names', '10.0.0.1', '192.0.2.9', ['192.0.2.9', '10.0.0.1']],
    [
      'is not what the client itself prepended',
      '10.0.0.1',
      '1.1.1.1, 192.0.2.9',
      ['192.0.2.9', '10.0.0.1'],
    ],
    [
      'is found behind several trusted proxies',
      '10.0.0.1',
      '1.1.1.1, 192.0.2.9, 10.0.0.2',
      ['192.0.2.9', '10.0.0.2', '10.0.0.1'],
    ],
    [
      'is the last known address before what is no address',
      '10.0.0.1',
      '192.0.2.9, _hidden, 10.0.0.2',
      ['10.0.0.2', '10.0.0.1'],
    ],
    [
      'may have a port, brackets or an IPv4 mapping',
      '::ffff:10.0.0.1',
      '[2001:db9::1]:443',
      ['2001:db9::1', '10.0.0.1'],
    ],
    ["may be an IPv6 proxy's", '2001:db8::5', '192.0.2.9:4711', ['192.0.2.9', '2001:db8::5']],
  ])('%s', (_, peer, header, hops) => {
    const headers = header === undefined ? {} : { 'x-forwarded-for': header };
    expect(hopsOf(from(peer, headers), trusted)).toEqual(hops);
  });
});

test('a peer that names others without being trusted is told, and no other', () => {
  const claim = { 'x-forwarded-for': '192.0.2.9' };
  expect(unbelievedPeer(from('198.51.100.1', claim), trusted)).toBe('198.51.100.1');
  expect(unbelievedPeer(from('198.51.100.1', {}), trusted)).toBeNull();
  expect(unbelievedPeer(from('10.0.0.1', claim), trusted)).toBeNull();
});

test("upstreams are told in both spellings, with PUBLIC_URL's scheme and host", () => {
  expect(
    forwardedHeaders(['2001:db9::1', '10.0.0.1'], new URL('https://app.example:8443')),
  ).toEqual([
    'x-forwarded-for',
    '2001:db9::1, 10.0.0.1',
    'x-forwarded-proto',
    'https',
    'x-forwarded-host',
    'app.example:8443',
    'forwarded',
    'for="[2001:db9::1]";proto=https;host="app.example:8443", for=10.0.0.1',
  ]);
});

test.each(['10.0.0.0/33', '10.0.0', 'proxy.internal', '::1/129', '10.0.0.1/', '1/2'])(
  '%s is no trusted proxy',
  (list) => {
    expect(parseTrustedProxies(list)).toBeNull();
  },
);
