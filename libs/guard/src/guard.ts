import { AccessTokens } from './accessTokens.js';
import { challengeOf, type Scheme } from './challenge.js';
import type { AccessTokenClaims } from './claims.js';
import { DpopProofs } from './dpop.js';
import { GuardError } from './errors.js';
import type { Identity } from './identity.js';
import { type GuardOptions, settingsOf } from './options.js';
import { IssuerKeys } from './issuerKeys.js';
import { Permissions } from './permissions.js';
import { checkClaims, listOf, type Requirement, requirementOf, type Spec } from './requirement.js';

/** What the guard looks at of a request. */
export interface GuardRequest {
  readonly method: string;
  /** The target as it was asked for: path and query, or an absolute URL. */
  readonly url: string;
  /** Every `Authorization` field. */
  readonly authorization: readonly string[];
  /** Every `DPoP` field. */
  readonly dpop: readonly string[];
}

export interface Passed {
  /** Null only where the requirement is `optional` and the request has no credentials. */
  readonly identity: Identity | null;
  /** Fields for the answer: a newer DPoP nonce (RFC 9449 §8.2). */
  readonly headers: Readonly<Record<string, string>>;
}

/** Judges requests. `Request` is the framework's own, which `allow` and `claims` get to see. */
export interface Guard {
  /**
   * A check for one kind of route. What it returns never resolves for a request that is not good.
   * @throws TypeError when the spec is none, or needs something that the guard was not given
   */
  checker<Request>(spec?: Spec<Request>): (request: GuardRequest, own: Request) => Promise<Passed>;
}

/**
 * A guard for one service, by the tokens of one issuer. It keeps the issuer's keys, what they have verified, and the
 * DPoP proofs that were used, all bounded. Nothing is fetched before the first request.
 * @throws TypeError that names the option which is wrong
 */
export function createGuard(options: GuardOptions): Guard {
  const settings = settingsOf(options);
  const { toleranceSeconds, now, realm } = settings;
  const tokens = new AccessTokens({
    ...settings,
    keys: new IssuerKeys(new URL(settings.jwksUrl), settings.fetch),
  });
  const proofs = options.dpop ? new DpopProofs(options.dpop, { toleranceSeconds, now }) : null;
  const permissions = new Permissions(settings);

  async function authenticate(request: GuardRequest): Promise<[Identity, string | null]> {
    const { scheme, token } = credentialsOf(request);
    if (scheme === 'DPoP' && proofs === null)
      throw new GuardError('token_bound', 'DPoP is not in use here');
    const identity = await tokens.verify(token);
    const nonce = await checkBinding(identity, scheme, request, proofs);
    await checkRevoked(identity.claims, settings.isRevoked);
    return [identity, nonce];
  }

  async function authorize<Request>(
    identity: Identity,
    requirement: Requirement<Request>,
    own: Request,
  ): Promise<void> {
    checkClaims(identity, requirement, now());
    const asked = listOf(requirement.permissions);
    if (asked.length > 0) await permissions.check(identity, asked, requirement.claims?.(own));
    // The application's own function: only `true` itself allows.
    const allowed: unknown = requirement.allow ? await requirement.allow(identity, own) : true;
    if (allowed !== true) throw new GuardError('not_allowed', 'the request is not allowed');
  }

  async function refusal(error: unknown, request: GuardRequest): Promise<unknown> {
    if (!(error instanceof GuardError)) return error;
    const challenge = challengeOf(error, {
      scheme: schemeOf(request.authorization[0]),
      realm,
      dpopAlgorithms: proofs?.algorithms ?? null,
      dpopRequired: proofs?.required ?? false,
    });
    const nonce = error.code === 'nonce_required' ? ((await proofs?.nonce()) ?? null) : null;
    return error.with({
      ...(challenge === null ? {} : { 'www-authenticate': challenge }),
      ...nonceField(nonce),
      'cache-control': 'no-store',
    });
  }

  return {
    checker(spec) {
      const requirement = requirementOf(spec);
      if (requirement.claims && settings.clientSecret === null)
        throw new TypeError('claims for policies need the option clientSecret');
      return async (request, own) => {
        if (requirement.optional && request.authorization.length === 0)
          return { identity: null, headers: {} };
        try {
          const [identity, nonce] = await authenticate(request);
          await authorize(identity, requirement, own);
          return { identity, headers: nonceField(nonce) };
        } catch (error) {
          throw await refusal(error, request);
        }
      };
    },
  };
}

const CREDENTIALS = /^(Bearer|DPoP) +([A-Za-z0-9._~+/-]+=*)$/i;

/** @throws GuardError `credentials_missing`, or `request_invalid` where it is not one token in one header field */
function credentialsOf({ authorization }: GuardRequest): { scheme: Scheme; token: string } {
  const [field, ...others] = authorization;
  if (field === undefined || (others.length === 0 && schemeOf(field) === null))
    throw new GuardError('credentials_missing', 'an access token is needed');
  const [, name, token] = CREDENTIALS.exec(field) ?? [];
  const scheme = schemeOf(name);
  if (others.length > 0 || scheme === null || token === undefined)
    throw new GuardError('request_invalid', 'the field Authorization is not one token');
  return { scheme, token };
}

function schemeOf(field: string | undefined): Scheme | null {
  const [name] = (field ?? '').split(' ', 1);
  if (/^bearer$/i.test(name ?? '')) return 'Bearer';
  return /^dpop$/i.test(name ?? '') ? 'DPoP' : null;
}

/**
 * A bound token counts with its proof only, and a proof counts with a bound token only (RFC 9449 §7.1, RFC 8705 §3).
 */
async function checkBinding(
  identity: Identity,
  scheme: Scheme,
  request: GuardRequest,
  proofs: DpopProofs | null,
): Promise<string | null> {
  const confirmation = identity.claims['cnf'];
  if (scheme === 'Bearer' || proofs === null) {
    if (confirmation !== undefined || identity.claims['typ'] === 'DPoP')
      throw new GuardError('token_bound', 'the access token is bound to a key');
    if (proofs?.required)
      throw new GuardError('token_not_bound', 'the access token is bound to no key');
    return null;
  }
  if (confirmation === undefined)
    throw new GuardError('token_not_bound', 'the access token is bound to no key');
  const { method, url, dpop } = request;
  return proofs.check({ method, url, proofs: dpop, token: identity.token, confirmation });
}

async function checkRevoked(
  claims: AccessTokenClaims,
  isRevoked: GuardOptions['isRevoked'],
): Promise<void> {
  // The application's own function: only `false` itself lets the token count.
  const revoked: unknown = isRevoked ? await isRevoked(claims) : false;
  if (revoked !== false) throw new GuardError('token_revoked', 'the access token counts no more');
}

const nonceField = (nonce: string | null): Record<string, string> =>
  nonce === null ? {} : { 'dpop-nonce': nonce };
