import type { IncomingMessage } from 'node:http';
import { AuthError } from '@session-gateway/keycloak-auth';
import {
  authenticate,
  type Caller,
} from '../../../../../apps/api-gateway/src/sessions/authenticate.js';
import { Problem } from '../../../../../apps/api-gateway/src/request/errors.js';
import { parseTrustedProxies } from '../../../../../apps/api-gateway/src/request/forwarded.js';
import type { Gateway } from '../../../../../apps/api-gateway/src/gateway.js';
import { GatewayCookies } from '../../../../../apps/api-gateway/src/request/sessionCookie.js';
import { requestHeaders } from '../../../../../apps/api-gateway/src/proxy/upstreamHeaders.js';
import type { Random } from '../../harness/random.js';
import { bentText, joined } from './grammar.js';
import type { Surface, Trial } from './trial.js';

/** What only the gateway, or the hop itself, may say; `_` and other characters read as `-`. */
const GATEWAYS_OWN =
  /^(x-auth-.*|x-forwarded-.*|forwarded|x-real-ip|x-original-.*|proxy|(x-)?remote-user|x-http-method-override|true-client-ip|x-webauth-.*|connection|keep-alive|proxy-authenticate|proxy-authorization|proxy-connection|te|trailer|transfer-encoding|upgrade|host)$/;
const TRUSTED = ['10.0.0.1', '10.0.0.2'];
const TOKEN = 'the-gateways-own-token';

const NO_RULES = {
  path: '/',
  stripPrefix: false,
  dropHeaders: new Set<string>(),
  passHeaders: new Set<string>(),
};

/** Header fields on their way to an upstream. */
export function fieldsSurface(random: Random): Surface {
  const cookies = new GatewayCookies({ https: false, sameSite: 'lax' });
  const trustedProxies = parseTrustedProxies(TRUSTED.join(','));
  if (trustedProxies === null) throw new Error('the proxies are none');
  const publicUrl = new URL('https://app.example');
  const gateway = { cookies, config: { trustedProxies, publicUrl } } satisfies Partial<
    Record<keyof Gateway, unknown>
  > as unknown as Gateway;
  const names = [
    'X-Auth-Subject',
    'x-auth-roles',
    'X_Auth_Subject',
    'X-Auth.Subject',
    'X-Forwarded-For',
    'X-Forwarded-Host',
    'X-Forwarded-Proto',
    'X_Forwarded_For',
    'x-forwarded_proto',
    'Forwarded',
    'X-Real-IP',
    'X_Real_IP',
    'x-real.ip',
    'Authorization',
    'authorization',
    'Connection',
    'Keep-Alive',
    'TE',
    'Transfer-Encoding',
    'Transfer_Encoding',
    'Upgrade',
    'Proxy-Authorization',
    'Proxy-Connection',
    'Cookie',
    'Accept',
    'X-Custom',
    'Content-Type',
    'User-Agent',
    'X-Authentic',
    'X-Auth',
    'Host',
    'Trailer',
    'Proxy',
    'Remote-User',
    'REMOTE_USER',
    'X-Original-URI',
    'X-HTTP-Method-Override',
    'True-Client-IP',
    'X-Webauth-User',
  ];
  const values = [
    'x',
    '',
    '1.2.3.4',
    '192.0.2.9, 10.0.0.2',
    '10.0.0.1',
    '::1',
    '[2001:db8::1]:443',
    '::ffff:192.0.2.1',
    'unknown',
    '_hidden',
    'for=1.2.3.4;proto=https',
    'https',
    'http',
    'gopher',
    'app.example',
    'evil.example',
    'a b"',
    'close',
    'x-custom',
    'X-Custom, Accept',
    'authorization',
    'x-forwarded-for',
    'Bearer x',
    'Basic eA==',
    'session=abc',
    'a=b; session=abc; login-0123456789abcdef=y',
    'Session=abc',
    'session',
    '=',
    ',,,,',
    '1.2.3.4%eth0',
    '10.0.0.1:80',
  ];
  const unbent = (): string =>
    random.chance(0.05) ? joined(random, values, 2000) : random.pick(values);
  return {
    name: 'header fields',
    weight: 12,
    next() {
      const peer = random.pick([...TRUSTED, '192.0.2.7', '::ffff:10.0.0.1', '2001:db8::7']);
      const rawHeaders = Array.from({ length: 1 + random.below(8) }, () => [
        random.chance(0.15)
          ? token(bentText(random, random.pick(names), ['-', '_', '.', 'X', 'x-', '!']))
          : random.pick(names),
        value(
          random.chance(0.2)
            ? bentText(random, random.pick(values), [',', ';', '"', ' ', '%'])
            : unbent(),
        ),
      ]).flat();
      const headers = combined(rawHeaders);
      const request = {
        rawHeaders,
        headers,
        socket: { remoteAddress: peer },
      } as unknown as IncomingMessage;
      const authorization = random.pick([`Bearer ${TOKEN}`, null]);
      return {
        input: JSON.stringify([peer, rawHeaders, authorization]),
        run: () => requestHeaders(gateway, NO_RULES, request, { authorization }),
        documented: () => false,
        accepted: () => true,
        wrong: (outcome) =>
          fieldFault(outcome as string[], rawHeaders, peer, headers, authorization),
      } satisfies Trial;
    },
  };
}

