import { expect, test } from '@jest/globals';
import { describeWith, startPgbouncer } from '@session-gateway/testkit';
import * as h from './testing/jobHarness.js';
import { type Ground, onFreshDatabase } from './testing/onFreshDatabase.js';

describeWith(['pgbouncer'], 'through a pooler that shares connections', () => {
  let { url, db, env, postgres } = {} as Ground;
  onFreshDatabase(async (ground) => {
    ({ url, db, env, postgres } = ground);
    await h.insertRows(
      db,
      h.mixedRows(20, () => 0.99),
    );
  });

  test('the job looks, but seals only with an address of PostgreSQL itself', async () => {
    const pooler = await startPgbouncer({ to: postgres.port });
    try {
      const pooled = { ...env, DATABASE_URL: pooler.through(url) };
      expect(await h.runJob([], pooled)).toMatchObject({ code: 0 });
      expect(await h.runJob(['--execute'], pooled)).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('set DIRECT_DATABASE_URL to PostgreSQL itself'),
      });
      const both = { ...pooled, DIRECT_DATABASE_URL: url };
      expect(await h.runJob(['--execute'], both)).toMatchObject({ code: 0 });
    } finally {
      await pooler.dispose();
    }
  });
});
