import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { startPostgres, type TestPostgres } from '@session-gateway/testkit';
import { grants } from './grants.js';
import { findPrismaDir, migrate } from './migrate.js';
import { type Database, openDatabase } from './prisma.js';
import { NEEDED_RIGHTS, storageFaults } from './storageFaults.js';

let postgres: TestPostgres;
let url: string;
let db: Database;
const owner = (text: string): Promise<unknown> => postgres.query(text, [], url);
beforeAll(async () => {
  postgres = await startPostgres();
  url = await postgres.createDatabase();
  await migrate({ url, prismaDir: findPrismaDir(import.meta.url) });
  await owner(`CREATE ROLE gateway LOGIN PASSWORD 'gateway'`);
  await owner('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO gateway');
  await owner('GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO gateway');
  const asGateway = new URL(url);
  [asGateway.username, asGateway.password] = ['gateway', 'gateway'];
  db = openDatabase({ url: asGateway.href });
});
afterAll(async () => {
  await db.close();
  await postgres.dispose();
});

const trigger = (body: string, on = 'user_sessions', when = 'BEFORE UPDATE'): string =>
  `CREATE FUNCTION foreign_to_us() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body} END $$;
   CREATE TRIGGER theirs ${when} ON ${on} FOR EACH ROW EXECUTE FUNCTION foreign_to_us()`;
const DROP_TRIGGER = 'DROP FUNCTION foreign_to_us CASCADE';

