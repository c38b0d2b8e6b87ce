import { AuthError, isAuthError, KeycloakClient } from '@session-gateway/keycloak-auth';

// A refusal ends the session, whatever the provider calls itself just then.
const { refresh } = KeycloakClient.prototype;
KeycloakClient.prototype.refresh = async function (...token) {
  return refresh.apply(this, token).catch((error: unknown) => {
    if (!isAuthError(error, 'provider_unavailable') || error.reason !== 'issuer_mismatch')
      throw error;
    throw new AuthError('reauthentication_required', 'the provider ended the grant', {
      reason: 'invalid_grant',
      cause: error,
    });
  });
};
await import('../../../../apps/api-gateway/src/main.js');
