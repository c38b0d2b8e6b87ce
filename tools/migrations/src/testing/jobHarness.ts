import { type ChildProcess, spawn } from 'node:child_process';
// eslint-disable-next-line no-restricted-imports -- nobody but tests writes the plan's format any more
import { createCipheriv, createHash, randomBytes, scryptSync } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { type Database, findPrismaDir, migrate, openDatabase } from '@session-gateway/database';
import { createKeyring, type Keyring, TokenEncryption } from '@session-gateway/keycloak-auth';
import type { TestPostgres } from '@session-gateway/testkit';

export const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));
export const PROGRAM = fileURLToPath(
  new URL('../../../../dist/tools/migrations/main.js', import.meta.url),
);
export const KEY_TEXT = 'a key text of the job, long enough to be one';
export const COLUMNS = ['access_token', 'refresh_token', 'id_token'] as const;
export type Column = (typeof COLUMNS)[number];

const keyBytes = (seed: string): string => createHash('sha256').update(seed).digest('base64url');
/** k26b seals, k26a only opens. */
export const KEYRING_JSON = JSON.stringify({
  primary: 'k26b',
  keys: [
    { kid: 'k26b', key: keyBytes('b') },
    { kid: 'k26a', key: keyBytes('a'), status: 'decrypt-only' },
  ],
});
export const KEYRING_A_JSON = JSON.stringify({
  primary: 'k26a',
  keys: [{ kid: 'k26a', key: keyBytes('a') }],
});
export const keyring = createKeyring({ keyText: KEY_TEXT, keyringJson: KEYRING_JSON });
export const ENV = { SESSION_TOKEN_ENCRYPTION_KEY: KEY_TEXT, SESSION_TOKEN_KEYRING: KEYRING_JSON };

/** A sequence that a seed repeats (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const planKey = (keyText: string): Buffer => scryptSync(keyText, 'session-tokens-salt', 32);
const planKeys = new Map<string, Buffer>();

/** A value as the plan's own code wrote it. */
export function planValue(token: string, keyText = KEY_TEXT): string {
  const key = planKeys.get(keyText) ?? planKey(keyText);
  planKeys.set(keyText, key);
  const iv = randomBytes(16);
  const cipher = createCipheriv('aes-256-gcm', key, iv);
  const sealed = Buffer.concat([cipher.update(token, 'utf8'), cipher.final()]);
  return `${iv.toString('hex')}:${cipher.getAuthTag().toString('hex')}:${sealed.toString('hex')}`;
}

export function sealed(
  token: string,
  rowId: string,
  column: string,
  kid = 'k26b',
  table = 'user_sessions',
  keys: Keyring = keyring,
): string {
  return new TokenEncryption({ keyring: keys, readPolicy: 'all' }).seal(
    token,
    { table, column, rowId },
    kid,
  );
}

export function opened(
  value: string | null,
  rowId: string,
  column: string,
  policy: 'v2' | 'all' = 'all',
  keys: Keyring = keyring,
  table = 'user_sessions',
): string | null {
  return value === null || value === ''
    ? null
    : new TokenEncryption({ keyring: keys, readPolicy: policy }).open(value, {
        table,
        column,
        rowId,
      });
}

/** About the size of a Keycloak token; begins with what the test knows it by. */
export const tokenOf = (label: string, bytes = 1_500): string =>
  `${label}.${'e'.repeat(8)}${createHash('sha512')
    .update(label)
    .digest('base64url')
    .repeat(Math.ceil(bytes / 86))}`.slice(0, Math.max(bytes, label.length + 1));

export interface SeedRow {
  readonly id: string;
  readonly stored: Readonly<Record<Column, string | null>>;
  readonly tokens: Readonly<Record<Column, string | null>>;
}

/** Rows of every kind that a migration meets; what each value opens to stands beside it. */
export function mixedRows(count: number, next: () => number, prefix = 's'): SeedRow[] {
  return Array.from({ length: count }, (_, index) => {
    const id = `${prefix}-${String(index).padStart(6, '0')}`;
    const stored = {} as Record<Column, string | null>;
    const tokens = {} as Record<Column, string | null>;
    for (const column of COLUMNS) {
      const kind = Math.floor(next() * 20);
      [stored[column], tokens[column]] = valueOf(kind, index, id, column);
    }
    return { id, stored, tokens };
  });
}

