import { createHmac, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto';
import {
  AuthError,
  type BearerIdentity,
  JWTValidator,
  type LogoutRequest,
  validateLogoutToken,
} from '@session-gateway/keycloak-auth';
import { createLocalJWKSet, type JWTVerifyGetKey } from 'jose';
import type { Random } from '../../harness/random.js';
import { bentJson, bentText, hostileJson, type Json } from './grammar.js';
import type { Surface } from './trial.js';

export const ISSUER = 'https://id.example/realms/main';
export const CLIENT = 'gateway';
const KID = 'signing';
const DAY_SECONDS = 86_400;
const TOLERANCE = 15;
const LOGOUT_EVENT = 'http://schemas.openid.net/event/backchannel-logout';
/** The clock stands still: a token's times are as the trial says. */
export const NOW = 1_790_000_000;

type Claims = Record<string, unknown>;
type Signer = 'own' | 'other' | 'none' | 'secret';

/** The realm's key, the attacker's, and tokens of every kind made with them. */
class Forge {
  readonly own = generateKeyPairSync('ed25519');
  readonly other = generateKeyPairSync('ed25519');
  readonly jwks = createLocalJWKSet({
    keys: [
      {
        ...this.own.publicKey.export({ format: 'jwk' }),
        kid: KID,
        alg: 'EdDSA',
        use: 'sig',
      },
    ],
  });

  constructor(readonly random: Random) {}

  token(claims: Json): string {
    const { random } = this;
    const header: Json = { alg: 'EdDSA', typ: 'JWT', kid: KID, ...this.#headerOf(claims) };
    const choice = random.below(100);
    if (choice < 8) return this.#signed(JSON.stringify(header), JSON.stringify(claims));
    if (choice < 50)
      return this.#signed(
        JSON.stringify(header),
        JSON.stringify(
          random.chance(0.2)
            ? bentJson(random, bentJson(random, claims))
            : bentJson(random, claims),
        ),
      );
    if (choice < 65)
      return this.#signed(JSON.stringify(bentJson(random, header)), JSON.stringify(claims));
    if (choice < 72) return this.#signed(hostileJson(random, header), hostileJson(random, claims));
    if (choice < 80)
      return this.#signed(
        JSON.stringify({ ...header, ...random.pick(HEADERS) }),
        JSON.stringify(claims),
        random.pick(['own', 'other', 'none', 'secret'] as const),
      );
    if (choice < 85)
      return this.#signed(
        JSON.stringify(header),
        JSON.stringify(claims),
        random.pick(['other', 'none', 'secret'] as const),
      );
    return bentText(random, this.#signed(JSON.stringify(header), JSON.stringify(claims)), [
      '.',
      '..',
      '=',
      '+',
      '/',
      '-',
      '_',
      'A',
      'eyJ',
      ' ',
      '\n',
      '\0',
      'é',
      '\ud800',
      ',',
      '{}',
      'bnVsbA',
    ]);
  }

  #headerOf(claims: Json): { [name: string]: Json } {
    return typeof claims === 'object' && claims !== null && 'events' in claims
      ? { typ: 'logout+jwt' }
      : {};
  }

  #signed(header: string, payload: string, by: Signer = 'own'): string {
    const input = `${Buffer.from(header).toString('base64url')}.${Buffer.from(payload).toString('base64url')}`;
    return `${input}.${this.#signature(input, by)}`;
  }

  #signature(input: string, by: Signer): string {
    if (by === 'none') return '';
    if (by === 'secret') {
      const publicKey = this.own.publicKey.export({ format: 'pem', type: 'spki' });
      return createHmac('sha256', publicKey).update(input).digest('base64url');
    }
    const { privateKey } = by === 'own' ? this.own : this.other;
    return sign(null, Buffer.from(input), privateKey).toString('base64url');
  }
}

const HEADERS: { [name: string]: Json }[] = [
  { alg: 'none' },
  { alg: 'None' },
  { alg: 'HS256' },
  { alg: 'HS512' },
  { alg: 'ES256' },
  { alg: 'RS256' },
  { alg: 'eddsa' },
  { alg: ['EdDSA'] },
  { kid: 'other' },
  { kid: '../../dev/null' },
  { kid: null },
  { kid: KID.toUpperCase() },
  { crit: ['exp'] },
  { crit: [] },
  { crit: ['b64'], b64: false },
  { b64: false },
  { jku: 'https://evil.example/jwks' },
  { x5u: 'https://evil.example/x5' },
  { jwk: { kty: 'OKP', crv: 'Ed25519', x: 'AAAA' } },
  { zip: 'DEF' },
  { cty: 'JWT' },
  { typ: 'logout+jwt' },
  { typ: 'at+jwt' },
  { typ: 'JOSE' },
  { typ: 'application/at+jwt' },
  { typ: 'dpop+jwt' },
  { typ: '' },
  { typ: 1 },
];

