import { decodeJwt } from 'jose';
import { base } from './base.js';
import { record } from './identity.js';
import { KeycloakClient } from './KeycloakClient.js';
import { type Asking, clientPage, type RealmFinding } from './realmFinding.js';

const MAX_CLOCK_DIFFERENCE_SECONDS = 10;
const LOGOUT = 'Clients > %s > Settings > Logout settings';

/**
 * How the client is registered, read from Keycloak's administration with the token of the client's own service
 * account. Where it may not read that, one finding says what a person has to look at.
 */
export async function checkRegistration(asking: Asking): Promise<RealmFinding[]> {
  const { options } = asking;
  const token = await new KeycloakClient(options).grant('client_credentials', {}).then(
    ({ accessToken }) => accessToken,
    () => null,
  );
  const clock = token === null ? [] : clockFindings(token, (options.now ?? Date.now)());
  const client = token === null ? null : await readClient(asking, token);
  if (client === null) return [...clock, unseen(asking)];
  return [...clock, ...logoutFindings(asking, client)];
}

const unseen = ({ options }: Asking): RealmFinding => ({
  check: 'registration',
  severity: 'unseen',
  message: `not seen: the client's logout settings and Keycloak's clock; ${clientPage(options, LOGOUT)}: "Backchannel logout URL" is ${backchannelUrl(options)}, "Backchannel logout session required" is on, and "Front channel logout" is off. To have them checked here, give the client's service account the role view-clients of realm-management`,
});

const backchannelUrl = ({ publicUrl }: { publicUrl: URL }): string =>
  new URL('/auth/backchannel-logout', publicUrl).href;

async function readClient(
  { options, ask }: Asking,
  token: string,
): Promise<Record<string, unknown> | null> {
  const issuer = base(options.issuer);
  if (!/\/realms\/[^/]+$/.test(issuer)) return null;
  const address = issuer.replace(/\/realms\/([^/]+)$/, '/admin/realms/$1/clients');
  const answer = await ask(`${address}?clientId=${encodeURIComponent(options.clientId)}`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const found: unknown = answer.ok ? await answer.json() : null;
  return Array.isArray(found) && found.length > 0 ? record(found[0]) : null;
}

function logoutFindings({ options }: Asking, client: Record<string, unknown>): RealmFinding[] {
  const attributes = record(client['attributes']);
  const url = attributes['backchannel.logout.url'];
  const where = clientPage(options, LOGOUT);
  const findings: RealmFinding[] = [];
  if (client['frontchannelLogout'] === true)
    findings.push({
      check: 'frontchannel',
      severity: 'problem',
      message: `"Front channel logout" is on: Keycloak sends no logout token to this client then, and an administrator's logout comes late; ${where}: turn it off`,
    });
  if (typeof url !== 'string' || url === '')
    findings.push({
      check: 'backchannel',
      severity: 'problem',
      message: `"Backchannel logout URL" is empty: a logout at Keycloak does not arrive here; ${where}: write ${backchannelUrl(options)}`,
    });
  else if (!url.endsWith('/auth/backchannel-logout'))
    findings.push({
      check: 'backchannel',
      severity: 'problem',
      message: `"Backchannel logout URL" leads elsewhere; ${where}: write ${backchannelUrl(options)}, or the gateway's own address with this path`,
    });
  if (attributes['backchannel.logout.session.required'] !== 'true')
    findings.push({
      check: 'backchannel',
      severity: 'warning',
      message: `"Backchannel logout session required" is off: a logout at Keycloak ends all sessions of the person; ${where}: turn it on`,
    });
  return findings;
}

function clockFindings(token: string, nowMs: number): RealmFinding[] {
  const { iat } = decodeJwt(token);
  const ahead = iat === undefined ? 0 : Math.round(iat - nowMs / 1000);
  if (Math.abs(ahead) <= MAX_CLOCK_DIFFERENCE_SECONDS) return [];
  return [
    {
      check: 'clock',
      severity: 'problem',
      message: `Keycloak's clock is ${Math.abs(ahead)} s ${ahead > 0 ? 'ahead of' : 'behind'} this machine's: logins will fail; synchronise both`,
    },
  ];
}