/** A value of one of the kinds, and what it opens to. */
function valueOf(
  kind: number,
  index: number,
  id: string,
  column: Column,
): [string | null, string | null] {
  const token = tokenOf(`${id}/${column}/0`);
  if (kind === 0) return [null, null];
  if (kind === 1) return ['', null];
  if (kind === 2 || kind === 3) return [planValue(token), token];
  if (kind === 4) return [sealed(token, id, column, 'k26a'), token];
  if (kind === 5) return [`with:colons:${token}`, `with:colons:${token}`];
  return kind === 6 ? lookAlike(index) : [token, token];
}

/** Like the plan's format, and not it: a cut tag, odd hex, no ciphertext, upper case. Texts, then. */
function lookAlike(index: number): [string, string] {
  const iv = 'ab'.repeat(16);
  const text =
    [
      `${iv}:${'cd'.repeat(4)}:${'ef'.repeat(9)}`,
      `${iv}:${'cd'.repeat(16)}:abc`,
      `${iv}:${'cd'.repeat(16)}:`,
      `${iv.toUpperCase()}:${'cd'.repeat(16)}:00`,
    ][index % 4] ?? iv;
  return [text, text];
}

export async function newDatabase(postgres: TestPostgres): Promise<string> {
  const url = await postgres.createDatabase();
  await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
  await postgres.query(`INSERT INTO users (id, keycloak_id) VALUES ('u', 'u')`, [], url);
  return url;
}

export async function insertRows(db: Database, rows: readonly SeedRow[]): Promise<void> {
  for (let at = 0; at < rows.length; at += 500) {
    const part = rows.slice(at, at + 500);
    await db.sql.query(
      `INSERT INTO user_sessions (id, user_id, keycloak_session_id, expires_at, access_token, refresh_token, id_token, fingerprint, metadata)
       SELECT id, 'u', 'sid-' || id, now() + interval '1 day', a, r, i, 'print-' || id, '{"a":1}' FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS t(id, a, r, i)`,
      [
        part.map((row) => row.id),
        part.map((row) => row.stored.access_token),
        part.map((row) => row.stored.refresh_token),
        part.map((row) => row.stored.id_token),
      ],
    );
  }
}

/** A pool that outlives PostgreSQL. */
export function open(url: string, maxConnections = 6): Database {
  const db = openDatabase({
    url,
    maxConnections,
    connectTimeoutMs: 2_000,
    queryTimeoutMs: 30_000,
    applicationName: 'job-test',
  });
  db.pool.on('connect', (connection) => connection.on('error', () => undefined));
  return db;
}

/** Everything about the rows that the job must leave alone; with `xmin` and values also what it may write. */
export async function fingerprint(
  db: Database,
  what: 'all' | 'other columns',
  table = 'user_sessions',
): Promise<string> {
  const row =
    what === 'all'
      ? `t.xmin::text || t::text`
      : `(to_jsonb(t) - '{access_token,refresh_token,id_token}'::text[])::text`;
  const [found] = await db.sql.query<{ md5: string }>(
    `SELECT md5(coalesce(string_agg(${row}, '|' ORDER BY t.id), '')) AS md5 FROM ${table} t`,
  );
  return found?.md5 ?? '';
}

export interface JobExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly json: JobJson;
}
export interface JobJson {
  run: string | null;
  mode: string;
  scanned: number;
  changed: number;
  alreadyCurrent: number;
  lostRace: number;
  quarantined: number;
  remaining: { plain: number; plan: number; otherKid: number };
  durationMs: number;
}
export interface RunningJob {
  readonly child: ChildProcess;
  readonly exited: Promise<JobExit>;
  stdout(): string;
  stderr(): string;
}

const children = new Set<ChildProcess>();

/** The built program as a process of its own, with nothing of this one's configuration. */
export function startJob(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  program: readonly string[] = [process.execPath, PROGRAM, 'encrypt-tokens'],
): RunningJob {
  const [command = '', ...first] = program;
  const child = spawn(command, [...first, ...args], {
    cwd: ROOT,
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.add(child);
  const text = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text.stdout += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    text.stderr += chunk;
  });
  const exited = new Promise<JobExit>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      children.delete(child);
      resolve({
        code,
        signal,
        ...text,
        get json() {
          return lastJson(text.stdout);
        },
      });
    });
  });
  return { child, exited, stdout: () => text.stdout, stderr: () => text.stderr };
}

export const runJob = (
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<JobExit> => startJob(args, env).exited;

/** For afterAll: nothing that a failed test started stays. */
export function killJobs(): void {
  for (const child of children) child.kill('SIGKILL');
}

export function lastJson(stdout: string): JobJson {
  const line = stdout
    .split('\n')
    .filter((text) => text.startsWith('{'))
    .at(-1);
  if (line === undefined) throw new Error(`no line of JSON in: ${stdout}`);
  return JSON.parse(line) as JobJson;
}
