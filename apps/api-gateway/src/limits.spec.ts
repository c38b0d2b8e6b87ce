import { createServer, type Server } from 'node:http';
import { connect } from 'node:net';
import { openRateLimits } from '@session-gateway/database';
import { afterAll, describe, expect, test } from '@jest/globals';
import { addressGroup, answerUnreadable, createRequestLimits, MAX_HEADER_BYTES, requireSaneSize } from './limits.js';
import { noteRemoteAddress } from './remoteAddress.js';

describe('an address', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'], [null, 'unknown'], ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'], ['2001:db8:1:2::9', '2001:db8:1:2::/64'], ['2001:0DB8:0001:0002::', '2001:db8:1:2::/64'],
    ['::1', '0:0:0:0::/64'], ['fe80::1%eth0', 'fe80:0:0:0::/64'], ['2001:db8::1:0:0:9', '2001:db8:0:0::/64'],
  ])('%s counts as %s', (address, group) => expect(addressGroup(address)).toBe(group));
});

describe('a limited route', () => {
  const limits = openRateLimits(undefined);
  const { guard } = createRequestLimits({ login: 2, callback: 2, logoutToken: 2 }, limits);
  const ask = async (path: string, status: number, address: string): Promise<number | string> => {
    const request = new Request(`http://gateway${path}`);
    noteRemoteAddress(request, address);
    return guard(request, async () => new Response(null, { status })).then((answer) => answer.status, (problem: { code: string; retryAfterSeconds: number }) => `${problem.code} ${problem.retryAfterSeconds > 0}`);
  };
  const times = async (count: number, path: string, status: number, address: string): Promise<(number | string)[]> => {
    const seen = [];
    for (let i = 0; i < count; i++) seen.push(await ask(path, status, address));
    return seen;
  };

  test('takes logins that are finished without end, and few that are not', async () => {
    for (let i = 0; i < 10; i++) expect([await ask('/auth/login?return_to=/', 302, 'a'), await ask('/auth/callback?code=1', 302, 'a')]).toEqual([302, 302]);
    expect(await times(3, '/auth/login/', 302, 'a')).toEqual([302, 302, 'rate_limited true']);
    expect(await ask('/auth/login', 302, 'b')).toBe(302);
    expect(await times(5, '/auth/login?return_to=//evil', 400, 'c')).toEqual([400, 400, 400, 400, 400]);
  });

  test('takes few callbacks and logout tokens that are refused, and every outage of ours', async () => {
    expect(await times(3, '/auth/callback?code=1', 400, 'd')).toEqual([400, 400, 'rate_limited true']);
    expect(await times(3, '/auth/backchannel-logout', 400, 'd')).toEqual([400, 400, 'rate_limited true']);
    expect(await times(5, '/auth/backchannel-logout', 200, 'e')).toEqual([200, 200, 200, 200, 200]);
    expect(await times(5, '/auth/callback', 503, 'e')).toEqual([503, 503, 503, 503, 503]);
  });

  test('is no other route', async () => {
    expect(await times(5, '/auth/session?x=/auth/login', 401, 'f')).toEqual([401, 401, 401, 401, 401]);
  });
});

describe('the size of a request', () => {
  let server: Server | undefined;
  afterAll(() => void server?.close());

  test('is bounded', async () => {
    server = createServer({ maxHeaderSize: MAX_HEADER_BYTES }, (request, response) => {
      try {
        requireSaneSize(request, true);
        response.end('fine');
      } catch (problem) {
        response.writeHead((problem as { status: number }).status, (problem as { headers(): Record<string, string> }).headers()).end((problem as { body(): string }).body());
      }
    });
    answerUnreadable(server);
    const listening = server;
    await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
    const { port } = listening.address() as { port: number };
    const send = (text: string): Promise<string> => new Promise((resolve) => {
      let answer = '';
      const socket = connect(port, '127.0.0.1', () => socket.write(text));
      socket.on('data', (piece) => (answer += String(piece))).on('close', () => resolve(`${/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? ''} ${/"code":"(\w+)"/.exec(answer)?.[1] ?? ''}`)).on('error', () => undefined);
    });
    const rest = 'Host: x\r\nConnection: close\r\n';
    expect(await send(`GET / HTTP/1.1\r\n${rest}\r\n`)).toBe('200 ');
    expect(await send(`GET /${'a'.repeat(10_000)} HTTP/1.1\r\n${rest}\r\n`)).toBe('414 address_too_long');
    expect(await send(`GET /${'a'.repeat(60_000)} HTTP/1.1\r\n${rest}\r\n`)).toBe('414 address_too_long');
    expect(await send(`GET / HTTP/1.1\r\n${rest}X: ${'a'.repeat(40_000)}\r\n\r\n`)).toBe('431 headers_too_large');
    expect(await send(`POST / HTTP/1.1\r\n${rest}Content-Length: 100000\r\n\r\n`)).toBe('413 request_too_large');
    expect(await send('nonsense\r\n\r\n')).toBe('400 request_invalid');
  });
});
