import { createServer, type Server } from 'node:http';
import { connect } from 'node:net';
import { afterAll, describe, expect, test } from '@jest/globals';
import { Problem } from '../request/errors.js';
import { hasTooManyFields, MAX_HEADER_BYTES, requireSaneSize } from '../request/limits.js';
import { readBrand } from '../settings/brand.js';
import { answerUnreadable } from './unreadable.js';

const publicUrl = new URL('https://app.example');

describe('the size of a request', () => {
  let server: Server | undefined;
  afterAll(() => void server?.close());

  test('is bounded', async () => {
    server = createServer({ maxHeaderSize: MAX_HEADER_BYTES }, (request, response) => {
      try {
        if (hasTooManyFields(request)) throw new Problem('headers_too_large');
        requireSaneSize(request, true);
        response.end('fine');
      } catch (problem) {
        response
          .writeHead(
            (problem as { status: number }).status,
            (problem as { headers(): Record<string, string> }).headers(),
          )
          .end((problem as { body(): string }).body());
      }
    });
    answerUnreadable(
      server,
      { earlierAnswers: async () => null, isAnswered: () => false },
      { publicUrl, brand: readBrand({}, publicUrl, []) },
    );
    const listening = server;
    await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
    const { port } = listening.address() as { port: number };
    const send = (text: string): Promise<string> =>
      new Promise((resolve) => {
        let answer = '';
        const socket = connect(port, '127.0.0.1', () => socket.write(text));
        socket
          .on('data', (piece) => (answer += String(piece)))
          .on('close', () =>
            resolve(
              `${/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? ''} ${/("code":|<main data-code=)"(\w+)"/.exec(answer)?.[2] ?? ''}${answer.includes('text/html') ? ' page' : ''}`,
            ),
          )
          .on('error', () => undefined);
      });
    const rest = 'Host: x\r\nConnection: close\r\n';
    expect(await send(`GET / HTTP/1.1\r\n${rest}\r\n`)).toBe('200 ');
    expect(await send(`GET /${'a'.repeat(10_000)} HTTP/1.1\r\n${rest}\r\n`)).toBe(
      '414 address_too_long',
    );
    expect(await send(`GET /${'a'.repeat(60_000)} HTTP/1.1\r\n${rest}\r\n`)).toBe(
      '414 address_too_long',
    );
    expect(await send(`GET / HTTP/1.1\r\n${rest}X: ${'a'.repeat(40_000)}\r\n\r\n`)).toBe(
      '431 headers_too_large',
    );
    const cookies = `Sec-Fetch-Mode: navigate\r\nCookie: ${'a=b; '.repeat(8_000)}\r\n\r\n`;
    expect(await send(`GET / HTTP/1.1\r\n${rest}${cookies}`)).toBe('431 headers_too_large page');
    expect(await send(`POST / HTTP/1.1\r\n${rest}${cookies}`)).toBe('431 headers_too_large');
    expect(await send(`POST / HTTP/1.1\r\n${rest}Content-Length: 100000\r\n\r\n`)).toBe(
      '413 request_too_large',
    );
    expect(await send(`GET / HTTP/1.1\r\n${rest}${'X: y\r\n'.repeat(197)}\r\n`)).toBe('200 ');
    expect(await send(`GET / HTTP/1.1\r\n${rest}${'X: y\r\n'.repeat(198)}\r\n`)).toBe(
      '431 headers_too_large',
    );
    expect(await send('nonsense\r\n\r\n')).toBe('400 request_invalid');
  });
});
