import { Problem } from '../../../../../apps/api-gateway/src/request/errors.js';
import { localPath } from '../../../../../apps/api-gateway/src/request/returnTo.js';
import { requireSameOrigin } from '../../../../../apps/api-gateway/src/request/sameOrigin.js';
import { GatewayCookies } from '../../../../../apps/api-gateway/src/request/sessionCookie.js';
import type { Random } from '../../harness/random.js';
import { bentText, joined } from './grammar.js';
import type { Surface } from './trial.js';

const isProblem =
  (...codes: string[]) =>
  (error: unknown): boolean =>
    error instanceof Problem && codes.includes(error.code);
const never = (): boolean => false;
const notNull = (outcome: unknown): boolean => outcome !== null;

/**
 * Cookie headers as they arrive: a byte a character (Latin-1), without the control characters that HTTP parsers refuse.
 */
export function cookieSurface(
  random: Random,
  read = (cookies: GatewayCookies, header: string): string | null => cookies.session(header),
): Surface {
  const kinds = [true, false].map((https) => new GatewayCookies({ https, sameSite: 'lax' }));
  const pieces = [
    'session',
    'Session',
    'SESSION',
    '__Host-session',
    '__host-session',
    '__Secure-session',
    'session ',
    ' session',
    'sess',
    'sessions',
    '"session"',
    '%73ession',
    'login-x',
    'login-0123456789abcdef',
    '__Host-login-0123456789abcdef',
    'a',
    '=',
    '=',
    '=',
    ';',
    '; ',
    '; ',
    ';;',
    ',',
    ' ',
    '\t',
    '"',
    '==',
    '\xa0',
    '\x85',
    '\xad',
    '\xff',
    'Ã©',
    '{"x":1}',
    '$Version=1',
    'path=/',
    random.bytes(32).toString('base64url'),
  ];
  return {
    name: 'session cookie',
    weight: 15,
    next() {
      const cookies = random.pick(kinds);
      const name = cookies.sessionName;
      const whole = `a=b; ${name}=${random.bytes(32).toString('base64url')}; login-0123456789abcdef=y`;
      const choice = random.below(20);
      const hostile = (): string =>
        choice < 12
          ? bentText(random, whole, pieces).replace(/[\0-\x08\n-\x1f\x7f]|[^\0-\xff]/g, '')
          : joined(random, pieces, 12);
      const header = choice === 0 ? whole : hostile();
      // RFC 6265bis §5.6: a name ends at the first `=`; space and tab around it are no part of it, nothing else is cut.
      const values = header.split(';').flatMap((part) => {
        const equals = part.indexOf('=');
        return equals !== -1 && bare(part.slice(0, equals)) === name
          ? [bare(part.slice(equals + 1))]
          : [];
      });
      return {
        input: JSON.stringify(header),
        run: () => ({ value: read(cookies, header), upstream: cookies.withoutOwn(header) }),
        documented: isProblem('cookie_ambiguous'),
        accepted: (outcome) => (outcome as { value: string | null }).value !== null,
        wrong(outcome) {
          const { value, upstream } = outcome as { value: string | null; upstream: string | null };
          if (values.length > 1) return 'two session cookies are decided by order';
          if (value !== null && value !== values[0])
            return 'the session cookie is read from something that is none';
          if (value !== null && !/^[!-~]{1,255}$/.test(value))
            return 'a value that is none is taken';
          if (value === null && /^[\w-]{43}$/.test(values[0] ?? ''))
            return 'a sound session cookie is not seen';
          const own = (upstream ?? '')
            .split(';')
            .map((part) => bare(part.split('=', 1)[0] ?? '').toLowerCase())
            .filter(
              (each) =>
                each === name.toLowerCase() ||
                (each.startsWith(cookies.loginPrefix.toLowerCase()) &&
                  /^[\w-]{16}$/.test(each.slice(cookies.loginPrefix.length))),
            );
          return own.length > 0 ? 'an own cookie goes to the upstream' : null;
        },
        wronglyRefused: () => (values.length > 1 ? null : 'one session cookie is refused as two'),
      };
    },
  };
}

const bare = (text: string): string => text.replace(/^[ \t]+|[ \t]+$/g, '');

