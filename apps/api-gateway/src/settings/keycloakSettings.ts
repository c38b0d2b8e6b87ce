import {
  areDpopKeys,
  canSignWith,
  CLIENT_ALGORITHMS,
  type ClientAuthMethod,
  DEFAULT_SCOPE,
  type Environment,
  isSigningKey,
  SIGNATURE_ALGORITHMS,
} from '@session-gateway/keycloak-auth';

/** How the gateway speaks to its realm. */
export interface KeycloakSettings {
  /** As it is written: a slash at the end counts. */
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly internalUrl: string | undefined;
  readonly clientAuth: ClientAuthMethod;
  /** PEM, for `private_key_jwt`. */
  readonly clientKey: string | undefined;
  readonly clientKeyId: string | undefined;
  readonly clientKeyAlgorithm: string | undefined;
  readonly idTokenAlgorithm: string | undefined;
  readonly pushedRequests: boolean;
  /** PEM, the key for new tokens first; undefined: access tokens are bound to no key. */
  readonly dpopKey: string | undefined;
  readonly userinfo: boolean;
}

/** What reading settings takes; `problems` gets what is wrong, by name. */
export interface SettingsReader {
  given: (name: string) => boolean;
  text: (name: string) => string | undefined;
  httpUrl: (name: string, value: string | undefined) => URL | undefined;
  oneOf: <Choice extends string>(
    name: string,
    choices: readonly Choice[],
    fallback: Choice,
  ) => Choice;
  embedded: (name: string, what: string) => void;
  problems: string[];
}

/** What a login asks the provider for. */
export interface LoginSettings {
  /** Of the authorization request; holds `openid`. */
  readonly scope: string;
  /** Query parameters of `/auth/login` that are passed on to the provider. */
  readonly loginParameters: readonly string[];
}

export const DEFAULT_LOGIN_PARAMETERS: readonly string[] = [
  'prompt',
  'login_hint',
  'acr_values',
  'max_age',
  'ui_locales',
  'kc_idp_hint',
  'kc_action',
];
/**
 * Only the gateway says these (OpenID Connect Core §3.1.2.1 and §6, RFC 7636, RFC 9126, RFC 9449
 * §10); the last is its own.
 */
const NOT_FOR_CALLERS: ReadonlySet<string> = new Set([
  'client_id',
  'client_secret',
  'client_assertion',
  'client_assertion_type',
  'redirect_uri',
  'response_type',
  'response_mode',
  'state',
  'nonce',
  'code_challenge',
  'code_challenge_method',
  'dpop_jkt',
  'request',
  'request_uri',
  'registration',
  'return_to',
]);
const PARAMETER_NAME = /^[A-Za-z][\w.-]{0,63}$/;
/** RFC 6749 §3.3. */
const SCOPE = /^[!#-[\]-~]+(?: [!#-[\]-~]+)*$/;

/** Whether a scope is one (RFC 6749 §3.3), and of OpenID Connect: without `openid` there is no ID Token. */
export const isOpenIdScope = (scope: string): boolean =>
  SCOPE.test(scope) && scope.split(' ').includes('openid');

const CLIENT_AUTH: readonly ClientAuthMethod[] = [
  'client_secret_basic',
  'client_secret_post',
  'private_key_jwt',
];
const ONLY_WITH_ISSUER = [
  'KEYCLOAK_CLIENT_ID',
  'KEYCLOAK_CLIENT_SECRET',
  'KEYCLOAK_INTERNAL_URL',
  'KEYCLOAK_DPOP_KEY',
];

/** The realm's settings; undefined for the development provider. */
export function readKeycloak(reader: SettingsReader): KeycloakSettings | undefined {
  const { given, text, httpUrl, oneOf, embedded, problems } = reader;
  const issuer = text('KEYCLOAK_ISSUER');
  const clientId = text('KEYCLOAK_CLIENT_ID');
  const clientSecret = text('KEYCLOAK_CLIENT_SECRET');
  const internalUrl = text('KEYCLOAK_INTERNAL_URL');
  httpUrl('KEYCLOAK_ISSUER', issuer);
  httpUrl('KEYCLOAK_INTERNAL_URL', internalUrl);
  const clientAuth = oneOf('KEYCLOAK_CLIENT_AUTH', CLIENT_AUTH, 'client_secret_basic');
  const keys = readKeys(reader, clientAuth);
  const idTokenAlgorithm = anyOf(reader, 'KEYCLOAK_ID_TOKEN_ALG', SIGNATURE_ALGORITHMS);
  const pushedRequests = oneOf('KEYCLOAK_PAR', ['true', 'false'], 'false') === 'true';
  const userinfo = oneOf('KEYCLOAK_USERINFO', ['true', 'false'], 'false') === 'true';
  embedded('KEYCLOAK_ISSUER', 'the development OpenID Provider is for development');
  if (issuer === undefined) {
    if (given('KEYCLOAK_ISSUER')) return undefined;
    for (const name of ONLY_WITH_ISSUER.filter(given))
      problems.push(
        `${name} is set but KEYCLOAK_ISSUER is not: set both, or neither for the development provider`,
      );
    return undefined;
  }
  if (!given('KEYCLOAK_CLIENT_ID'))
    problems.push('KEYCLOAK_CLIENT_ID must be set together with KEYCLOAK_ISSUER');
  if (clientAuth === 'private_key_jwt') {
    if (!given('KEYCLOAK_CLIENT_KEY'))
      problems.push(
        'KEYCLOAK_CLIENT_KEY_FILE must be set for KEYCLOAK_CLIENT_AUTH=private_key_jwt',
      );
  } else if (!given('KEYCLOAK_CLIENT_SECRET'))
    problems.push('KEYCLOAK_CLIENT_SECRET must be set together with KEYCLOAK_ISSUER');
  return {
    issuer,
    clientId: clientId ?? '',
    clientSecret: clientSecret ?? '',
    internalUrl,
    clientAuth,
    ...keys,
    idTokenAlgorithm,
    pushedRequests,
    userinfo,
  };
}

export function readLogin(
  env: Environment,
  { problems }: Pick<SettingsReader, 'problems'>,
): LoginSettings {
  const scope = env['KEYCLOAK_SCOPE'] || DEFAULT_SCOPE;
  if (!isOpenIdScope(scope))
    problems.push('KEYCLOAK_SCOPE must be names with one blank between them, openid among them');
  const names = (env['LOGIN_PARAMETERS'] ?? '')
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean);
  if (!names.every((name) => PARAMETER_NAME.test(name)))
    problems.push('LOGIN_PARAMETERS must be a comma-separated list of names of parameters');
  const refused = names.filter((name) => NOT_FOR_CALLERS.has(name));
  if (refused.length > 0)
    problems.push(
      `LOGIN_PARAMETERS must not name ${refused.join(', ')}: only the gateway itself says that to the provider`,
    );
  return { scope, loginParameters: names.length > 0 ? names : DEFAULT_LOGIN_PARAMETERS };
}

