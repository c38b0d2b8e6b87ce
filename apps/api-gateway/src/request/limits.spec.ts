import { openRateLimits } from '@session-gateway/database';
import { describe, expect, test } from '@jest/globals';
import type { Problem } from './errors.js';
import { addressGroup, createRequestLimits } from './limits.js';
import { noteRemoteAddress } from './remoteAddress.js';

describe('an address', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    [null, 'unknown'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
    ['2001:0DB8:0001:0002::', '2001:db8:1:2::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['2001:db8::1:0:0:9', '2001:db8:0:0::/64'],
  ])('%s counts as %s', (address, group) => expect(addressGroup(address)).toBe(group));
});

describe('a limited route', () => {
  const limits = openRateLimits(undefined);
  const { guard } = createRequestLimits({ login: 2, callback: 2, logoutToken: 2 }, limits);
  const ask = async (
    path: string,
    status: number,
    address: string,
    voucher: string | null = null,
  ): Promise<number | string> => {
    const request = new Request(`http://gateway${path}`);
    noteRemoteAddress(request, address);
    return guard(
      request,
      async () => new Response(null, { status }),
      async () => voucher,
    ).then(
      (answer) => answer.status,
      (error: unknown) => {
        const problem = error as Problem;
        return `${problem.code} ${String((problem.retryAfterSeconds ?? 0) > 0)}`;
      },
    );
  };
  const times = async (
    count: number,
    path: string,
    status: number,
    address: string,
  ): Promise<(number | string)[]> => {
    const seen = [];
    for (let i = 0; i < count; i++) seen.push(await ask(path, status, address));
    return seen;
  };

  test('takes logins that are finished without end, and few that are not', async () => {
    for (let i = 0; i < 10; i++)
      expect([
        await ask('/auth/login?return_to=/', 302, 'a'),
        await ask('/auth/callback?code=1', 302, 'a'),
      ]).toEqual([302, 302]);
    expect(await times(3, '/auth/login/', 302, 'a')).toEqual([302, 302, 'rate_limited true']);
    expect(await ask('/auth/login', 302, 'b')).toBe(302);
    expect(await times(5, '/auth/login?return_to=//evil', 400, 'c')).toEqual([
      400, 400, 400, 400, 400,
    ]);
  });

  test('counts a callback that logs nobody in as refused, and its login as unfinished', async () => {
    expect(await times(3, '/auth/callback?code=1', 303, 'h')).toEqual([
      303,
      303,
      'rate_limited true',
    ]);
    for (const status of [303, 200]) {
      const address = `i${status}`;
      for (let i = 0; i < 2; i++) {
        expect(await ask('/auth/login', 302, address)).toBe(302);
        expect(await ask('/auth/callback?code=1', status, address)).toBe(status);
      }
      expect(await ask('/auth/login', 302, address)).toBe('rate_limited true');
    }
  });

  test('takes few callbacks and logout tokens that are refused, and every outage of ours', async () => {
    expect(await times(3, '/auth/callback?code=1', 400, 'd')).toEqual([
      400,
      400,
      'rate_limited true',
    ]);
    expect(await times(3, '/auth/backchannel-logout', 400, 'd')).toEqual([
      400,
      400,
      'rate_limited true',
    ]);
    expect(await times(5, '/auth/backchannel-logout', 200, 'e')).toEqual([200, 200, 200, 200, 200]);
    expect(await times(5, '/auth/callback', 503, 'e')).toEqual([503, 503, 503, 503, 503]);
  });

  test('lets pass over the limit, a few times, what shows whom it is from', async () => {
    for (const path of ['/auth/callback?code=1', '/auth/backchannel-logout']) {
      expect(await times(3, path, 400, 'g')).toEqual([400, 400, 'rate_limited true']);
      expect(await ask(path, 200, 'g', `${path} one`)).toBe(200);
      const again = [];
      for (let i = 0; i < 6; i++) again.push(await ask(path, 400, 'g', `${path} two`));
      expect(again).toEqual([400, 400, 400, 400, 400, 'rate_limited true']);
      expect(await times(1, path, 400, 'g')).toEqual(['rate_limited true']);
    }
  });

  test('is no other route', async () => {
    expect(await times(5, '/auth/session?x=/auth/login', 401, 'f')).toEqual([
      401, 401, 401, 401, 401,
    ]);
  });
});
