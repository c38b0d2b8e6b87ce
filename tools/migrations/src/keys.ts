import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import type { Database } from '@session-gateway/database';
import {
  announce,
  ConfigError,
  countStored,
  createKeyring,
  type Environment,
  fileProvider,
  forgetKey,
  type KeyProvider,
  keyOfText,
  knownKeys,
  liveInstances,
  loadKeyring,
  readKeyring,
  readSecret,
  rememberKeys,
  WRAPPED,
} from '@session-gateway/keycloak-auth';
import { type JobConfig, readConfig } from './config.js';
import { inspect, type InspectOptions } from './inspect.js';
import { byColumn, keyTable, listKeys, told } from './keyList.js';
import {
  type KeyEntry,
  type KeyringDocument,
  keyringOf,
  keyringProvider,
  newKey,
  readKeyringDocument,
  RefusedError,
  spell,
} from './keyringDocument.js';
import { UsageError } from './options.js';
import { otherTablesWith } from './otherTables.js';
import { requireAllRows } from './tokenTable.js';
import { withDatabase } from './withDatabase.js';

export const KEYS_USAGE = `usage: keys <command>

  generate [--kid <kid>] [--out <file>]   make a keyring with a new key; with SESSION_TOKEN_ENCRYPTION_KEY set, its
                                          key k1 stays the primary and the new one waits beside it
  list [--json]                           the keys, who knows them, and how many values each still holds
  add [--kid <kid>]                       add a new key to the keyring, which opens values and seals none yet
  promote <kid>                           make it the primary key; refused while a live gateway does not know it
  retire <kid>                            take it out of the keyring; refused while any value needs it
  inspect --id <row> --column <column>    explain one stored value: which key, whether it opens, and if not, why
          [--table <t>] [--id-column <c>] [--value <value>|-] [--json]
  rewrap                                  wrap the keyring anew under Vault's newest transit key

The keyring is the file that SESSION_TOKEN_KEYRING_FILE names. Gateways that read it notice a change within seconds.
exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the inspected value does not open, 78 configuration`;

type Print = (text: string) => void;

/** Counting the values of a large table takes its time. */
const QUERY_TIMEOUT_MS = 600_000;

/** The exit code; what it says goes to `print`. */
export async function keys(
  args: readonly string[],
  env: Environment,
  print: Print,
): Promise<number> {
  const [command, ...rest] = args;
  if (command === undefined || command === 'help' || args.includes('--help')) {
    print(KEYS_USAGE);
    return command === undefined ? 2 : 0;
  }
  switch (command) {
    case 'generate':
      return generate(flags(rest, { kid: 'string', out: 'string' }), env, print);
    case 'list':
      return list(flags(rest, { json: 'boolean' }), env, print);
    case 'add':
      return add(flags(rest, { kid: 'string' }), env, print);
    case 'promote':
      return promote(word(rest, 'promote'), env, print);
    case 'retire':
      return retire(word(rest, 'retire'), env, print);
    case 'inspect':
      return look(
        flags(rest, {
          id: 'string',
          column: 'string',
          table: 'string',
          'id-column': 'string',
          value: 'string',
          json: 'boolean',
        }),
        env,
        print,
      );
    case 'rewrap':
      return rewrap(flags(rest, {}), env, print);
    default:
      throw new UsageError(
        `unknown command ${command}: there are generate, list, add, promote, retire, inspect and rewrap`,
      );
  }
}

async function generate(
  { kid, out }: { kid?: string; out?: string },
  env: Environment,
  print: Print,
): Promise<number> {
  const problems: string[] = [];
  const keyText = readSecret(env, 'SESSION_TOKEN_ENCRYPTION_KEY', problems);
  // Refuses a text that is no key.
  if (keyText !== undefined)
    readKeyring({ NODE_ENV: env['NODE_ENV'], SESSION_TOKEN_ENCRYPTION_KEY: keyText }, problems);
  if (problems.length > 0) throw new ConfigError(problems);
  const old: KeyEntry[] =
    keyText === undefined ? [] : [{ kid: 'k1', key: keyOfText(keyText).toString('base64url') }];
  const added = newKey(
    kid,
    old.map((key) => key.kid),
  );
  const json = spell({ primary: old[0]?.kid ?? added.kid, keys: [added, ...old] });
  if (out === undefined) {
    print(json.trimEnd());
    return 0;
  }
  if (!existsSync(dirname(out))) throw new UsageError(`--out: there is no folder ${dirname(out)}`);
  if (existsSync(out))
    throw new RefusedError(
      `${out} is there already: a keyring that values are sealed under must not be overwritten`,
    );
  await keyringProvider({
    ...env,
    SESSION_TOKEN_KEYRING: undefined,
    SESSION_TOKEN_KEYRING_FILE: out,
  }).save(json);
  print(
    `a keyring with the key ${added.kid}${old.length > 0 ? ' beside k1, which stays the primary,' : ''} is in ${out}: set SESSION_TOKEN_KEYRING_FILE to it${old.length > 0 ? ' everywhere, then promote the new key' : ''}`,
  );
  return 0;
}

