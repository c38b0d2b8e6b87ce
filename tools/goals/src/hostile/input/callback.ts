import { createKeyring, KeycloakClient, TokenEncryption } from '@session-gateway/keycloak-auth';
import { startProviderStub } from '@session-gateway/testkit';
import { Elysia } from 'elysia';
import { WebStandardAdapter } from 'elysia/adapter/web-standard';
import { problemOf } from '../../../../../apps/api-gateway/src/request/errors.js';
import type { Gateway } from '../../../../../apps/api-gateway/src/gateway.js';
import {
  LOGIN_STATE_SECONDS,
  loginCookieName,
  sealLoginState,
} from '../../../../../apps/api-gateway/src/login/loginState.js';
import { createMetrics } from '../../../../../apps/api-gateway/src/observability/metrics.js';
import { loginRoutes } from '../../../../../apps/api-gateway/src/login/loginRoutes.js';
import { GatewayCookies } from '../../../../../apps/api-gateway/src/request/sessionCookie.js';
import type { Random } from '../../harness/random.js';
import { bentText, joined } from './grammar.js';
import type { Surface } from './trial.js';

interface Answer {
  status: number;
  code: string | null;
  cookies: string[];
  location: string | null;
}

/**
 * Queries of `GET /auth/callback`, with the login state of a login under way, against the real route, client and a
 * provider that holds each code against its challenge. Storage alone is left out: a session is what would be stored.
 */