const isRefusal =
  (code: string) =>
  (error: unknown): boolean =>
    error instanceof AuthError && error.code === code;

type BearerCheck = (token: string) => Promise<BearerIdentity>;
const ourBearerCheck = (jwks: JWTVerifyGetKey): BearerCheck => {
  const validator = new JWTValidator({
    issuer: ISSUER,
    clientId: CLIENT,
    jwks: async () => jwks,
    now: () => NOW * 1000,
    maxEntries: 1000,
  });
  return (token) => validator.validate(token);
};

/** Bearer tokens. */
export function bearerSurface(
  random: Random,
  checkOf: typeof ourBearerCheck = ourBearerCheck,
): Surface {
  const forge = new Forge(random);
  const check = checkOf(forge.jwks);
  return {
    name: 'JWT',
    weight: 10,
    next() {
      const token = forge.token(bearerClaims(random));
      return {
        input: JSON.stringify(token),
        run: () => check(token),
        documented: isRefusal('bearer_invalid'),
        accepted: () => true,
        wrong: (outcome) => bearerFault(token, forge.own.publicKey, outcome as BearerIdentity),
      };
    },
  };
}

function bearerClaims(random: Random): Json {
  return {
    iss: ISSUER,
    sub: random.text(20),
    aud: random.pick<Json>([CLIENT, [CLIENT, 'account'], 'account']),
    azp: random.pick([CLIENT, CLIENT, 'other']),
    typ: random.pick(['Bearer', 'Bearer', 'Bearer', 'ID', 'Refresh']),
    exp: NOW + random.pick([300, 300, 60, -10, -60]),
    iat: NOW - 10,
    ...(random.chance(0.1) ? { cnf: { jkt: random.text(43) } } : {}),
    ...(random.chance(0.2) ? { nbf: NOW + random.pick([-5, 10, 60]) } : {}),
    realm_access: { roles: ['user', 'admin'] },
    resource_access: { [CLIENT]: { roles: ['editor'] }, realm: { roles: ['admin'] } },
  };
}

/** Why a bearer token is none, judged by hand: signature first, then each claim (RFC 7519 §4.1). */
function bearerFault(
  token: string,
  key: KeyObject,
  { subject, roles, expiresAt }: BearerIdentity,
): string | null {
  const claims = signedClaims(token, key, ['jwt', 'at+jwt', 'application/at+jwt', undefined]);
  if (typeof claims === 'string') return claims;
  if (claims['iss'] !== ISSUER) return 'a token of another issuer passes';
  if (![claims['aud']].flat().includes(CLIENT) && claims['azp'] !== CLIENT)
    return 'a token for someone else passes';
  if (!isNumber(claims['exp']) || claims['exp'] + TOLERANCE <= NOW)
    return 'a token without an end, or past it, passes';
  if (claims['nbf'] !== undefined && !(isNumber(claims['nbf']) && claims['nbf'] <= NOW + TOLERANCE))
    return 'a token passes before its time';
  if (
    (claims['typ'] !== undefined && claims['typ'] !== 'Bearer') ||
    'at_hash' in claims ||
    'events' in claims
  )
    return 'a token of another kind passes';
  if ('cnf' in claims) return 'a token that is bound to a key passes without a proof';
  if (typeof claims['sub'] !== 'string' || claims['sub'] === '' || subject !== claims['sub'])
    return 'a token passes for nobody';
  if (expiresAt !== claims['exp']) return 'a token is kept beyond its end';
  return roles.every((role) => typeof role === 'string' && role.includes(':')) &&
    !roles.some(
      (role) =>
        role.startsWith('realm:') &&
        !rolesIn(claims['realm_access']).includes(role.slice('realm:'.length)),
    )
    ? null
    : 'a token gives a role that it does not have';
}

type LogoutCheck = (
  token: string,
  jwks: JWTVerifyGetKey,
  typ: 'required' | 'if-present',
) => Promise<LogoutRequest>;
const ourLogoutCheck: LogoutCheck = (token, jwks, typ) =>
  validateLogoutToken(token, {
    issuer: ISSUER,
    clientId: CLIENT,
    jwks: async () => jwks,
    typ,
    now: () => NOW * 1000,
  });

