import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from '@jest/globals';
import type { Database } from '@session-gateway/database';
import { createKeyring, type Keyring } from '@session-gateway/keycloak-auth';
import { startPostgres, type TestPostgres } from '@session-gateway/testkit';
import type { KeyringDocument } from '../keyringDocument.js';
import * as h from './jobHarness.js';

export const KEYS_PROGRAM = [process.execPath, h.PROGRAM, 'keys'];

interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** What a test of the `keys` commands stands on: a database, a keyring file, and what must never be printed. */
export class KeyCommands {
  /** Keys, tokens and stored values that no command may print. */
  readonly secrets: string[] = [];

  /** `file`: where this test's keyring is; nowhere until `keyring` makes it. */
  constructor(
    readonly url: string,
    readonly db: Database,
    readonly file: string,
  ) {}

  /** Runs the program, and looks for secrets and stack traces in all that it says. */
  async run(
    args: readonly string[],
    env: Record<string, string | undefined> = {
      DATABASE_URL: this.url,
      SESSION_TOKEN_KEYRING_FILE: this.file,
    },
  ): Promise<Ran> {
    const { code, stdout, stderr } = await h.startJob(args, env, KEYS_PROGRAM).exited;
    for (const secret of this.secrets) expect(stdout + stderr).not.toContain(secret);
    expect(stderr).not.toMatch(/^\s+at /m);
    return { code, stdout, stderr };
  }

  async document(): Promise<KeyringDocument> {
    return JSON.parse(await readFile(this.file, 'utf8')) as KeyringDocument;
  }

  /** A keyring file of fresh keys, the first one the primary. */
  async keyring(...kids: string[]): Promise<KeyringDocument> {
    const keys = kids.map((kid) => ({ kid, key: randomBytes(32).toString('base64url') }));
    const made = { primary: kids[0] ?? '', keys };
    await writeFile(this.file, JSON.stringify(made));
    this.secrets.push(...keys.map(({ key }) => key));
    return made;
  }

  async store(id: string, values: Partial<Record<h.Column, string>>): Promise<void> {
    await h.insertRows(this.db, [
      {
        id,
        stored: { access_token: null, refresh_token: null, id_token: null, ...values },
        tokens: { access_token: null, refresh_token: null, id_token: null },
      },
    ]);
  }

  /** A sealed token of a row; neither it nor what it is stored as may be printed. */
  sealed(made: KeyringDocument, id: string, column: h.Column, kid = made.primary): string {
    const token = h.tokenOf(`${id}/${column}`, 80);
    const value = h.sealed(token, id, column, kid, 'user_sessions', ringOf(made));
    this.secrets.push(token, value, value.slice(value.lastIndexOf('.') + 1, -8));
    return value;
  }

  known(): Promise<{ kid: string; promoted: boolean; retired: boolean }[]> {
    return this.db.sql.query(
      'SELECT kid, promoted_at IS NOT NULL AS promoted, retired_at IS NOT NULL AS retired FROM token_keys ORDER BY kid',
    );
  }
}

export const ringOf = (made: KeyringDocument): Keyring =>
  createKeyring({ keyringJson: JSON.stringify(made), keyText: h.KEY_TEXT });

/**
 * One PostgreSQL and one migrated database for a suite, emptied after each test; `given` is told of
 * each test's own keyring file.
 */
export function onKeyCommands(given: (commands: KeyCommands) => void): void {
  let postgres: TestPostgres | undefined;
  let db: Database | undefined;
  let [url, folder] = ['', ''];
  beforeAll(async () => {
    postgres = await startPostgres();
    url = await h.newDatabase(postgres);
    db = h.open(url);
    folder = await mkdtemp(join(tmpdir(), 'keys-'));
  });
  beforeEach(() => {
    if (!db) return;
    given(new KeyCommands(url, db, join(folder, `${randomBytes(4).toString('hex')}.json`)));
  });
  afterEach(() =>
    db?.sql.query(
      'TRUNCATE user_sessions, token_keys, gateway_instances, token_encryption_runs CASCADE',
    ),
  );
  afterAll(async () => {
    h.killJobs();
    await db?.close();
    await postgres?.dispose();
    await rm(folder, { recursive: true });
  });
}
