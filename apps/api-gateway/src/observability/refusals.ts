import {
  type AuthErrorCode,
  isAuthError,
  type Reason,
  type RefusalReason,
} from '@session-gateway/keycloak-auth';
import type { Log } from './logging.js';
import type { Metrics } from './metrics.js';

/**
 * Codes of refusals and failures that have reasons (docs/operate/troubleshooting.md#every-reason), and the reason of
 * one that has none of its own.
 */
const DEFAULTS = {
  bearer_invalid: 'missing',
  callback_rejected: 'no_login_state',
  logout_token_invalid: 'missing',
  provider_rejected: 'other_error',
  provider_unavailable: 'no_answer',
  reauthentication_required: 'invalid_grant',
} as const satisfies Partial<Record<AuthErrorCode, RefusalReason>>;

type RefusalCode = keyof typeof DEFAULTS;
const isRefusal = (code: string): code is RefusalCode => Object.hasOwn(DEFAULTS, code);

/**
 * Counts something that was refused by its reason, and tells both in the log, with the provider's own words and never a
 * token. For answers that are no problem document as well, such as a redirect to another try.
 */
export function reportRefusal(
  { metrics, log }: { metrics: Pick<Metrics, 'refusals'>; log: Log },
  { code, cause }: { readonly code: string; readonly cause?: unknown },
): void {
  if (!isRefusal(code)) return;
  const fault = isAuthError(cause) ? cause : undefined;
  const reason = fault?.reason ?? DEFAULTS[code];
  metrics.refusals.inc({ code, reason });
  // Whoever sends no token at all is told what is missing; that is nobody's mistake yet.
  const level = reason === 'missing' ? 'debug' : 'info';
  const advice = code === 'callback_rejected' ? ADVICE.get(reason) : undefined;
  log[level](
    { event: 'refused', code, reason, provider: fault?.providerSaid },
    advice === undefined ? REFUSED : `${REFUSED}: ${advice}`,
  );
}

const REFUSED = 'refused';
/** Where every login is refused until the operator sets something. */
const ADVICE: ReadonlyMap<Reason, string> = new Map([
  [
    'issuer_missing',
    'turn off "Exclude Issuer From Authentication Response" at this client in Keycloak',
  ],
  [
    'algorithm',
    'set "ID token signature algorithm" of this client in Keycloak to an asymmetric one that KEYCLOAK_ID_TOKEN_ALG allows',
  ],
  ['no_id_token', 'the scope of the login has to hold openid, and Keycloak has to grant it'],
]);
