import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { describeWith, type HttpBrowser, until } from '@session-gateway/testkit';
import { calculateJwkThumbprint, decodeJwt, EmbeddedJWK, jwtVerify } from 'jose';
import { WebSocket } from 'undici';
import { problemCode, type Stack, startStack } from './stack.js';

const pem = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();

/** What a resource server that holds to RFC 9449 §7.1 says of a request: the token, or why it is refused. */
async function judged(
  { method, url, headers, nonce }: Seen,
  seenIds: Set<unknown>,
): Promise<string> {
  const [, token = ''] = /^DPoP (\S+)$/.exec(headers.authorization ?? '') ?? [];
  if (token === '') return `not a bound token: ${headers.authorization?.slice(0, 12)}`;
  const { payload, protectedHeader } = await jwtVerify(String(headers['dpop']), EmbeddedJWK, {
    typ: 'dpop+jwt',
    maxTokenAge: 60,
  });
  if (payload['htm'] !== method || payload['htu'] !== url)
    return `for another request: ${String(payload['htm'])} ${String(payload['htu'])}`;
  if (payload['ath'] !== createHash('sha256').update(token).digest('base64url'))
    return 'for another token';
  const { cnf } = decodeJwt<{ cnf?: { jkt?: string } }>(token);
  if (cnf?.jkt !== (await calculateJwkThumbprint(protectedHeader.jwk!))) return 'by another key';
  if (seenIds.has(payload.jti) || payload.jti === undefined) return 'used before';
  seenIds.add(payload.jti);
  return nonce === undefined || payload['nonce'] === nonce ? token : 'nonce';
}

interface Seen {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
  nonce: string | undefined;
}