async function add({ kid }: { kid?: string }, env: Environment, print: Print): Promise<number> {
  return onKeyring(env, async ({ db, provider, document }) => {
    const used = (await knownKeys(db.sql)).map((known) => known.kid);
    const added = newKey(kid, [...used, ...document.keys.map((key) => key.kid)]);
    const next = { ...document, keys: [...document.keys, added] };
    const keyring = keyringOf(next);
    // The database first: from then on nobody can bring another key under this id.
    await rememberKeys(db.sql, keyring);
    try {
      await provider.save(spell(next));
    } catch (error) {
      await forgetKey(db.sql, keyring, added.kid);
      throw error;
    }
    print(
      `the key ${added.kid} is in the keyring and seals nothing yet. Once every gateway knows it (\`keys list\`), promote it`,
    );
    return 0;
  });
}

async function promote(kid: string, env: Environment, print: Print): Promise<number> {
  return onKeyring(env, async ({ db, provider, document }) => {
    if (!document.keys.some((key) => key.kid === kid))
      throw new RefusedError(
        `the keyring has no key ${kid}: there are ${document.keys.map((key) => key.kid).join(', ')}`,
      );
    if (kid === 'plain')
      throw new RefusedError(
        'plain means plaintext to encrypt-tokens: add a key with another id, and promote that',
      );
    if (document.primary === kid) {
      print(`${kid} is the primary key already`);
      return 0;
    }
    const next: KeyringDocument = {
      primary: kid,
      keys: document.keys.map(({ status, ...key }) => {
        if (key.kid === document.primary) return { ...key, status: 'decrypt-only' };
        return status && key.kid !== kid ? { ...key, status } : key;
      }),
    };
    const keyring = keyringOf(next);
    await rememberKeys(db.sql, keyring);
    if ((await knownKeys(db.sql)).some((known) => known.kid === kid && known.retiredAt))
      throw new RefusedError(`${kid} has been retired: add a new key instead`);
    const objection = async (): Promise<string | null> => {
      const live = await liveInstances(db.sql);
      const ignorant = live.filter((instance) => instance.keys[kid] !== keyring.fingerprint(kid));
      return ignorant.length === 0
        ? null
        : `${ignorant.length} of ${live.length} live gateways do not know ${kid} and could not read what the others would seal: give them the keyring first, or stop them and wait half a minute\n${ignorant.map(told).join('\n')}`;
    };
    await announced(db, kid, 'promoted', objection, () => provider.save(spell(next)));
    const live = await liveInstances(db.sql);
    print(
      `${kid} is the primary key now${live.length === 0 ? '; no gateway is at work' : `; the ${live.length} live ${live.length === 1 ? 'gateway knows' : 'gateways know'} it`}. Rewrite what ${document.primary} holds with \`nx run migrations:encrypt-tokens -- --execute\`, then retire ${document.primary}`,
    );
    return 0;
  });
}

async function retire(kid: string, env: Environment, print: Print): Promise<number> {
  return onKeyring(env, async ({ db, provider, document }) => {
    if (document.primary === kid)
      throw new RefusedError(`${kid} is the primary key: promote another one first`);
    for (const table of ['user_sessions', 'provider_logouts']) await requireAllRows(db.sql, table);
    const inKeyring = document.keys.some((key) => key.kid === kid);
    if (!inKeyring && !(await knownKeys(db.sql)).some((key) => key.kid === kid))
      throw new RefusedError(`there is no key ${kid}, neither in the keyring nor in the database`);
    const objection = async (): Promise<string | null> => {
      // Gateways before values: one that seals under it could add to what was counted.
      const sealing = (await liveInstances(db.sql)).filter(
        (instance) => instance.primaryKid === kid,
      );
      if (sealing.length > 0)
        return `${sealing.length} live ${sealing.length === 1 ? 'gateway still seals' : 'gateways still seal'} under ${kid}: give them the new keyring, and a few seconds\n${sealing.map(told).join('\n')}`;
      const held = byColumn((await countStored(db.sql)).filter((count) => count.kid === kid));
      const where = [
        ...Object.entries(held).map(([column, values]) => `${column} ${values}`),
        ...(await otherTablesWith(db, kid)).map((table) => `table ${table}`),
      ];
      return where.length === 0
        ? null
        : `values are still sealed under ${kid} (${where.join(', ')}): rewrite them with \`nx run migrations:encrypt-tokens -- --execute\` first`;
    };
    await announced(db, kid, 'retired', objection, async () => {
      if (inKeyring)
        await provider.save(
          spell({ ...document, keys: document.keys.filter((key) => key.kid !== kid) }),
        );
    });
    print(
      `${kid} is retired: no value needs it, and it is out of the keyring. Keep a copy as long as you keep backups that hold values under it`,
    );
    return 0;
  });
}