/** The client's own keys, and what they are to sign with. */
function readKeys(
  reader: SettingsReader,
  clientAuth: ClientAuthMethod,
): Pick<KeycloakSettings, 'clientKey' | 'clientKeyId' | 'clientKeyAlgorithm' | 'dpopKey'> {
  const { text, problems } = reader;
  const clientKey = text('KEYCLOAK_CLIENT_KEY');
  if (clientKey !== undefined && !isSigningKey(clientKey))
    problems.push(
      'KEYCLOAK_CLIENT_KEY must be a private key in PEM: RSA, EC on a NIST curve, or Ed25519',
    );
  const dpopKey = text('KEYCLOAK_DPOP_KEY');
  if (dpopKey !== undefined && !areDpopKeys(dpopKey))
    problems.push(
      'KEYCLOAK_DPOP_KEY must be private keys in PEM: EC on a NIST curve, Ed25519, or RSA',
    );
  const clientKeyId = text('KEYCLOAK_CLIENT_KEY_ID');
  if (clientKeyId !== undefined && !/^[\x20-\x7e]{1,255}$/.test(clientKeyId))
    problems.push('KEYCLOAK_CLIENT_KEY_ID must be at most 255 characters of printable ASCII');
  const clientKeyAlgorithm = anyOf(reader, 'KEYCLOAK_CLIENT_KEY_ALG', CLIENT_ALGORITHMS);
  // Either key alone may be what it is meant for; a client key has to follow where there is one.
  const signers = (clientAuth === 'private_key_jwt' ? [clientKey] : [clientKey, dpopKey]).filter(
    (pem) => pem !== undefined,
  );
  if (
    clientKeyAlgorithm !== undefined &&
    signers.length > 0 &&
    !signers.some((pem) => canSignWith(pem, clientKeyAlgorithm))
  )
    problems.push(
      'KEYCLOAK_CLIENT_KEY_ALG is nothing that the key can sign with: RSA signs RS* and PS*, EC the ES* of its curve, Ed25519 EdDSA (or Ed25519)',
    );
  return { clientKey, clientKeyId, clientKeyAlgorithm, dpopKey };
}

/** One of the choices; undefined where it is not set. */
function anyOf(
  { text, problems }: SettingsReader,
  name: string,
  choices: readonly string[],
): string | undefined {
  const value = text(name);
  if (value === undefined || choices.includes(value)) return value;
  problems.push(`${name} must be one of: ${choices.join(', ')}`);
  return undefined;
}
