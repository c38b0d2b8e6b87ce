import { isAuthError } from '../errors.js';
import { providerWords } from '../reasons.js';
import { base } from './base.js';
import { record } from './identity.js';
import { KeycloakClient } from './KeycloakClient.js';
import { providerFetch } from './providerFetch.js';
import {
  type Asking,
  clientPage,
  type RealmCheck,
  type RealmCheckOptions,
  type RealmFinding,
} from './realmFinding.js';
import { checkRegistration } from './realmRegistration.js';

const TIMEOUT_MS = 5_000;
/** A person may take this long for a login whose request was sent ahead. */
const PATIENT_SECONDS = 300;

/**
 * Asks the realm whether it is as the gateway needs it: metadata, client authentication, redirect URI and scopes (a dry
 * authorization request with `prompt=none`), post-logout address, lifespan of pushed requests, and, where the client's
 * service account may read the client, how it is registered. Changes nothing and logs nobody in.
 * @returns findings, the most basic first; none when all is well. Never throws for an answer of the realm
 */
export async function checkRealm(options: RealmCheckOptions): Promise<RealmFinding[]> {
  const send = providerFetch(options.issuer, options.internalUrl, options.fetch ?? fetch);
  const asking: Asking = {
    options,
    ask: (url, init) =>
      send(url, { redirect: 'manual', signal: AbortSignal.timeout(TIMEOUT_MS), ...init }),
  };
  const client = new KeycloakClient(options);
  const known = await client.ready().then(
    () => null,
    (error: unknown) => error,
  );
  if (known !== null) return [await metadataFinding(asking, known)];
  const refused = await clientFinding(client, options);
  if (refused !== null) return [refused];
  const findings = [
    ...(await loginFindings(asking, client)),
    ...(await postLogoutFindings(asking)),
    ...(await checkRegistration(asking)),
  ];
  return findings;
}

const wordsOf = (error: unknown): string =>
  isAuthError(error) ? (error.providerSaid ?? error.message) : String(error);

async function metadataFinding({ options, ask }: Asking, error: unknown): Promise<RealmFinding> {
  const address = `${base(options.issuer)}/.well-known/openid-configuration`;
  const words = await ask(address).then(said, () => null);
  const why = error instanceof Error ? error.message : String(error);
  const told = words === null ? '' : ` (Keycloak: ${words})`;
  return {
    check: 'metadata',
    severity: 'problem',
    message: `KEYCLOAK_ISSUER: ${why}${told}. It is the "issuer" of the realm's metadata, in Keycloak: Realm settings > General > Endpoints`,
  };
}

/** A refresh token that is none: only a client that has proved who it is is told so. */
async function clientFinding(
  client: KeycloakClient,
  options: RealmCheckOptions,
): Promise<RealmFinding | null> {
  const error = await client.refresh('no refresh token', 'nobody').then(
    () => null,
    (fault: unknown) => fault,
  );
  if (error === null || isAuthError(error, 'reauthentication_required')) return null;
  const words = wordsOf(error);
  const tab = options.clientAuth === 'private_key_jwt' ? 'Keys' : 'Credentials';
  return {
    check: 'client',
    severity: 'problem',
    message: `KEYCLOAK_CLIENT_ID, KEYCLOAK_CLIENT_AUTH or the client's secret or key is not what Keycloak has (${words}); ${clientPage(options, `Clients > %s > ${tab}`)}; the client has to be enabled`,
  };
}

async function loginFindings(
  { options, ask }: Asking,
  client: KeycloakClient,
): Promise<RealmFinding[]> {
  const redirectUri = new URL('/auth/callback', options.publicUrl).href;
  const request = await client.authorizationRequest(redirectUri, { prompt: 'none' }).then(
    ({ url }) => ({ url }),
    (error: unknown) => ({
      words: isAuthError(error) ? (error.providerSaid ?? error.message) : String(error),
    }),
  );
  if ('words' in request) return [loginFinding(options, redirectUri, request.words)];
  const answer = await ask(request.url);
  const location = answer.headers.get('location');
  if (location === null) {
    const words = (await said(answer)) ?? `status ${answer.status}`;
    return [loginFinding(options, redirectUri, words)];
  }
  const response = new URL(location, redirectUri).searchParams;
  const error = response.get('error');
  const words = providerWords(error, response.get('error_description')) ?? 'no words';
  const findings: RealmFinding[] = [];
  if (error !== 'login_required' && error !== 'interaction_required')
    findings.push(loginFinding(options, redirectUri, words));
  if (!response.has('iss'))
    findings.push({
      check: 'issuer_in_response',
      severity: 'problem',
      message: `authorization responses lack "iss", and every login is refused; ${clientPage(options, 'Clients > %s > Advanced')}: turn off "Exclude Issuer From Authentication Response"`,
    });
  return findings;
}

