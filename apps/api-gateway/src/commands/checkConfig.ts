import process from 'node:process';
import { parseArgs } from 'node:util';
import { assertionKey } from '@session-gateway/keycloak-auth';
import { UsageError } from '../composition/exits.js';
import { readSettings } from '../composition/settings.js';
import type { Config } from '../settings/config.js';
import { checkOnline } from './checkOnline.js';

export const CHECK_CONFIG_HELP = `usage: session-gateway check-config [--online]

Reads the settings as \`serve\` does and starts nothing. Names every problem at once, or says what was understood.

  --online                  also ask PostgreSQL and the realm whether they are as the settings need them

exit codes: 0 usable, 1 the settings are well-formed and something they name is not as it has to be, 2 wrong usage,
78 the settings are not usable`;

/** Resolves with the exit code. @throws ConfigError with every problem at once, UsageError */
export async function checkConfig(args: readonly string[]): Promise<number> {
  const { online, help } = readFlags(args);
  if (help) {
    process.stdout.write(`${CHECK_CONFIG_HELP}\n`);
    return 0;
  }
  const config = await readSettings(process.env);
  for (const line of await understood(config)) process.stdout.write(`session-gateway: ${line}\n`);
  if (!online) return 0;
  const { problems, remarks } = await checkOnline(config);
  for (const remark of remarks) process.stdout.write(`session-gateway: ${remark}\n`);
  for (const problem of problems) process.stderr.write(`session-gateway: ${problem}\n`);
  return problems.length === 0 ? 0 : 1;
}

function readFlags(args: readonly string[]): { online?: boolean; help?: boolean } {
  try {
    const options = { online: { type: 'boolean' }, help: { type: 'boolean' } } as const;
    return parseArgs({ args: [...args], options }).values;
  } catch {
    throw new UsageError(`check-config takes --online and nothing else, not ${args.join(' ')}`);
  }
}

/** What a usable configuration comes to; nothing has been connected to, but for Vault where it wraps the keyring. */
async function understood(config: Config): Promise<string[]> {
  const { routes, publicUrl, keycloak } = config;
  const embedded = embeddedNames(config);
  const lines = [
    `the configuration is usable: ${publicUrl.origin}, ${routes.length} routes${embedded.length > 0 ? `; embedded for development, as not set: ${embedded.join(', ')}` : ''}`,
  ];
  if (keycloak?.clientAuth !== 'private_key_jwt') return lines;
  const { clientKey, clientKeyId: keyId, clientKeyAlgorithm: algorithm } = keycloak;
  const key = await assertionKey({ clientKey, keyId, algorithm });
  return [
    ...lines,
    `the client's key is named ${key?.kid} and signs ${key?.algorithm}: the client's JWKS at Keycloak has to say so too`,
  ];
}

const embeddedNames = ({ databaseUrl, redisUrl, keycloak, keyring }: Config): string[] =>
  Object.entries({
    DATABASE_URL: databaseUrl,
    REDIS_URL: redisUrl,
    KEYCLOAK_ISSUER: keycloak,
    SESSION_TOKEN_ENCRYPTION_KEY: keyring,
  }).flatMap(([name, value]) => (value === undefined ? [name] : []));