describe('what keeps the role from its work', () => {
  afterEach(async () => expect(await storageFaults(db)).toEqual([]));

  /** Every table that schema.prisma has. */
  const tables = [
    ...readFileSync(new URL('../prisma/schema.prisma', import.meta.url), 'utf8').matchAll(
      /@@map\("(\w+)"\)/g,
    ),
  ].map(([, table = '']) => table);
  // The job's own are used by the job.
  const ours = tables.filter((table) => !table.startsWith('token_encryption_'));

  test('is nothing with the documented grants, and every table is looked at', () => {
    expect(Object.keys(NEEDED_RIGHTS).sort()).toEqual(ours.sort());
  });

  test('is nothing that the printed grants leave out: each table is in them, for those who use it', async () => {
    const prismaDir = findPrismaDir(import.meta.url);
    const printed = await grants({ url, prismaDir }, { gateway: 'g', job: 'j', operator: 'o' });
    const tablesOf = (role: string): string[] =>
      printed.flatMap((line) =>
        line.startsWith('GRANT') && line.endsWith(` TO "${role}";`)
          ? (/ ON "public"\."(\w+)" TO /.exec(line)?.[1] ?? [])
          : [],
      );
    const history = '_prisma_migrations';
    expect(tablesOf('g').sort()).toEqual([history, ...ours].sort());
    expect(tablesOf('o').sort()).toEqual([history, ...tables].sort());
    for (const table of ours)
      expect(printed).toContain(
        `GRANT SELECT, INSERT, UPDATE, DELETE ON "public"."${table}" TO "g";`,
      );
  });

  test.each(Object.entries(NEEDED_RIGHTS))('is each missing right on %s', async (table, rights) => {
    for (const right of rights) {
      await owner(`REVOKE ${right} ON ${table} FROM gateway`);
      expect(await storageFaults(db)).toEqual([`the role lacks ${right} on ${table}`]);
      await owner(`GRANT ${right} ON ${table} TO gateway`);
    }
  });

  test.each([
    [
      'rights on columns only',
      'REVOKE UPDATE ON user_sessions FROM gateway; GRANT UPDATE (is_active) ON user_sessions TO gateway',
      'GRANT UPDATE ON user_sessions TO gateway',
      'the role lacks UPDATE on user_sessions',
    ],
    [
      'a sequence',
      'REVOKE USAGE ON SEQUENCE session_events_id_seq FROM gateway',
      'GRANT USAGE ON SEQUENCE session_events_id_seq TO gateway',
      'the role lacks USAGE on the sequence session_events_id_seq',
    ],
    [
      'the schema',
      'REVOKE USAGE ON SCHEMA public FROM PUBLIC',
      'GRANT USAGE ON SCHEMA public TO PUBLIC',
      'the table users is not there',
    ],
    [
      'a table of another schema in front of ours',
      'CREATE SCHEMA gateway; CREATE TABLE gateway.exchanged_tokens (); GRANT USAGE ON SCHEMA gateway TO gateway',
      'DROP SCHEMA gateway CASCADE',
      'the search path of the role leads to exchanged_tokens in the schema gateway',
    ],
    [
      'row-level security',
      'ALTER TABLE user_sessions ENABLE ROW LEVEL SECURITY',
      'ALTER TABLE user_sessions DISABLE ROW LEVEL SECURITY',
      'row-level security of user_sessions applies to the role',
    ],
    [
      'row-level security of another table',
      'ALTER TABLE logout_tokens ENABLE ROW LEVEL SECURITY',
      'ALTER TABLE logout_tokens DISABLE ROW LEVEL SECURITY',
      'row-level security of logout_tokens applies to the role',
    ],
    [
      'a rule',
      'CREATE RULE theirs AS ON UPDATE TO user_sessions DO INSTEAD NOTHING',
      'DROP RULE theirs ON user_sessions',
      'the rule theirs on user_sessions replaces writes',
    ],
    [
      'a trigger that drops updates',
      trigger('RETURN NULL;'),
      DROP_TRIGGER,
      'drops the write of new tokens without an error (triggers: theirs on user_sessions)',
    ],
    [
      'a trigger that drops ends only',
      trigger('IF NOT NEW.is_active THEN RETURN NULL; END IF; RETURN NEW;'),
      DROP_TRIGGER,
      'drops the write of the end of a session',
    ],
    [
      'a trigger that keeps sessions as they were',
      trigger('NEW.is_active = OLD.is_active; RETURN NEW;'),
      DROP_TRIGGER,
      'drops the write of the end of a session',
    ],
    [
      'a trigger that raises',
      trigger(`RAISE 'not today';`),
      DROP_TRIGGER,
      'a session cannot be written: not today',
    ],
    [
      'a deferred trigger that raises',
      trigger(`RAISE 'not tomorrow';`).replace(
        'TRIGGER theirs BEFORE UPDATE ON user_sessions',
        'CONSTRAINT TRIGGER theirs AFTER UPDATE ON user_sessions DEFERRABLE INITIALLY DEFERRED',
      ),
      DROP_TRIGGER,
      'a session cannot be written: not tomorrow',
    ],
    [
      'a trigger that drops users',
      trigger('RETURN NULL;', 'users', 'BEFORE INSERT'),
      DROP_TRIGGER,
      'drops the write of a new user',
    ],
    [
      'a trigger that drops removals',
      trigger('RETURN NULL;', 'user_sessions', 'BEFORE DELETE'),
      DROP_TRIGGER,
      'drops the write of the removal of a session',
    ],
    ...(
      [
        ['logout_tokens', 'BEFORE INSERT', "a logout token's jti"],
        ['provider_logouts', 'BEFORE INSERT', 'a logout that the provider is owed'],
        ['provider_logouts', 'BEFORE DELETE', 'the answer to that'],
        ['session_changes', 'BEFORE INSERT', 'the news of that end'],
        ['exchanged_tokens', 'BEFORE UPDATE', 'the renewal of an exchanged token'],
        ['gateway_instances', 'BEFORE INSERT', 'a process that is alive'],
      ] as const
    ).map(
      ([table, when, what]) =>
        [
          `a trigger on ${table} that drops what comes ${when}`,
          trigger('RETURN NULL;', table, when),
          DROP_TRIGGER,
          `drops the write of ${what}`,
        ] as [string, string, string, string],
    ),
    [
      'a trigger of ours that is disabled',
      'ALTER TABLE user_sessions DISABLE TRIGGER user_sessions_tell_change',
      'ALTER TABLE user_sessions ENABLE TRIGGER user_sessions_tell_change',
      'the trigger user_sessions_tell_change of user_sessions is missing or disabled',
    ],
    [
      'a trigger of ours that fires on replicas only',
      'ALTER TABLE user_sessions ENABLE REPLICA TRIGGER user_sessions_tell_deletion',
      'ALTER TABLE user_sessions ENABLE TRIGGER user_sessions_tell_deletion',
      'the trigger user_sessions_tell_deletion of user_sessions is missing or disabled',
    ],
  ])('is %s', async (_, breaking, mending, fault) => {
    await owner(breaking);
    expect((await storageFaults(db))[0]).toContain(fault);
    await owner(mending);
  });

  test('is no trigger that lets writes through, and the look leaves nothing behind', async () => {
    await owner(trigger('NEW.updated_at = now(); RETURN NEW;'));
    expect(await storageFaults(db)).toEqual([]);
    const left = await db.sql.query(
      'SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM user_sessions) + (SELECT count(*) FROM session_events) AS rows',
    );
    expect(left).toEqual([{ rows: '0' }]);
    await owner(DROP_TRIGGER);
  });

  test('is no row-level security that does not apply to the role', async () => {
    await owner('ALTER TABLE user_sessions ENABLE ROW LEVEL SECURITY');
    await owner('ALTER ROLE gateway BYPASSRLS');
    expect(await storageFaults(db)).toEqual([]);
    await owner('ALTER ROLE gateway NOBYPASSRLS');
    await owner('ALTER TABLE user_sessions DISABLE ROW LEVEL SECURITY');
  });
});
