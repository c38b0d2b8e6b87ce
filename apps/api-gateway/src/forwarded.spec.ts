import type { IncomingMessage } from 'node:http';
import { describe, expect, test } from '@jest/globals';
import { forwardedHeaders, forwardingOf, parseTrustedProxies } from './forwarded.js';

const publicUrl = new URL('https://app.example');
const of = (peer: string, headers: IncomingMessage['headers'], trusted = '10.0.0.0/8, 2001:db8::/32') =>
  forwardingOf({ headers, socket: { remoteAddress: peer } as IncomingMessage['socket'] }, parseTrustedProxies(trusted)!, publicUrl);

describe('the client of a request', () => {
  test.each<[string, string, string | undefined, string[]]>([
    ['is the peer when nobody is in between', '192.0.2.9', undefined, ['192.0.2.9']],
    ['is the peer whatever an untrusted one claims', '192.0.2.9', '1.1.1.1', ['192.0.2.9']],
    ['is whom a trusted proxy names', '10.0.0.1', '192.0.2.9', ['192.0.2.9', '10.0.0.1']],
    ['is not what the client itself prepended', '10.0.0.1', '1.1.1.1, 192.0.2.9', ['192.0.2.9', '10.0.0.1']],
    ['is found behind several trusted proxies', '10.0.0.1', '1.1.1.1, 192.0.2.9, 10.0.0.2', ['192.0.2.9', '10.0.0.2', '10.0.0.1']],
    ['is the last known address before what is no address', '10.0.0.1', '192.0.2.9, _hidden, 10.0.0.2', ['10.0.0.2', '10.0.0.1']],
    ['may have a port, brackets or an IPv4 mapping', '::ffff:10.0.0.1', '[2001:db9::1]:443', ['2001:db9::1', '10.0.0.1']],
    ['may be an IPv6 proxy\'s', '2001:db8::5', '192.0.2.9:4711', ['192.0.2.9', '2001:db8::5']],
  ])('%s', (_, peer, header, hops) => {
    expect(of(peer, header === undefined ? {} : { 'x-forwarded-for': header }).hops).toEqual(hops);
  });
});

describe('scheme and host', () => {
  test('are PUBLIC_URL\'s unless a trusted proxy says otherwise', () => {
    const claims = { 'x-forwarded-proto': 'http', 'x-forwarded-host': 'other.example:8080' };
    expect(of('192.0.2.9', claims)).toMatchObject({ proto: 'https', host: 'app.example' });
    expect(of('10.0.0.1', claims)).toMatchObject({ proto: 'http', host: 'other.example:8080' });
    expect(of('10.0.0.1', { 'x-forwarded-proto': 'gopher', 'x-forwarded-host': 'a b"' })).toMatchObject({ proto: 'https', host: 'app.example' });
    expect(of('10.0.0.1', { 'x-forwarded-proto': 'ws' })).toMatchObject({ proto: 'http' });
  });

  test('are taken from the proxy that the client reached, not from the client', () => {
    expect(of('10.0.0.1', { 'x-forwarded-for': '192.0.2.9', 'x-forwarded-proto': 'http, https' }).proto).toBe('https');
    expect(of('10.0.0.1', { 'x-forwarded-for': '192.0.2.9, 10.0.0.2', 'x-forwarded-proto': 'https, http' }).proto).toBe('https');
  });
});

test('upstreams are told in both spellings', () => {
  expect(forwardedHeaders({ hops: ['2001:db9::1', '10.0.0.1'], proto: 'https', host: 'app.example:8443' })).toEqual([
    'x-forwarded-for', '2001:db9::1, 10.0.0.1', 'x-forwarded-proto', 'https', 'x-forwarded-host', 'app.example:8443',
    'forwarded', 'for="[2001:db9::1]";proto=https;host="app.example:8443", for=10.0.0.1',
  ]);
});

test.each(['10.0.0.0/33', '10.0.0', 'proxy.internal', '::1/129', '10.0.0.1/', '1/2'])('%s is no trusted proxy', (list) => {
  expect(parseTrustedProxies(list)).toBeNull();
});