export async function callbackSurface(
  random: Random,
): Promise<Surface & { close(): Promise<void> }> {
  const provider = await startProviderStub();
  const publicUrl = new URL('http://localhost:3000');
  const redirectUri = `${publicUrl.origin}/auth/callback`;
  const client = new KeycloakClient(provider);
  const cookies = new GatewayCookies({ https: false, sameSite: 'lax' });
  const encryption = new TokenEncryption({
    keyring: createKeyring({
      keyringJson: JSON.stringify({
        primary: 'k1',
        keys: [{ kid: 'k1', key: random.bytes(32).toString('base64url') }],
      }),
    }),
  });
  const login = loginRoutes({
    config: { publicUrl, sessionAbsoluteTimeoutMs: 3_600_000, sessionCookieSameSite: 'lax' },
    client,
    cookies,
    cookieEncryption: encryption,
    metrics: createMetrics(),
    log: { info: () => undefined },
    now: Date.now,
    db: { transaction: async () => ({ id: 'session', ended: [] }) },
    events: { tell: () => undefined, tellEnded: () => undefined },
    store: { forget: async () => undefined },
  } satisfies Partial<Record<keyof Gateway, unknown>> as unknown as Gateway);
  const app = new Elysia({ adapter: WebStandardAdapter })
    .onError(({ error }) => {
      const problem = problemOf(error);
      return new Response(problem.body(), { status: problem.status });
    })
    .use(login);

  const { issuer } = provider;
  const pieces = [
    '&',
    '&&',
    '=',
    '?',
    '#',
    '%',
    '%26',
    '%3D',
    '%00',
    '+',
    '%20',
    ';',
    '[]',
    'code',
    'state',
    'iss',
    'error',
    'response',
    'id_token',
    'session_state',
    'code=',
    'state=',
    'iss=',
    '&error=access_denied',
    '&error=',
    '&error=login_required',
    '&error=temporarily_unavailable',
    '&kc_action_status=x%0d%0aa',
    '&response=eyJhbGciOiJub25lIn0..',
    '&code=x',
    '&state=x',
    '&iss=https://evil.example',
    `&iss=${issuer}`,
    '&id_token=x',
    '&token_type=Bearer',
    '&error_description=%0d%0aSet-Cookie:a=b',
    '%c3%28',
    '\ud800',
    'é',
    '"',
    '<',
    '\\',
    '__proto__',
    '&__proto__=x',
    '&code[]=x',
  ];

  return {
    name: 'callback query',
    weight: 5,
    close: () => provider.dispose(),
    async next() {
      const { url, ...secrets } = await client.authorizationRequest(redirectUri);
      // A code is the provider's word for a login; most trials need none that is good.
      const granted = random.chance(0.1)
        ? (new URL(
            (await fetch(url, { redirect: 'manual' })).headers.get('location') ?? '',
          ).searchParams.get('code') ?? '')
        : null;
      const name = loginCookieName(cookies.loginPrefix, secrets.state);
      const startedAt = Date.now() - (random.chance(0.05) ? LOGIN_STATE_SECONDS * 1000 + 1 : 0);
      const sealed = sealLoginState(encryption, name, {
        ...secrets,
        returnTo: '/after',
        startedAt,
      });
      const sound = `?code=${granted ?? 'none'}&state=${secrets.state}&iss=${encodeURIComponent(issuer)}&session_state=x`;
      const choice = random.below(10);
      const hostile = (): string =>
        choice < 8
          ? `?${bentText(random, sound.slice(1), pieces)}`
          : `${random.pick(['?', sound])}${joined(random, pieces, 8)}`;
      const query = granted !== null && choice < 5 ? sound : hostile();
      const cookie = random.chance(0.9)
        ? `${name}=${sealed}`
        : random.pick([
            `${name}=${bentText(random, sealed, ['.', 'A', '=', '-']).replace(/[^!-~]/g, '')}`,
            `login-x=${sealed}`,
            `${name}=${sealed}; ${name}=${sealed}`,
            '',
          ]);
      // As Node would hand it on: a request target is ASCII and ends before a fragment.
      const target = `/auth/callback${query.replace(/[^!-~]|#/g, '')}`;
      return {
        input: JSON.stringify([target, cookie === `${name}=${sealed}` ? 'its own cookie' : cookie]),
        run: async (): Promise<Answer> => {
          const response = await app.handle(
            new Request(`${publicUrl.origin}${target}`, {
              headers: cookie === '' ? {} : { cookie },
            }),
          );
          const { code = null } =
            response.status < 400 ? {} : ((await response.json()) as { code?: string });
          return {
            status: response.status,
            code,
            cookies: response.headers.getSetCookie(),
            location: response.headers.get('location'),
          };
        },
        // Redeeming is a round trip to another server.
        untimed: true,
        documented: () => false,
        accepted: (outcome) => (outcome as Answer).status === 302,
        wrong(outcome) {
          const { status, code, cookies: set, location } = outcome as Answer;
          const { searchParams } = new URL(`${publicUrl.origin}${target}`);
          // A parameter without a value counts as omitted, and none may come twice (RFC 6749 §3.1); those of other
          // flows are not even to be named.
          const once = (parameter: string, value: string | null): boolean =>
            searchParams.getAll(parameter).length === 1 && searchParams.get(parameter) === value;
          const good =
            granted !== null &&
            once('code', granted) &&
            once('state', secrets.state) &&
            once('iss', issuer) &&
            (!searchParams.has('error') || once('error', '')) &&
            !['response', 'id_token'].some((each) => searchParams.has(each)) &&
            cookie === `${name}=${sealed}` &&
            Date.now() - startedAt < LOGIN_STATE_SECONDS * 1000;
          const session = set.some(
            (each) => /^session=./.test(each) && !each.startsWith('session=;'),
          );
          if (session !== (status === 302))
            return 'a session and the answer that tells of it do not go together';
          if (session && !good) return 'a response that the provider did not give logs in';
          if (session)
            return /^\/after(\?kc_action_status=[a-z_]{1,40})?$/.test(location ?? '')
              ? null
              : 'a login leads elsewhere';
          if (good) return `a sound response is refused: ${status} ${code ?? ''}`;
          // Nothing more can come of it than a login that begins anew.
          if (status === 303)
            return /^\/auth\/login\?(return_to=%2Fafter&)?again=1$/.test(location ?? '')
              ? null
              : `a hostile response leads to ${location ?? ''}`;
          return status === 400 && ['callback_rejected', 'request_invalid'].includes(code ?? '')
            ? null
            : `a hostile response is answered with ${status} ${code ?? ''}`;
        },
      };
    },
  };
}
