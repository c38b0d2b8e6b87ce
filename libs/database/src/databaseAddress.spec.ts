import { describe, expect, test } from '@jest/globals';
import { parseDatabaseUrl } from './databaseAddress.js';

const read = (url: string) => parseDatabaseUrl(url, {});
/** What is wrong with it. */
const told = (url: string): string | undefined => {
  try {
    read(url);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
};

describe('an address', () => {
  test('names a user, a host and a database, each of them escaped', () => {
    expect(
      read('postgresql://a%40b:p%2Fw@db.example:6543/app%20x?application_name=shop'),
    ).toMatchObject({
      user: 'a@b',
      password: 'p/w',
      database: 'app x',
      hosts: [{ host: 'db.example', port: 6543 }],
      applicationName: 'shop',
      sslMode: 'disable',
      session: 'any',
      ignored: [],
    });
    expect(read('postgres://u@[::1]:1/x').hosts).toEqual([{ host: '::1', port: 1 }]);
  });

  test('may lead through a Unix socket', () => {
    for (const url of [
      'postgresql:///app?host=/run/postgresql&sslmode=require',
      'postgresql://%2Frun%2Fpostgresql/app',
    ])
      expect(read(url)).toMatchObject({
        database: 'app',
        hosts: [{ host: '/run/postgresql', port: 5432 }],
        sslMode: 'disable',
      });
  });

  test('without a host leads to PGHOST, else to the PostgreSQL of this machine', () => {
    expect(
      parseDatabaseUrl('postgresql:///app', { PGHOST: '/srv/pg,b', PGPORT: '6000,6001' }).hosts,
    ).toEqual([
      { host: '/srv/pg', port: 6000 },
      { host: 'b', port: 6001 },
    ]);
    for (const url of ['postgresql:///app', 'postgresql://u@', 'postgres://u:p@/app?port=1'])
      expect(read(url).hosts).toEqual([
        { host: expect.stringMatching(/^(localhost|\/.*)$/), port: url.endsWith('1') ? 1 : 5432 },
      ]);
    expect(read('postgresql://h:/x').hosts).toEqual([{ host: 'h', port: 5432 }]);
  });

  test('may name several hosts, and which of them is meant', () => {
    expect(read('postgresql://u@a:1,b,[::1]:3/x?target_session_attrs=read-write')).toMatchObject({
      hosts: [
        { host: 'a', port: 1 },
        { host: 'b', port: 5432 },
        { host: '::1', port: 3 },
      ],
      session: 'read-write',
    });
    expect(read('postgresql:///x?host=a,b&port=1,2').hosts).toEqual([
      { host: 'a', port: 1 },
      { host: 'b', port: 2 },
    ]);
  });

  test.each([
    ['sslmode=require', { sslMode: 'require', sslRootCert: undefined }],
    ['sslmode=no-verify', { sslMode: 'require' }],
    ['sslmode=verify-full&sslrootcert=/ca', { sslMode: 'verify-full', sslRootCert: '/ca' }],
    ['sslrootcert=system', { sslMode: 'verify-full', sslRootCert: 'system' }],
    ['sslmode=require&sslcert=/c&sslkey=/k', { sslMode: 'require', sslCert: '/c', sslKey: '/k' }],
    // Prisma's: its sslcert is a CA.
    [
      'sslmode=require&sslaccept=strict&sslcert=/ca',
      { sslMode: 'verify-full', sslRootCert: '/ca', sslCert: undefined },
    ],
    ['ssl=true', { sslMode: 'verify-full' }],
    ['sslmode=require&channel_binding=require', { channelBinding: true }],
    ['schema=public&connection_limit=5', { schema: 'public', connectionLimit: 5 }],
    ['pgbouncer=true&pool_timeout=3', { ignored: ['pgbouncer', 'pool_timeout'] }],
  ])('with %s is read as libpq and Prisma mean it', (query, expected) => {
    expect(read(`postgresql://u@h/x?${query}`)).toMatchObject(expected);
  });

  test.each([
    ['connection_limit', 'abc 0 -1 1.5 1e3 99999999999', '17'],
    ['sslmode', 'on Require', 'require'],
    ['sslaccept', 'yes', 'accept_invalid_certs'],
    ['ssl', 'require', 'false'],
    ['sslnegotiation', 'fast', 'postgres'],
    ['channel_binding', 'true', 'prefer'],
    ['target_session_attrs', 'master', 'any'],
    ['port', '54x2 0 65536 1,2', '6543'],
    // These have no effect here, and mistakes in them are told all the same.
    ['pool_timeout', '10s -2', '10'],
    ['connect_timeout', 'soon', '0'],
    ['socket_timeout', 'x', '5'],
    ['statement_cache_size', 'none', '0'],
    ['keepalives', 'on', '1'],
    ['pgbouncer', 'yes', 'true'],
    ['gssencmode', 'on', 'disable'],
    ['load_balance_hosts', 'true', 'random'],
    ['sslcertmode', 'never', 'allow'],
  ])(
    'is refused where its %s cannot be what it says, by name and never by value',
    (name, wrong, right) => {
      for (const value of wrong.split(' ')) {
        const message = told(`postgresql://u@h/x?${name}=${value}`);
        expect(message).toMatch(new RegExp(`^has a (parameter )?${name} `));
        expect(message).not.toContain(`${value} `);
      }
      expect(told(`postgresql://u@h/x?${name}=${right}`)).toBeUndefined();
      // Empty is as if it were not there.
      expect(told(`postgresql://u@h/x?${name}=`)).toBeUndefined();
    },
  );

  test('is refused where PGSSLMODE is no mode, or TLS is to be begun that may not be', () => {
    expect(() => parseDatabaseUrl('postgresql://u@h/x', { PGSSLMODE: 'yes' })).toThrow('PGSSLMODE');
    expect(told('postgresql://u@h/x?sslnegotiation=direct')).toContain('needs sslmode');
    expect(told('postgresql://u@h/x?sslnegotiation=direct&sslmode=require')).toBeUndefined();
  });

  test.each([
    'mysql://u@h/x',
    'postgresql://',
    'postgresql:///',
    'postgresql://u:ses/ame@h/x',
    'postgresql://u@h:port/x',
    'postgresql://u@h:99999/x',
    'postgresql://u@h/x y',
    'postgresql:\\\\u@h/x',
    'postgresql://u@h/x?sslmode=on',
    'postgresql://u@h/x?sslmode=require&sslrootcert=system',
    'postgresql://u@h/x?target_session_attrs=master',
  ])('is refused where it is none: %s', (url) => {
    expect(() => read(url)).toThrow(/^(is not a URL of the form postgresql:|has )/);
  });
});