/** What to do, by what Keycloak says; its words stand beside it whatever they are. */
function loginFinding(
  options: RealmCheckOptions,
  redirectUri: string,
  words: string,
): RealmFinding {
  const problem = (check: RealmCheck, what: string): RealmFinding => ({
    check,
    severity: 'problem',
    message: `${what} (Keycloak: ${words})`,
  });
  if (/redirect_uri/i.test(words))
    return problem(
      'redirect_uri',
      `PUBLIC_URL: ${redirectUri} is not among the client's "Valid redirect URIs"; ${clientPage(options)}`,
    );
  if (/scope/i.test(words))
    return problem(
      'scope',
      `KEYCLOAK_SCOPE: the client lacks one of these scopes; ${clientPage(options, 'Clients > %s > Client scopes')}`,
    );
  if (/standard flow/i.test(words))
    return problem(
      'login',
      `the client takes no logins; ${clientPage(options)}: turn on "Standard flow"`,
    );
  if (/pushed authorization request/i.test(words))
    return problem(
      'login',
      `the client wants its requests sent ahead: set KEYCLOAK_PAR=true, or ${clientPage(options, 'Clients > %s > Advanced')}: turn off "Require pushed authorization requests"`,
    );
  return problem('login', `a login would fail; ${clientPage(options)}`);
}

async function postLogoutFindings({ options, ask }: Asking): Promise<RealmFinding[]> {
  const metadata = record(
    await ask(`${base(options.issuer)}/.well-known/openid-configuration`).then((answer) =>
      answer.json(),
    ),
  );
  const findings: RealmFinding[] = [];
  const { end_session_endpoint: endSession, pushed_authorization_request_endpoint: par } = metadata;
  if (typeof endSession === 'string') {
    const address = new URL('/auth/logged-out', options.publicUrl).href;
    const url = new URL(endSession);
    url.searchParams.set('client_id', options.clientId);
    url.searchParams.set('post_logout_redirect_uri', address);
    const answer = await ask(url);
    if (answer.status >= 400)
      findings.push({
        check: 'post_logout',
        severity: 'problem',
        message: `PUBLIC_URL: ${address} is not among the client's "Valid post logout redirect URIs"; ${clientPage(options)} (Keycloak: ${(await said(answer)) ?? answer.status})`,
      });
  }
  if (options.pushedRequests === true && typeof par === 'string')
    findings.push(...(await lifespanFindings({ options, ask }, par)));
  return findings;
}

/** By basic authentication only: a request that is refused tells no lifespan, and is no finding. */
async function lifespanFindings(
  { options, ask }: Asking,
  endpoint: string,
): Promise<RealmFinding[]> {
  const answer = await ask(endpoint, {
    method: 'POST',
    body: new URLSearchParams({
      client_id: options.clientId,
      client_secret: options.clientSecret,
      response_type: 'code',
      scope: 'openid',
      redirect_uri: new URL('/auth/callback', options.publicUrl).href,
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      code_challenge_method: 'S256',
    }),
  });
  const { expires_in: seconds } = record(await answer.json().catch(() => null));
  if (typeof seconds !== 'number' || seconds >= PATIENT_SECONDS) return [];
  return [
    {
      check: 'par_lifespan',
      severity: 'warning',
      message: `KEYCLOAK_PAR: a pushed request lives for ${seconds} s, and Keycloak 26.7.0 to 26.7.4 refuse the right password after that; in Keycloak: set the realm's attribute parRequestUriLifespan to ${PATIENT_SECONDS} or more`,
    },
  ];
}

/** Keycloak's words on an error page or in an answer of OAuth's; null where there are none. */
export async function said(answer: Response): Promise<string | null> {
  const text = await answer.text();
  const onPage = /kc-error-message"[^>]*>\s*<p[^>]*>([^<]*)/.exec(text)?.[1];
  if (onPage !== undefined) return providerWords(onPage.trim(), undefined) ?? null;
  try {
    const { error, error_description: description } = record(JSON.parse(text) as unknown);
    return providerWords(error, description) ?? null;
  } catch {
    return null;
  }
}
