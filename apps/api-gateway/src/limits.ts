import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { RateLimits } from '@session-gateway/database';
import type { Config } from './config.js';
import { Problem } from './errors.js';
import { remoteAddress } from './remoteAddress.js';

/** Of the request line and all headers together; more ends the connection. */
export const MAX_HEADER_BYTES = 32_768;
const MAX_ADDRESS_BYTES = 8_192;
/** The gateway's own routes take forms of a few KB; each says how much of that it reads. */
const MAX_OWN_BODY_BYTES = 65_536;

/** @throws Problem `address_too_long`, `request_too_large` */
export function requireSaneSize(request: IncomingMessage, answeredHere: boolean): void {
  if ((request.url ?? '').length > MAX_ADDRESS_BYTES) throw new Problem('address_too_long');
  if (answeredHere && Number(request.headers['content-length'] ?? 0) > MAX_OWN_BODY_BYTES) throw new Problem('request_too_large');
}

/** Answers what Node's parser refuses as a problem too, and closes the connection. */
export function answerUnreadable(server: Server): void {
  server.on('clientError', (error: NodeJS.ErrnoException & { rawPacket?: Buffer }, socket: Duplex) => {
    if (error.code === 'ECONNRESET' || !socket.writable) {
      socket.destroy();
      return;
    }
    const problem = new Problem(unreadable(error));
    const body = problem.body();
    const headers = Object.entries({ ...problem.headers(), 'Content-Length': String(Buffer.byteLength(body)), Connection: 'close' });
    socket.end(`HTTP/1.1 ${problem.status} ${STATUS_TEXT[problem.status] ?? 'Refused'}\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body}`);
  });
}

const STATUS_TEXT: Readonly<Record<number, string>> = { 400: 'Bad Request', 408: 'Request Timeout', 414: 'URI Too Long', 431: 'Request Header Fields Too Large' };

function unreadable({ code, rawPacket }: { code?: string | undefined; rawPacket?: Buffer | undefined }): 'address_too_long' | 'headers_too_large' | 'request_timeout' | 'request_invalid' {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'request_timeout';
  if (code !== 'HPE_HEADER_OVERFLOW') return 'request_invalid';
  const [requestLine = ''] = (rawPacket?.toString('latin1') ?? '').split('\n', 1);
  return /^[A-Z]+ \//.test(requestLine) && requestLine.length > MAX_ADDRESS_BYTES ? 'address_too_long' : 'headers_too_large';
}

export interface RequestLimits {
  /** Answers unless the address has had its share. @throws Problem `rate_limited` */
  guard(request: Request, answer: () => Promise<Response>): Promise<Response>;
}

/**
 * Limits by address (IPv6: by /64) what makes the provider or cryptography work for somebody unknown. What counts are
 * logins that were begun and not finished, and callbacks and logout tokens that were refused: a busy office or a
 * provider that logs thousands out is not held up.
 */
export function createRequestLimits(config: Config['rateLimits'], limits: RateLimits): RequestLimits {
  const [logins, callbacks, logoutTokens] = [limits.limit('login', config.login), limits.limit('callback', config.callback), limits.limit('logout-token', config.logoutToken)];
  const refuseAfter = (seconds: number | null): void => {
    if (seconds !== null) throw new Problem('rate_limited', { retryAfterSeconds: seconds });
  };
  return {
    async guard(request, answer) {
      const route = LIMITED.exec(request.url)?.[1];
      if (route === undefined) return answer();
      const from = addressGroup(remoteAddress(request));
      if (route === 'login') {
        refuseAfter(await logins.take(from));
        const answered = await answer();
        if (answered.status !== 302) await logins.giveBack(from);
        return answered;
      }
      const refusals = route === 'callback' ? callbacks : logoutTokens;
      refuseAfter(await refusals.look(from));
      const answered = await answer();
      if (answered.status >= 400 && answered.status < 500) await refusals.take(from);
      else if (route === 'callback' && answered.status < 400) await logins.giveBack(from);
      return answered;
    },
  };
}

const LIMITED = /^https?:\/\/[^/]*\/auth\/(login|callback|backchannel-logout)\/?(?:[?#]|$)/;

/** Whom an address stands for: a subscriber holds a whole /64 of IPv6 (RFC 6177). */
export function addressGroup(address: string | null): string {
  if (address === null || !address.includes(':')) return address ?? 'unknown';
  const [head = '', tail] = (address.split('%')[0] ?? '').toLowerCase().split('::');
  const [front, back] = [head, tail ?? ''].map((part) => part.split(':').filter(Boolean)) as [string[], string[]];
  const groups = tail === undefined ? front : [...front, ...Array<string>(Math.max(0, 8 - front.length - back.length)).fill('0'), ...back];
  return `${groups.slice(0, 4).map((group) => group.replace(/^0+(?=.)/, '')).join(':')}::/64`;
}