describeWith(['keycloak'], 'access tokens that are bound to a key', () => {
  let stack: Stack;
  let browser: HttpBrowser;
  let api: Server;
  let origin: string;
  const oldKey = pem(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
  const nextKey = pem(generateKeyPairSync('ed25519').privateKey);
  const settings = { nonce: undefined as string | undefined };
  const verdicts: string[] = [];

  beforeAll(async () => {
    const seenIds = new Set<unknown>();
    const judge = async (seen: Seen): Promise<string> => {
      const verdict = await judged(seen, seenIds).catch(String);
      verdicts.push(verdict);
      return verdict;
    };
    api = createServer((request, response) => {
      void judge({
        method: request.method!,
        url: `${origin}${request.url!.split('?')[0]}`,
        headers: request.headers,
        nonce: settings.nonce,
      }).then((verdict) => {
        const accepted = verdict.startsWith('eyJ');
        if (settings.nonce !== undefined) response.setHeader('DPoP-Nonce', settings.nonce);
        if (!accepted)
          response.setHeader(
            'WWW-Authenticate',
            verdict === 'nonce'
              ? 'DPoP error="use_dpop_nonce", error_description="a nonce is needed"'
              : 'DPoP error="invalid_dpop_proof"',
          );
        response.writeHead(accepted ? 200 : 401).end(accepted ? 'yes' : verdict);
        request.resume();
      });
    });
    api.on('upgrade', (request, socket) => {
      void judge({
        method: 'GET',
        url: `${origin}${request.url!}`,
        headers: request.headers,
        nonce: settings.nonce,
      }).then((verdict) => {
        const nonce = settings.nonce === undefined ? '' : `DPoP-Nonce: ${settings.nonce}\r\n`;
        if (verdict === 'nonce')
          return socket.end(
            `HTTP/1.1 401 Unauthorized\r\n${nonce}WWW-Authenticate: DPoP error="use_dpop_nonce"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
          );
        const accept = createHash('sha1')
          .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
          .digest('base64');
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
        );
        // An unmasked text frame.
        socket.write(Buffer.concat([Buffer.from([0x81, 2]), Buffer.from('hi')]));
        return undefined;
      });
    });
    await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve));
    origin = `http://127.0.0.1:${(api.address() as AddressInfo).port}`;
    stack = await startStack({
      keycloak: { accessTokenLifespanSeconds: 300 },
      gateways: 2,
      redis: false,
      start: false,
    });
    const routes = JSON.stringify([
      { path: '/api', upstream: `${origin}/base`, stripPrefix: true, websocket: true },
    ]);
    for (const key of [oldKey, nextKey])
      await stack.startGateway({
        GATEWAY_ROUTES: routes,
        KEYCLOAK_DPOP_KEY: key,
        KEYCLOAK_USERINFO: 'true',
      });
    browser = await stack.login('demo');
  });
  beforeEach(() => {
    verdicts.length = 0;
    settings.nonce = undefined;
  });
  afterAll(async () => {
    await stack?.dispose();
    api?.closeAllConnections();
    api?.close();
  });

  test('reach the upstream with a proof for each request, of every method', async () => {
    for (let i = 0; i < 3; i++)
      expect((await browser.get(`${stack.url}/api/a%20b?q=${i}`)).text).toBe('yes');
    expect((await browser.post(`${stack.url}/api/x`, 'a body')).status).toBe(200);
    expect(verdicts.every((verdict) => verdict.startsWith('eyJ'))).toBe(true);
  });

  test('stay bound through a renewal', async () => {
    await browser.get(`${stack.url}/api/x`);
    expect((await browser.post(`${stack.url}/auth/refresh?force=true`)).status).toBe(200);
    expect((await browser.get(`${stack.url}/api/x`)).status).toBe(200);
    expect(new Set(verdicts).size).toBe(2);
  });

  test('a nonce that the upstream asks for costs one more request, once', async () => {
    settings.nonce = 'n1';
    for (let i = 0; i < 3; i++) expect((await browser.get(`${stack.url}/api/x`)).status).toBe(200);
    expect(verdicts.map((verdict) => verdict === 'nonce')).toEqual([true, false, false, false]);
    settings.nonce = 'n2';
    // A body has gone by then: the client hears of the refusal, and the next request knows the nonce.
    expect((await browser.post(`${stack.url}/api/x`, 'a body')).status).toBe(401);
    expect((await browser.post(`${stack.url}/api/x`, 'a body')).status).toBe(200);
  });

  test('a WebSocket is opened with a proof, and with the nonce that is asked for', async () => {
    settings.nonce = 'n3';
    const { port } = stack.gateways[0]!;
    const socket = new WebSocket(`ws://127.0.0.1:${port}/api/ws`, {
      headers: { cookie: `session=${browser.cookies.get('session')!.value}`, origin: stack.url },
    });
    const received: unknown[] = [];
    socket.addEventListener('message', ({ data }) => received.push(data));
    socket.addEventListener('error', () => received.push('error'));
    await until(() => received.length > 0, { what: 'a message' });
    socket.close();
    expect(received).toEqual(['hi']);
    expect(verdicts.map((verdict) => verdict === 'nonce')).toEqual([true, false]);
  });

  test("the client's own proof does not pass beside a token of ours", async () => {
    expect(
      (
        await browser.get(`${stack.url}/api/x`, {
          headers: { dpop: 'mine', authorization: 'DPoP mine' },
        })
      ).status,
    ).toBe(200);
  });

  test('a process with another key renews the tokens, once', async () => {
    const [, second] = stack.gateways;
    for (let i = 0; i < 3; i++)
      expect((await browser.get(`${second!.url}/api/x`)).status).toBe(200);
    expect(new Set(verdicts).size).toBe(1);
  });

  test('a stolen one is no use as a bearer token', async () => {
    await browser.get(`${stack.url}/api/x`);
    expect(verdicts).toEqual([expect.stringMatching(/^eyJ/)]);
    const answer = await browser.get(`${stack.url}/api/x`, {
      cookies: false,
      headers: { authorization: `Bearer ${verdicts[0]}` },
    });
    expect([answer.status, problemCode(answer)]).toEqual([401, 'bearer_invalid']);
  });
});