async function list({ json }: { json?: boolean }, env: Environment, print: Print): Promise<number> {
  const config = await configOf(env);
  return withDatabase(config, { name: 'keys', queryTimeoutMs: QUERY_TIMEOUT_MS }, async (db) => {
    const found = await listKeys(db, config.keyring);
    print(json ? JSON.stringify(found) : keyTable(found));
    return 0;
  });
}

async function look(
  given: {
    id?: string;
    column?: string;
    table?: string;
    'id-column'?: string;
    value?: string;
    json?: boolean;
  },
  env: Environment,
  print: Print,
): Promise<number> {
  const { id, column, json = false } = given;
  if (id === undefined || column === undefined)
    throw new UsageError('inspect needs --id <row> and --column <column>');
  const value =
    given.value === '-'
      ? (await readFile('/dev/stdin', 'utf8')).replace(/\r?\n$/, '')
      : given.value;
  const options: InspectOptions = {
    table: given.table ?? 'user_sessions',
    idColumn: given['id-column'] ?? 'id',
    column,
    id,
    value: value ?? null,
  };
  const config = await configOf(env);
  return withDatabase(config, { name: 'keys', queryTimeoutMs: QUERY_TIMEOUT_MS }, async (db) => {
    const { lines, ...facts } = await inspect(options, db, config.keyring);
    print(json ? JSON.stringify(facts) : lines.join('\n'));
    return facts.opens === false ? 3 : 0;
  });
}

async function rewrap(_: object, env: Environment, print: Print): Promise<number> {
  const file = env['SESSION_TOKEN_KEYRING_FILE'];
  if (!file)
    throw new ConfigError(['SESSION_TOKEN_KEYRING_FILE must name the file that holds the keyring']);
  if (!env['VAULT_TRANSIT_KEY'])
    throw new ConfigError([
      'VAULT_TRANSIT_KEY must name the transit key that is to wrap the keyring',
    ]);
  const provider = keyringProvider(env);
  const stored = await fileProvider(file).load();
  const json = WRAPPED.test(stored.trim()) ? await provider.load() : stored;
  createKeyring({ keyringJson: json });
  await provider.save(json);
  print(
    `the keyring in ${file} is wrapped under the newest version of Vault's transit key; no stored token was touched`,
  );
  return 0;
}

/**
 * Runs a step that may change the keyring, one such step at a time on a database: the next one
 * reads what this one wrote.
 */
async function onKeyring(
  env: Environment,
  step: (on: { db: Database; provider: KeyProvider; document: KeyringDocument }) => Promise<number>,
): Promise<number> {
  const provider = keyringProvider(env);
  return withDatabase(
    await configOf(env),
    { name: 'keys', queryTimeoutMs: QUERY_TIMEOUT_MS },
    async (db) => {
      const connection = await db.pool.connect();
      try {
        const {
          rows: [row],
        } = await connection.query<{ alone: boolean }>(
          `SELECT pg_try_advisory_lock(hashtextextended('session-gateway keys', 0)) AS alone`,
        );
        if (!row?.alone)
          throw new RefusedError(
            'another `keys` command is at work on this database: wait for it to end',
          );
        return await step({ db, provider, document: await readKeyringDocument(provider) });
      } finally {
        // Closing the connection is what frees the lock.
        connection.release(true);
      }
    },
  );
}

/** Announces a step, so that gateways which start meanwhile know of it, and takes it if nobody at work objects. */
async function announced(
  db: Database,
  kid: string,
  what: 'promoted' | 'retired',
  objection: () => Promise<string | null>,
  take: () => Promise<void>,
): Promise<void> {
  const before = await objection();
  if (before !== null) throw new RefusedError(before);
  const takeBack = await announce(db.sql, kid, what);
  try {
    const after = await objection();
    if (after !== null) throw new RefusedError(after);
    await take();
  } catch (error) {
    await takeBack();
    throw error;
  }
}

async function configOf(env: Environment): Promise<JobConfig> {
  const problems: string[] = [];
  return readConfig(await loadKeyring(env, problems), problems);
}

type Flags<Spec extends Record<string, 'string' | 'boolean'>> = {
  [Name in keyof Spec]?: Spec[Name] extends 'string' ? string : boolean;
};

function flags<const Spec extends Record<string, 'string' | 'boolean'>>(
  args: readonly string[],
  spec: Spec,
): Flags<Spec> {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: Object.fromEntries(Object.entries(spec).map(([name, type]) => [name, { type }])),
      strict: true,
      allowPositionals: false,
    });
    return values as Flags<Spec>;
  } catch (error) {
    const { code = '', message } = error as { code?: string; message: string };
    if (!code.startsWith('ERR_PARSE_ARGS')) throw error;
    throw new UsageError(
      /^[^.\n]*/.exec(message)?.[0].replace(/^./, (letter) => letter.toLowerCase()) ??
        'wrong flags',
    );
  }
}

function word(args: readonly string[], command: string): string {
  const [kid, ...more] = args;
  if (kid === undefined || kid.startsWith('-') || more.length > 0)
    throw new UsageError(`${command} takes one key id`);
  return kid;
}