function fieldFault(
  sent: string[],
  rawHeaders: string[],
  peer: string,
  headers: Record<string, string>,
  authorization: string | null,
): string | null {
  const told = new Map<string, string[]>();
  for (let i = 0; i < sent.length; i += 2) {
    const name = (sent[i] ?? '').toLowerCase();
    told.set(name, [...(told.get(name) ?? []), sent[i + 1] ?? '']);
  }
  const own = ['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'forwarded'];
  for (const [name, values] of told) {
    if (own.includes(name) && values.length === 1) continue;
    if (GATEWAYS_OWN.test(name.replace(/[^a-z0-9]/g, '-')))
      return "a field goes on that is the gateway's or this hop's to say";
    if (
      name.replace(/[^a-z0-9]/g, '-') === 'authorization' &&
      (values.length !== 1 || values[0] !== authorization)
    )
      return "a client's Authorization goes on beside the gateway's";
    if (
      name === 'cookie' &&
      values.some((value) =>
        value
          .split(';')
          .some((pair) =>
            /^(session|login-[\w-]{16})$/i.test(
              (pair.trim().replace(/^=\s*/, '').split('=', 1)[0] ?? '').trim(),
            ),
          ),
      )
    )
      return 'an own cookie goes to the upstream';
  }
  if (own.some((name) => told.get(name)?.length !== 1))
    return 'the upstream is not told whence a request comes';
  if (sent.some((text) => /[\r\n\0]/.test(text))) return 'a field breaks out of its line';
  const named = (headers['connection'] ?? '')
    .toLowerCase()
    .split(',')
    .map((name) => name.trim());
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] ?? '').toLowerCase();
    if (named.includes(name) && told.has(name) && !own.includes(name) && name !== 'authorization')
      return 'a field goes on that Connection names';
    if (name === 'accept' && !named.includes(name) && !told.has(name))
      return 'a harmless field gets lost';
  }
  // A client behind nobody that is trusted says nothing about itself.
  const address = peer.replace('::ffff:', '');
  const hops = (told.get('x-forwarded-for')?.[0] ?? '').split(', ');
  if (hops.at(-1) !== address) return "the peer's own address is not told";
  if (!TRUSTED.includes(address) && hops.length > 1)
    return "a stranger's word about itself is passed on";
  if (
    told.get('x-forwarded-host')?.[0] !== 'app.example' ||
    told.get('x-forwarded-proto')?.[0] !== 'https'
  )
    return "another host or scheme than PUBLIC_URL's is told";
  return hops.slice(1).every((hop) => TRUSTED.includes(hop))
    ? null
    : 'an address is believed on the word of someone who is not trusted';
}

