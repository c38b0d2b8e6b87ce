import { accessSync, constants, mkdirSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join, resolve } from 'node:path';
import { ConfigError, type KeycloakClientOptions } from '@session-gateway/keycloak-auth';
import { Problem } from '../request/errors.js';
import { isFromThisMachine } from '../request/loopback.js';
import type { Config } from './config.js';

/**
 * What stands in for everything that is not configured. Development only: production never gets here without its own.
 */
export interface EmbeddedParts {
  readonly databaseUrl: string;
  readonly encryptionKey: string | undefined;
  readonly keycloak: KeycloakClientOptions;
  readonly developmentProvider: {
    path: string;
    listener: (request: IncomingMessage, response: ServerResponse) => void;
  } | null;
  /** The variables that would replace what is embedded. */
  readonly names: readonly string[];
  banner(): string;
  stop(): Promise<void>;
}

const REALM_PATH = '/realms/neurotracker';
const CLIENT_ID = 'api-gateway';

/**
 * Starts what is missing; the packages behind it are loaded only then.
 * @throws ConfigError when DATA_DIR cannot be used
 */
export async function startEmbeddedParts(config: Config): Promise<EmbeddedParts> {
  const missing = {
    DATABASE_URL: config.databaseUrl === undefined,
    REDIS_URL: config.redisUrl === undefined,
    KEYCLOAK_ISSUER: config.keycloak === undefined,
    SESSION_TOKEN_ENCRYPTION_KEY: config.keyring === undefined,
  };
  const names = Object.entries(missing).flatMap(([name, isMissing]) => (isMissing ? [name] : []));
  const common = { names, banner: () => banner(config, names) };
  if (
    config.databaseUrl !== undefined &&
    config.keycloak !== undefined &&
    config.keyring !== undefined
  ) {
    return {
      ...common,
      databaseUrl: config.databaseUrl,
      encryptionKey: undefined,
      keycloak: config.keycloak,
      developmentProvider: null,
      stop: async () => undefined,
    };
  }

  const { createDevelopmentProvider, readOrCreateSecret, startEmbeddedPostgres } =
    await import('@session-gateway/embedded');
  const dataDir = resolve(config.dataDir);
  requireFolder(dataDir);
  const encryptionKey = config.keyring
    ? undefined
    : readOrCreateSecret(join(dataDir, 'session-token-encryption.key'));
  const startProvider = async (): Promise<{
    provider: Awaited<ReturnType<typeof createDevelopmentProvider>> | null;
    keycloak: KeycloakClientOptions;
  }> => {
    if (config.keycloak !== undefined) return { provider: null, keycloak: config.keycloak };
    const { origin } = config.publicUrl;
    const issuer = origin + REALM_PATH;
    const local = `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${config.port}`;
    const clientSecret = readOrCreateSecret(join(dataDir, 'client-secret.key'));
    const provider = await createDevelopmentProvider({
      issuer,
      dataDir: join(dataDir, 'provider'),
      clientId: CLIENT_ID,
      clientSecret,
      redirectUris: [`${origin}/auth/callback`],
      postLogoutRedirectUris: [`${origin}/`, `${origin}/auth/logged-out`],
      backchannelLogoutUri: `${local}/auth/backchannel-logout`,
    });
    // It is served by this process: its own calls need not find their way through PUBLIC_URL.
    return {
      provider,
      keycloak: { issuer, clientId: CLIENT_ID, clientSecret, internalUrl: local + REALM_PATH },
    };
  };
  // Side by side: at a first start the one makes its files while the other makes its keys.
  const [postgres, { provider, keycloak }] = await Promise.all([
    config.databaseUrl === undefined
      ? startEmbeddedPostgres({ dataDir: join(dataDir, 'postgres') })
      : null,
    startProvider(),
  ]);
  const listener = provider?.handler;
  return {
    ...common,
    databaseUrl: config.databaseUrl ?? postgres?.url ?? '',
    encryptionKey,
    keycloak,
    developmentProvider: listener
      ? { path: `${REALM_PATH}/`, listener: forItsCallers(listener, config) }
      : null,
    async stop() {
      await provider?.close();
      await postgres?.stop();
    },
  };
}

type Listener = (request: IncomingMessage, response: ServerResponse) => void;

/** Everybody knows the provider's passwords: unless it is told otherwise, it answers this machine only. */
function forItsCallers(
  listener: Listener,
  { developmentProviderForAll, host }: Pick<Config, 'developmentProviderForAll' | 'host'>,
): Listener {
  if (developmentProviderForAll) return listener;
  return (request, response) => {
    if (isFromThisMachine(request, host)) return listener(request, response);
    const problem = new Problem('forbidden');
    const detail =
      'The development provider answers this machine only; DEVELOPMENT_PROVIDER=true lets everybody in.';
    response
      .writeHead(problem.status, problem.headers())
      .end(JSON.stringify({ ...(JSON.parse(problem.body()) as object), detail }));
  };
}

function requireFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new ConfigError([
      `DATA_DIR names no folder to write in (${(error as NodeJS.ErrnoException).code ?? 'unknown'}), which embedded parts need`,
    ]);
  }
}

const EMBEDDED: Readonly<Record<string, string>> = {
  DATABASE_URL: 'PostgreSQL         kept in the data directory',
  REDIS_URL: 'cache              in this process; one instance only',
  KEYCLOAK_ISSUER:
    'identity provider  a development OpenID Provider; log in as demo, password demo,\n                       or as admin, password admin (role session-admin)',
  SESSION_TOKEN_ENCRYPTION_KEY:
    'encryption key     generated, in the data directory: losing it means logging in again',
};

/** One clear notice of what is embedded and what to set instead. */
function banner(config: Config, names: readonly string[]): string {
  const width = Math.max(...names.map((name) => name.length));
  return `
  Session gateway: ${config.publicUrl.origin}

  Embedded, for development (production refuses all of these):
${names.map((name) => `    ${EMBEDDED[name] ?? ''}\n    ${' '.repeat(19)}set ${name.padEnd(width)} to replace it`).join('\n')}

  Data directory: ${resolve(config.dataDir)}
  Stop with Ctrl-C.

`;
}
