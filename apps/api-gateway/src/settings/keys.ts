import { randomUUID } from 'node:crypto';
import { type Database, isStorageUnavailable } from '@session-gateway/database';
import {
  ConfigError,
  confirmKeys,
  type Environment,
  forgetInstance,
  HEARTBEAT_MS,
  isAuthError,
  keyFaults,
  type Keyring,
  loadKeyring,
  type OldFormats,
  readKeyring,
  type ReadPolicy,
  reportInstance,
  type ReloadableKeyring,
} from '@session-gateway/keycloak-auth';
import { onFileChange } from './fileChanges.js';
import type { Log } from '../observability/logging.js';
import type { Metrics } from '../observability/metrics.js';

/** The keys of this process through its life. */
export interface Keys {
  /** Passes once the database agrees that they are the right ones. @throws ConfigError, or the storage's own error */
  readonly confirm: () => Promise<void>;
  /** Reads them anew; what is not usable is reported and changes nothing. */
  reload(): Promise<void>;
  stop(): Promise<void>;
}

export interface KeysOptions {
  env: Environment;
  keyring: ReloadableKeyring;
  /** Of the generated key, where the environment names none. */
  generatedText: string | undefined;
  readPolicy: ReadPolicy;
  db: Database;
  metrics: Pick<Metrics, 'keyringReloads'>;
  log: Log;
}

const RETRY_MS = 2_000;
/**
 * What has been sealed is stored within this time, or not at all: waiting for a connection and
 * for a statement takes less.
 */
const STORED_WITHIN_MS = 5_000;
const PATIENCE_MS = 30_000;

/**
 * The environment with its keyring in the clear. A Vault that does not answer at once is given half a minute.
 * @throws AuthError `key_provider_unavailable`
 */
export async function loadKeyringAtStart(
  env: Environment,
  problems: string[],
  note: (line: string) => void,
): Promise<Environment> {
  for (const end = Date.now() + PATIENCE_MS; ;) {
    try {
      return await loadKeyring(env, problems);
    } catch (error) {
      if (!isAuthError(error, 'key_provider_unavailable') || Date.now() >= end) throw error;
      note(`${error.message}; trying again for up to ${PATIENCE_MS / 1000} s`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

export function keepKeys({
  env,
  keyring,
  generatedText,
  readPolicy,
  db,
  metrics,
  log,
}: KeysOptions): Keys {
  const id = randomUUID();
  let confirmed: Promise<void> | null = null;
  let reloading: Promise<void> = Promise.resolve();
  /** What others are told that this process seals under: a key stays until all that was sealed under it is stored. */
  let sealing = keyring.primary;
  let faultsTold = '';
  let reported = false;
  let stopped = false;
  const timers: Partial<Record<'retry' | 'heartbeat' | 'settled', NodeJS.Timeout>> = {};
  const later = (name: keyof typeof timers, ms: number, work: () => void): void => {
    clearTimeout(timers[name]);
    if (!stopped) timers[name] = setTimeout(work, ms).unref();
  };

  const report = async (): Promise<void> => {
    await reportInstance(db.sql, id, keyring, sealing);
    reported = true;
  };
  const beat = (): void =>
    later('heartbeat', HEARTBEAT_MS, () => {
      // PostgreSQL's absence is told elsewhere.
      report()
        .then(lookAround)
        .catch(() => undefined)
        .finally(beat);
    });
  /** Whoever was cut off from PostgreSQL for a while may have missed that the fleet went on without it. */
  const lookAround = async (): Promise<void> => {
    const faults = (await keyFaults(db.sql, keyring)).join('\n');
    if (faults !== '' && faults !== faultsTold) void request();
    faultsTold = faults;
  };

  const first = async (): Promise<void> => {
    const old = await confirmKeys(db, keyring, readPolicy);
    // Before the first value is sealed, so that nobody retires a key that this process is about to use; and then the
    // list once more, for what was announced before this process could be seen.
    await report();
    const faults = await keyFaults(db.sql, keyring);
    if (faults.length > 0) {
      await forgetInstance(db.sql, id);
      throw new ConfigError(faults);
    }
    beat();
    tellOfOldFormats(old, readPolicy, log);
  };

  const load = async (): Promise<Keyring> => {
    const problems: string[] = [];
    const loaded = await loadKeyring(env, problems);
    const next = problems.length > 0 ? undefined : readKeyring(loaded, problems, generatedText);
    if (!next) throw new ConfigError(problems);
    await confirmKeys(db, next, readPolicy);
    return next;
  };
  const reload = async (): Promise<void> => {
    clearTimeout(timers.retry);
    try {
      const next = await load();
      if (stopped) return;
      keyring.replace(next);
      metrics.keyringReloads.inc({ outcome: 'replaced' });
      log.info(
        { event: 'keyring', primary: next.primary, kids: next.kids },
        'the keyring has been read anew',
      );
      if (next.primary !== sealing)
        later('settled', STORED_WITHIN_MS, () => {
          sealing = keyring.primary;
          report().catch(() => undefined);
        });
      await report();
    } catch (error) {
      const again = isStorageUnavailable(error) || isAuthError(error, 'key_provider_unavailable');
      metrics.keyringReloads.inc({ outcome: again ? 'postponed' : 'refused' });
      log.error(
        {
          event: 'keyring',
          problems:
            error instanceof ConfigError
              ? error.problems
              : [error instanceof Error ? error.message : 'unknown'],
        },
        again
          ? 'the keyring cannot be read anew yet; trying again'
          : 'the new keyring is not usable; the one before stays in use',
      );
      if (again) later('retry', RETRY_MS, () => void request());
    }
  };
  // One after the other, so that the last one asked for is the one that stays.
  const request = (): Promise<void> => (reloading = reloading.then(reload));

  const file = env['SESSION_TOKEN_KEYRING_FILE'];
  const stopWatching = file ? onFileChange(file, () => void request()) : () => undefined;

  return {
    confirm() {
      confirmed ??= first().catch((error: unknown) => {
        confirmed = null;
        throw error;
      });
      return confirmed;
    },
    reload: request,
    async stop() {
      stopped = true;
      for (const timer of Object.values(timers)) clearTimeout(timer);
      stopWatching();
      await reloading;
      if (reported) await forgetInstance(db.sql, id).catch(() => undefined);
    },
  };
}

/** What the operator should know of the read policy before a request finds out. */
function tellOfOldFormats(old: OldFormats | null, readPolicy: ReadPolicy, log: Log): void {
  if (!old) return;
  if (readPolicy !== 'all' && old.plain > 0) {
    log.warn(
      { event: 'old_formats', ...old, policy: readPolicy },
      `${old.plain} values of live sessions are in plaintext, which TOKEN_READ_POLICY=${readPolicy} refuses to read: run \`nx run migrations:encrypt-tokens -- --execute\``,
    );
  }
  if (readPolicy === 'all' && old.plain === 0) {
    log.warn(
      { event: 'old_formats', ...old, policy: readPolicy },
      'TOKEN_READ_POLICY=all takes any text in a token column for a token, and no live session needs that: set it to v2+plan or v2',
    );
  }
}
