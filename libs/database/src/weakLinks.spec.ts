import { describe, expect, test } from '@jest/globals';
import { weakLinks } from './weakLinks.js';

const of = (databaseUrl?: string, redisUrl?: string, env = {}): string[] =>
  weakLinks({ databaseUrl, redisUrl }, env);
const NO_TLS = 'reaches another host without TLS';
const ANY = 'takes any certificate';
const OPEN = 'names no password';

describe('a weak link', () => {
  test.each([
    ['postgresql://u:secret-1@db.example.com/s', NO_TLS],
    ['postgres://u:secret-1@10.0.0.7/s?sslmode=disable', NO_TLS],
    ['postgres://u:secret-1@10.0.0.7/s?ssl=0', NO_TLS],
    ['postgresql://u:secret-1@localhost/s?host=db.example.com', NO_TLS],
    ['postgresql://u:secret-1@db.example.com/s?sslmode=no-verify', ANY],
    ['postgresql://u:secret-1@db.example.com/s?uselibpqcompat=true&sslmode=require', ANY],
    ['postgresql://u:secret-1@db.example.com/s?sslmode=verify-full', null],
    ['postgresql://u:secret-1@db.example.com/s?ssl=true', null],
    ['postgresql://u:secret-1@localhost/s', null],
    ['postgresql://u:secret-1@127.0.0.2:5433/s', null],
    ['postgresql://u:secret-1@[::1]/s', null],
    ['postgresql://u:secret-1@/s?host=/var/run/postgresql', null],
    ['postgresql://u:secret-1@%2Fvar%2Frun%2Fpostgresql/s', null],
  ])('to PostgreSQL, as pg reads %s, is %s', (url, weak) => {
    const found = of(url);
    expect(found).toEqual(weak === null ? [] : [expect.stringContaining(weak)]);
    expect(found.join()).not.toMatch(/secret|example|10\.0/);
  });

  test.each([
    ['redis://:secret-1@cache.example.com', [NO_TLS]],
    ['redis://cache.example.com', [NO_TLS, OPEN]],
    ['rediss://user@cache.example.com', [OPEN]],
    ['rediss://:secret-1@cache.example.com', []],
    ['redis://localhost', [OPEN]],
    ['redis://:secret-1@127.0.0.1:6380/1', []],
    ['redis+cluster://:secret-1@127.0.0.1:7000,10.0.0.7:7000', [NO_TLS]],
    ['rediss+cluster://:secret-1@10.0.0.7:7000,10.0.0.8:7000', []],
    ['redis+sentinel://10.0.0.7,10.0.0.8/main', [NO_TLS, OPEN]],
    ['rediss+sentinel://:secret-1@10.0.0.7,10.0.0.8/main', []],
  ])('to Redis, of %s, is %p', (url, weak) => {
    const found = of(undefined, url);
    expect(found).toEqual(weak.map((words) => expect.stringContaining(words)));
    expect(found.join()).not.toMatch(/secret|example|10\.0/);
  });

  test('is every one where Node takes any certificate, and none where nothing is set', () => {
    expect(
      of('postgresql://u@db.example.com/s?ssl=true', 'rediss://:p@cache.example.com', {
        NODE_TLS_REJECT_UNAUTHORIZED: '0',
      }),
    ).toEqual([expect.stringContaining(ANY), expect.stringContaining(ANY)]);
    expect(of()).toEqual([]);
  });
});