/** A bearer token, a cookie, or both. */
export function authorizationSurface(random: Random): Surface {
  const cookies = new GatewayCookies({ https: false, sameSite: 'lax' });
  const gateway = {
    cookies,
    config: { publicUrl: new URL('https://app.example') },
    validator: {
      async validate(token: string) {
        if (token === TOKEN) return { subject: 'bearer', acr: null, roles: [], expiresAt: 0 };
        throw new AuthError('bearer_invalid', 'not the token');
      },
    },
    store: {
      find: async (cookie: string) =>
        cookie === 'good' ? { state: 'live', session: { id: 'session' } } : null,
      touch: () => undefined,
    },
  } satisfies Partial<Record<keyof Gateway, unknown>> as unknown as Gateway;
  const pieces = [
    'Bearer',
    'bearer',
    'BEARER',
    'Basic',
    'Negotiate',
    'Bearer ',
    ' ',
    '  ',
    '\t',
    ',',
    ', ',
    TOKEN,
    'x',
    '=',
    '"',
    ';',
    'eyJ',
    '\xa0',
    'é',
    ':',
    'token=',
    ' '.repeat(40),
  ];
  const someHeader = (): string | null => {
    if (random.chance(0.1)) return null;
    if (random.chance(0.2)) return `Bearer ${TOKEN}`;
    return value(
      random.chance(0.5) ? bentText(random, `Bearer ${TOKEN}`, pieces) : joined(random, pieces, 6),
    );
  };
  return {
    name: 'Authorization',
    weight: 10,
    next() {
      const header = someHeader();
      const cookie = random.pick(['session=good', 'session=bad', null]);
      const accepts = random.pick(['session', 'bearer', 'any'] as const);
      const headers: Record<string, string | null> = { authorization: header, cookie };
      const scheme = /^[!#$%&'*+.^_`|~0-9A-Za-z-]*/.exec(header ?? '')?.[0].toLowerCase();
      const claims = accepts !== 'session' && scheme === 'bearer';
      const bearer =
        claims && /^bearer +/i.test(header ?? '') && header?.replace(/^bearer +/i, '') === TOKEN;
      return {
        input: JSON.stringify({ accepts, header, cookie }),
        run: () =>
          authenticate(gateway, 'GET', (name) => headers[name] ?? null, { accepts, extend: false }),
        documented: (error) =>
          (error instanceof Problem &&
            ['session_not_found', 'bearer_invalid'].includes(error.code)) ||
          (error instanceof AuthError && error.code === 'bearer_invalid'),
        accepted: () => true,
        wrong(outcome) {
          const { kind } = outcome as Caller;
          if (kind === 'bearer')
            return bearer ? null : 'a bearer token is read from something that is none';
          if (claims) return 'a bearer token that is none falls back to the cookie';
          return cookie === 'session=good' && accepts !== 'bearer'
            ? null
            : 'a request passes for a session that it does not have';
        },
        wronglyRefused: () =>
          bearer || (!claims && accepts !== 'bearer' && cookie === 'session=good')
            ? 'a sound request is refused'
            : null,
      };
    },
  };
}

const token = (text: string): string => text.replace(/[^!#$%&'*+.^_`|~0-9A-Za-z-]/g, '') || 'x';
/** What HTTP parsers let through in a value: no control characters but the tab, no blanks around it. */
const value = (text: string): string =>
  text
    .replace(/[\0-\x08\n-\x1f\x7f]|[^\0-\xff]/g, '')
    .replace(/^[ \t]+/, '')
    .trimEnd();

/** As Node joins fields that come twice. */
function combined(rawHeaders: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] ?? '').toLowerCase();
    const known = headers[name];
    if (known === undefined) headers[name] = rawHeaders[i + 1] ?? '';
    else if (
      !['authorization', 'host', 'content-type', 'user-agent', 'proxy-authorization'].includes(name)
    )
      headers[name] = `${known}${name === 'cookie' ? '; ' : ', '}${rawHeaders[i + 1] ?? ''}`;
  }
  return headers;
}
