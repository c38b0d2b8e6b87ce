import { afterAll, beforeAll, expect, test } from '@jest/globals';
import {
  describeUnless,
  mountSmallDisk,
  type SmallDisk,
  startPostgres,
  type TestPostgres,
  whyNoSmallDisk,
} from '@session-gateway/testkit';
import * as h from './testing/jobHarness.js';
import { acknowledgedOf, wrongRows } from './testing/tokenWriters.js';

describeUnless(whyNoSmallDisk(), 'the job, when the disk is full', () => {
  let postgres: TestPostgres;
  let disk: SmallDisk;
  beforeAll(async () => {
    postgres = await startPostgres();
    disk = mountSmallDisk(24);
  });
  afterAll(async () => {
    h.killJobs();
    await postgres?.dispose();
    disk?.dispose();
  });

  test('ends with 1 and says so, has written nothing by halves, and goes on once there is room', async () => {
    const url = await h.newDatabase(postgres);
    const db = h.open(url);
    try {
      // Room for the rows, and not for a second version of each.
      const rows = h.mixedRows(2_000, () => 0.99);
      // A tablespace's folder has to be the server's own: it makes it itself.
      await db.sql.query(
        `COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; mkdir ${disk.folder}/tablespace'`,
      );
      await db.sql.query(`CREATE TABLESPACE small LOCATION '${disk.folder}/tablespace'`);
      await db.sql.query('ALTER TABLE user_sessions SET TABLESPACE small');
      await db.sql.query(
        'ALTER TABLE user_sessions ALTER access_token SET STORAGE PLAIN, ALTER refresh_token SET STORAGE PLAIN, ALTER id_token SET STORAGE PLAIN',
      );
      await h.insertRows(db, rows);
      disk.fill();
      const env = { ...h.ENV, DATABASE_URL: url };
      const exit = await h.runJob(['--execute', '--json'], env);
      expect([exit.code, exit.stdout]).toEqual([1, '']);
      expect(exit.stderr.split('\n').at(-2)).toBe(
        'encrypt-tokens: the disk of the database is full: make room, see docs/operate/encrypt-tokens.md. Nothing is half-written; start the job again to continue',
      );
      const [run] = await db.sql.query<{ id: string; status: string; reason: string }>(
        'SELECT id, status, reason FROM token_encryption_runs',
      );
      expect(run).toMatchObject({ status: 'failed', reason: 'the disk of the database is full' });
      expect(await wrongRows(db, acknowledgedOf(rows), 'all')).toEqual([]);

      disk.free();
      await db.sql.query('VACUUM user_sessions');
      await db.sql.query('ALTER TABLE user_sessions SET TABLESPACE pg_default');
      expect(await h.runJob(['--execute', '--json'], env)).toMatchObject({
        code: 0,
        json: { run: run?.id, changed: 2_000 },
      });
      expect(await wrongRows(db, acknowledgedOf(rows))).toEqual([]);
    } finally {
      await db.close();
    }
  });
});
