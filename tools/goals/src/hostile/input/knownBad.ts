import { createDecipheriv, createSecretKey } from 'node:crypto';
import { type Keyring, TokenEncryption } from '@session-gateway/keycloak-auth';
import { type JWTPayload, jwtVerify } from 'jose';
import { readConfig } from '../../../../../apps/api-gateway/src/settings/config.js';
import type { GatewayRoute } from '../../../../../apps/api-gateway/src/settings/gatewayRoutes.js';
import { Problem } from '../../../../../apps/api-gateway/src/request/errors.js';
import type { Random } from '../../harness/random.js';
import { ADDRESSES, configurationSurface, keyringSurface, routesSurface } from './configuration.js';
import { bearerSurface, CLIENT, ISSUER, logoutSurface, NOW } from './jwts.js';
import { cookieSurface, originSurface, returnToSurface } from './requests.js';
import { pathSurface } from './requestTargets.js';
import { type Reader, storedSurface } from './stored.js';
import type { Surface } from './trial.js';

/**
 * The same surfaces with what is usually written in their place. The oracle of each must tell that it lets things in.
 */
export function knownBadSurfaces(random: Random): Record<string, Surface> {
  return {
    'stored value, tag of any length': storedSurface(
      random,
      planReader({ tagBytes: '8,32', maxBytes: 2 ** 20 }),
    ),
    'stored value, any size': storedSurface(
      random,
      planReader({ tagBytes: '32', maxBytes: Infinity }),
    ),
    'session cookie, first one counts': cookieSurface(random, (cookies, header) =>
      firstCookie(header, cookies.sessionName),
    ),
    'same origin by prefix': originSurface(random, (_, header, origin) => {
      if (header('origin')?.startsWith(origin) === false) throw new Problem('csrf_rejected');
    }),
    'return_to that begins with a slash': returnToSurface(random, (text) =>
      text.startsWith('/') ? text : null,
    ),
    'request path, decoded once': pathSurface(random, decodedOnce),
    // Signature, issuer and times are right; for whom and for what a token is, nobody asks.
    'JWT for anyone': bearerSurface(random, (jwks) => async (token) => {
      const { sub = '', exp = 0 } = (
        await jwtVerify(token, jwks, { issuer: ISSUER, currentDate: new Date(NOW * 1000) })
      ).payload;
      return { subject: sub, acr: null, roles: [], expiresAt: exp };
    }),
    'logout token like any JWT': logoutSurface(random, async (token, jwks) => {
      const { payload } = await jwtVerify<JWTPayload & { sid?: string }>(token, jwks, {
        issuer: ISSUER,
        audience: CLIENT,
        currentDate: new Date(NOW * 1000),
      });
      return {
        subject: payload.sub ?? null,
        sid: payload.sid ?? null,
        jti: payload.jti ?? '',
        expiresAt: new Date((payload.exp ?? NaN) * 1000),
      };
    }),
    'keyring, whatever is decoded': keyringSurface(random, decodedKeyring),
    'routes as they stand': routesSurface(random, (json) => ({
      routes: (JSON.parse(json ?? '[]') as RouteEntry[]).map(routeAsItStands),
      problems: [],
    })),
    'addresses as the URL parser reads them': configurationSurface(random, (env) =>
      readConfig({
        ...env,
        ...Object.fromEntries(
          ADDRESSES.flatMap((name) =>
            URL.canParse(env[name] ?? '') ? [[name, new URL(env[name] ?? '').href]] : [],
          ),
        ),
      }),
    ),
  };
}

/** Reads the plan's format with other bounds; the rest as it should be. */
function planReader({
  tagBytes,
  maxBytes,
}: {
  tagBytes: string;
  maxBytes: number;
}): (keyring: Keyring, readPolicy: 'v2' | 'v2+plan' | 'all') => Reader {
  const plan = new RegExp(`^([0-9a-f]{32}):([0-9a-f]{${tagBytes}}):((?:[0-9a-f]{2})+)$`);
  return (keyring, readPolicy) => {
    const encryption = new TokenEncryption({ keyring, readPolicy });
    return {
      classify: (stored) => TokenEncryption.classify(stored),
      open(stored, location) {
        const [, iv = '', tag = '', body = ''] = (readPolicy !== 'v2' && plan.exec(stored)) || [];
        if (iv === '' || !keyring.planKey || body.length > 2 * maxBytes)
          return encryption.open(stored, location);
        const decipher = createDecipheriv(
          'aes-256-gcm',
          keyring.planKey,
          Buffer.from(iv, 'hex'),
        ).setAuthTag(Buffer.from(tag, 'hex'));
        return Buffer.concat([
          decipher.update(Buffer.from(body, 'hex')),
          decipher.final(),
        ]).toString();
      },
    };
  };
}

function firstCookie(header: string, name: string): string | null {
  const pair = header
    .split(';')
    .map((part) => part.trim())
    .find((part) => part.startsWith(`${name}=`));
  return pair === undefined ? null : pair.slice(name.length + 1);
}

function decodedOnce(target: string): { raw: string; decoded: string } | null {
  const raw = target.split('?', 1)[0] ?? '';
  const decoded = decodeURIComponent(raw);
  return decoded.startsWith('/') && !decoded.includes('..') && !decoded.includes('//')
    ? { raw, decoded }
    : null;
}

type RouteEntry = { path: unknown; upstream: string } & Partial<
  Omit<GatewayRoute, 'path' | 'upstream' | 'dropHeaders' | 'passHeaders'>
>;
const routeAsItStands = ({ path, upstream, ...rest }: RouteEntry): GatewayRoute => ({
  stripPrefix: false,
  auth: 'any',
  protect: undefined,
  enforce: [],
  token: 'access',
  websocket: false,
  timeoutMs: 1000,
  cache: false,
  acr: undefined,
  cors: [],
  preserveHost: false,
  dropHeaders: new Set(),
  passHeaders: new Set(),
  ...rest,
  path: String(path),
  upstream: new URL(upstream),
});

function decodedKeyring(json: string): Keyring {
  const { primary, keys } = JSON.parse(json) as {
    primary: string;
    keys: { kid: string; key: string }[];
  };
  const byKid = new Map(
    keys.map(({ kid, key }) => [kid, createSecretKey(Buffer.from(key, 'base64url'))]),
  );
  return {
    primary,
    kids: [...byKid.keys()],
    decryptOnly: new Set(),
    key: (kid: string) => byKid.get(kid),
  } as unknown as Keyring;
}