/** Logout tokens. */
export function logoutSurface(random: Random, check = ourLogoutCheck): Surface {
  const forge = new Forge(random);
  return {
    name: 'logout token',
    weight: 10,
    next() {
      const token = forge.token(logoutClaims(random));
      const typ = random.pick(['required', 'if-present'] as const);
      return {
        input: JSON.stringify([token, typ]),
        run: () => check(token, forge.jwks, typ),
        documented: isRefusal('logout_token_invalid'),
        accepted: () => true,
        wrong: (outcome) => logoutFault(token, forge.own.publicKey, typ, outcome as LogoutRequest),
      };
    },
  };
}

function logoutClaims(random: Random): Json {
  const named = random.pick<{ [name: string]: Json }>([
    { sid: random.text(24) },
    { sub: random.text(20) },
    { sid: random.text(24), sub: random.text(20) },
    {},
  ]);
  return {
    iss: ISSUER,
    aud: random.pick<Json>([CLIENT, [CLIENT], 'other']),
    iat: NOW - random.pick([0, 5, 700, 86_000, 90_000]),
    exp: NOW + random.pick([120, -60]),
    jti: random.text(20),
    events: { [LOGOUT_EVENT]: {} },
    ...named,
    ...(random.chance(0.1) ? { nonce: 'n' } : {}),
  };
}

/** OpenID Connect Back-Channel Logout 1.0 §2.6, by hand. */
function logoutFault(
  token: string,
  key: KeyObject,
  typ: 'required' | 'if-present',
  { subject, sid, jti, expiresAt }: LogoutRequest,
): string | null {
  const claims = signedClaims(token, key, [
    'logout+jwt',
    'application/logout+jwt',
    ...(typ === 'required' ? [] : [undefined]),
  ]);
  if (typeof claims === 'string') return claims;
  if (claims['iss'] !== ISSUER || ![claims['aud']].flat().includes(CLIENT))
    return 'a token of or for someone else passes';
  if (!isNumber(claims['exp']) || claims['exp'] + TOLERANCE <= NOW)
    return 'a token without an end, or past it, passes';
  if (
    !isNumber(claims['iat']) ||
    claims['iat'] > NOW + TOLERANCE ||
    claims['exp'] - Math.min(claims['iat'], NOW) > DAY_SECONDS
  )
    return 'a token without a date, of another day or for more than a day passes';
  if (typeof claims['jti'] !== 'string' || claims['jti'] === '' || claims['jti'] !== jti)
    return 'a token that cannot be told from others passes';
  if ('nonce' in claims) return 'a token with a nonce passes';
  const events = claims['events'] as Claims | undefined;
  if (typeof events !== 'object' || events === null || !isRecord(events[LOGOUT_EVENT]))
    return 'a token without the event passes';
  if ((claims['sub'] ?? null) !== subject || (claims['sid'] ?? null) !== sid)
    return 'a token ends what it does not name';
  if (
    ![subject, sid].some((name) => typeof name === 'string' && name !== '') ||
    [subject, sid].some((name) => name === '')
  )
    return 'a token that names nobody passes';
  return Number.isNaN(expiresAt.getTime()) ? 'a token without an end passes' : null;
}

/**
 * The claims of a token that the realm signed, with the algorithm and key that the realm publishes;
 * else what is wrong with it.
 */
function signedClaims(
  token: string,
  key: KeyObject,
  types: readonly (string | undefined)[],
): Claims | string {
  const parts = token.split('.');
  if (parts.length !== 3 || !parts.every((part) => /^[A-Za-z0-9_-]+$/.test(part)))
    return 'a text that is no token passes';
  const [head = '', payload = '', signature = ''] = parts;
  if (!verify(null, Buffer.from(`${head}.${payload}`), key, Buffer.from(signature, 'base64url')))
    return 'a token passes that the realm did not sign';
  const [header, claims] = [head, payload].map(
    (part) => JSON.parse(Buffer.from(part, 'base64url').toString('utf8')) as Claims,
  );
  if (!header || !claims) return 'a token without claims passes';
  if (header['alg'] !== 'EdDSA' || (header['kid'] !== undefined && header['kid'] !== KID))
    return "a token passes under an algorithm or key that is not the realm's";
  if ('crit' in header) return 'a token passes that asks for what is not understood';
  const typ = header['typ'];
  return types.includes(typeof typ === 'string' ? typ.toLowerCase() : (typ as undefined))
    ? claims
    : 'a token of another type passes';
}

const isNumber = (value: unknown): value is number =>
  typeof value === 'number' && Number.isFinite(value);
const isRecord = (value: unknown): value is Claims =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const rolesIn = (access: unknown): unknown[] =>
  isRecord(access) && Array.isArray(access['roles']) ? access['roles'] : [];
