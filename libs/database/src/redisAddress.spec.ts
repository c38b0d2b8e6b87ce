import { describe, expect, test } from '@jest/globals';
import { parseRedisUrl } from './redisAddress.js';

describe('the address of a Redis', () => {
  test.each(['redis://127.0.0.1:6379', 'rediss://user:pass@cache.example/3', 'redis://[::1]:6379'])(
    '%s is one server',
    (text) => {
      expect(parseRedisUrl(text)).toEqual({ kind: 'single', url: text });
    },
  );

  test('names the nodes of a cluster, with one login for all', () => {
    expect(
      parseRedisUrl('redis+cluster://app:p%40s:s@a.example,b.example:7001,[::1]:7002'),
    ).toEqual({
      kind: 'cluster',
      login: { username: 'app', password: 'p@s:s' },
      nodes: [
        { host: 'a.example', port: 6379 },
        { host: 'b.example', port: 7001 },
        { host: '::1', port: 7002 },
      ],
    });
    expect(parseRedisUrl('rediss+cluster://:only@a')).toEqual({
      kind: 'cluster',
      login: { password: 'only', tls: {} },
      nodes: [{ host: 'a', port: 6379 }],
    });
  });

  test('names sentinels, the primary that they watch, a database, and their own login', () => {
    expect(
      parseRedisUrl(
        'redis+sentinel://app:secret@a,b:26380/sessions/2?sentinel_username=s&sentinel_password=p%20w',
      ),
    ).toEqual({
      kind: 'sentinel',
      name: 'sessions',
      sentinels: [
        { host: 'a', port: 26_379 },
        { host: 'b', port: 26_380 },
      ],
      login: { username: 'app', password: 'secret', db: 2 },
      sentinelLogin: { sentinelUsername: 's', sentinelPassword: 'p w' },
    });
    expect(parseRedisUrl('rediss+sentinel://a/main')).toMatchObject({
      login: { tls: {} },
      sentinelLogin: { enableTLSForSentinelMode: true, sentinelTLS: {} },
    });
  });

  test.each([
    '',
    'redis:',
    'redis://',
    'redis://host/sessions',
    'redis://host/1/2',
    'http://a',
    'redis+cluster://',
    'redis+cluster://a,,b',
    'redis+cluster://a:0x1',
    'redis+cluster://a:99999',
    'redis+cluster://a/1',
    'redis+cluster://%zz:x@a',
    'redis+cluster://a?x=1',
    'redis+sentinel://a',
    'redis+sentinel://a/',
    'redis+sentinel://a/name/x',
    'redis+sentinel://a/name?x=1',
    'redis+sentinel://a/%zz',
    'redis+cluster://a@b@c',
    'redis+other://a',
  ])('%j is none', (text) => {
    expect(parseRedisUrl(text)).toBeNull();
  });
});
