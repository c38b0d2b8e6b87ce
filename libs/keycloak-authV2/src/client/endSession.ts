import type * as oidc from 'openid-client';
import { AuthError } from '../errors.js';
import { record } from './identity.js';
import { providerFault } from './providerFaults.js';
import type { ProviderFetch } from './providerFetch.js';

/** Keycloak answers after it has told each application of the session, with 5 s for one that hangs. */
export const END_SESSION_MS = 30_000;
const PASSING_STATUS = new Set([401, 403, 408, 425, 429]);

/**
 * Ends the provider's session of a refresh token from server to server: `POST` to the end-session endpoint with client
 * authentication, as Keycloak takes it. `unsupported`: the provider does not do that, and nothing has ended.
 * @throws AuthError `provider_unavailable`, or `provider_rejected` where it refuses this client
 */
export async function endSession(
  config: oidc.Configuration,
  // Some methods sign, and are to be waited for, whatever openid-client's type says.
  authenticate: (...request: Parameters<oidc.ClientAuth>) => void | Promise<void>,
  send: ProviderFetch,
  refreshToken: string,
): Promise<'ended' | 'already_over' | 'unsupported'> {
  const { end_session_endpoint: endpoint } = config.serverMetadata();
  if (endpoint === undefined) return 'unsupported';
  const body = new URLSearchParams({ refresh_token: refreshToken });
  const headers = new Headers({ accept: 'application/json' });
  try {
    await authenticate(config.serverMetadata(), config.clientMetadata(), body, headers);
    const response = await send(endpoint, {
      method: 'POST',
      body,
      headers,
      redirect: 'manual',
      signal: AbortSignal.timeout(END_SESSION_MS),
    });
    return await meaningOf(response);
  } catch (error) {
    throw providerFault(error, 'other');
  }
}

async function meaningOf(response: Response): Promise<'ended' | 'already_over' | 'unsupported'> {
  const { status } = response;
  const text = await response.text();
  // A page asks a person for consent, and so does a redirect: nothing has ended.
  if (response.ok)
    return /^text\/html\b/i.test(response.headers.get('content-type') ?? '')
      ? 'unsupported'
      : 'ended';
  if (status === 400 && errorOf(text) === 'invalid_grant') return 'already_over';
  if (status === 401 || ['invalid_client', 'unauthorized_client'].includes(errorOf(text)))
    throw new AuthError('provider_rejected', 'the provider refuses this client', {
      reason: 'invalid_client',
    });
  if (status >= 500 ? status !== 501 : PASSING_STATUS.has(status))
    throw new AuthError('provider_unavailable', 'the provider gives no usable answer', {
      reason: status >= 500 ? 'server_error' : 'unexpected_status',
    });
  return 'unsupported';
}

/** OAuth's error code (RFC 6749 §5.2); empty for any other answer. */
function errorOf(text: string): string {
  try {
    const { error } = record(JSON.parse(text));
    return typeof error === 'string' ? error : '';
  } catch {
    return '';
  }
}
