import { openDatabase } from '@session-gateway/database';
import { checkRealm, type RealmFinding } from '@session-gateway/keycloak-auth';
import { reasonOf } from '../observability/logging.js';
import type { Config } from '../settings/config.js';

/** What is not as the settings need it, a line each: what is wrong, and what to do. */
export interface OnlineReport {
  /** Has to be set right before people log in. */
  readonly problems: readonly string[];
  /** Works, or could not be seen from here. */
  readonly remarks: readonly string[];
}

/** Asks PostgreSQL and the realm, and changes nothing; what is embedded needs no check. */
export async function checkOnline(config: Config): Promise<OnlineReport> {
  const [database, realm] = await Promise.all([databaseProblems(config), realmFindings(config)]);
  const linesOf = (isProblem: boolean): string[] =>
    realm
      .filter(({ severity }) => (severity === 'problem') === isProblem)
      .map(({ message }) => message);
  return { problems: [...database, ...linesOf(true)], remarks: linesOf(false) };
}

async function databaseProblems({ databaseUrl }: Config): Promise<string[]> {
  if (databaseUrl === undefined) return [];
  const database = openDatabase({ url: databaseUrl, maxConnections: 1 });
  try {
    await database.ping();
    return [];
  } catch (error) {
    return [`DATABASE_URL: PostgreSQL cannot be used: ${reasonOf(error)}`];
  } finally {
    await database.close();
  }
}

async function realmFindings({ keycloak, login, publicUrl }: Config): Promise<RealmFinding[]> {
  if (keycloak === undefined) return [];
  return checkRealm({ ...keycloak, scope: login.scope, publicUrl });
}