/** The headers that prove same origin. */
export function originSurface(random: Random, check = requireSameOrigin): Surface {
  const origins = ['https://app.example', 'http://localhost:3000'];
  return {
    name: 'same-origin headers',
    weight: 8,
    next() {
      const own = random.pick(origins);
      const method = random.pick([
        'GET',
        'HEAD',
        'OPTIONS',
        'TRACE',
        'POST',
        'PUT',
        'DELETE',
        'PATCH',
        'CONNECT',
        'PROPFIND',
        'POST ',
        '',
        'GETX',
      ]);
      const site = random.chance(0.4)
        ? null
        : random.pick([
            'same-origin',
            'same-site',
            'cross-site',
            'none',
            '',
            'Same-Origin',
            'same-origin, cross-site',
            ' same-origin',
            'same-origin\0',
          ]);
      const someOrigin = (): string =>
        random.chance(0.3)
          ? bentText(random, own, ['.', '/', ':443', ':80', 'null', '@', 'evil.', ',', ' '])
          : random.pick([
              own,
              'null',
              '',
              `${own}/`,
              `${own}.evil.example`,
              own.toUpperCase(),
              `${own}, ${own}`,
              'https://evil.example',
            ]);
      const origin = random.chance(0.4) ? null : someOrigin();
      const csrf = random.chance(0.5) ? null : random.pick(['1', '0', '', '1, 1', 'true', ' 1']);
      const headers: Record<string, string | null> = {
        'sec-fetch-site': site,
        origin,
        'x-csrf': csrf,
      };
      const safe = ['GET', 'HEAD', 'OPTIONS', 'TRACE'].includes(method);
      const proofs = [
        site === null ? null : site === 'same-origin',
        origin === null ? null : origin === own || (origin === 'null' && site === 'same-origin'),
      ].filter((proof) => proof !== null);
      const allowed = safe || (proofs.length === 0 ? csrf === '1' : proofs.every((proof) => proof));
      return {
        input: JSON.stringify({ method, own, ...headers }),
        run: () => check(method, (name) => headers[name] ?? null, own),
        documented: isProblem('csrf_rejected'),
        accepted: () => true,
        wrong: () => (allowed ? null : 'a request without proof of same origin passes'),
        wronglyRefused: () => (allowed ? 'a request of the same origin is refused' : null),
      };
    },
  };
}

/** `check`: what is tried, so that a known-bad one can be tried too. */
export function returnToSurface(
  random: Random,
  check: (text: string, origin: string) => string | null = localPath,
): Surface {
  const pieces = [
    '/',
    '/',
    '//',
    '\\',
    '.',
    '..',
    './',
    '../',
    '@',
    ':',
    '?',
    '#',
    '%2f',
    '%2F',
    '%5c',
    '%2e',
    '%09',
    '%0a',
    '%00',
    '\t',
    '\n',
    '\r',
    '\0',
    ' ',
    '\u2028',
    '\u3002',
    '\uff0f',
    '\uff3c',
    '\u2215',
    '\u00ad',
    '\ufeff',
    'evil.example',
    'app.example',
    'localhost',
    'https:',
    'http:',
    'javascript:alert(1)',
    'data:,x',
    'a',
    'path',
    '?next=',
    ';',
    '&',
    '[::1]',
    '127.0.0.1',
    '%',
    '\ud800',
    '|',
    '"',
    '<',
    '>',
    "'",
    '`',
    '{',
    '^',
  ];
  const origins = [
    'https://app.example',
    'http://localhost:3000',
    'https://app.example:8443',
    'https://xn--bcher-kva.example',
  ];
  return {
    name: 'return_to',
    weight: 20,
    next() {
      const origin = random.pick(origins);
      const whole = random.pick([
        '/',
        '/a/b?c=d#e',
        '/items/1',
        '/%E2%82%AC?x=%2F',
        `${origin}/a`,
        '/a/../b',
      ]);
      const hostile = (): string =>
        random.chance(0.4)
          ? bentText(random, whole, pieces)
          : random.pick(['', '/', '/', '/']) + joined(random, pieces, 8);
      const text = random.chance(0.05) ? whole : hostile();
      return {
        input: JSON.stringify([text, origin]),
        run: () => check(text, origin),
        documented: never,
        accepted: notNull,
        wrong: (path) => leaves(path as string | null, origin),
      };
    },
  };
}

/** Whether a browser that is sent to `path` by a page of `origin` ends up elsewhere, by the WHATWG URL parser. */
function leaves(path: string | null, origin: string): string | null {
  if (path === null) return null;
  for (const base of [
    origin,
    `${origin}/auth/callback?code=x`,
    `${origin}/a/b/`,
    `${origin}//c/d`,
  ]) {
    if (!URL.canParse(path, base)) return 'an accepted path is no URL';
    const { origin: reached, username, password } = new URL(path, base);
    if (reached !== origin || username !== '' || password !== '')
      return 'an accepted path leaves the origin';
  }
  // What a Location header, or a browser that removes tabs and newlines and turns backslashes,
  // might make something else of.
  return /^\/(?![/\\])[!-~]*$/.test(path) && !path.includes('\\')
    ? null
    : 'an accepted path is not plain ASCII below one slash';
}
