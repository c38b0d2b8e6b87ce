import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { isAlive } from '@session-gateway/keycloak-server';
import { startPostgres, type TestPostgres } from './postgres.js';

describe('a throw-away PostgreSQL', () => {
  let postgres: TestPostgres;
  let url: string;
  beforeAll(async () => {
    postgres = await startPostgres();
    url = await postgres.createDatabase();
    await postgres.query('create table t (id int primary key, text text, bytes bytea)', [], url);
  });
  afterAll(() => postgres?.dispose());
  const rows = (): Promise<number> =>
    postgres.query('select id from t', [], url).then((found) => found.length);

  test('shows every stored value in a dump as it stands', async () => {
    await postgres.query(
      'insert into t values (1, $1, $2)',
      ['a"b\\c', Buffer.from([0, 255])],
      url,
    );
    expect(await postgres.dump(url)).toBe('"public"."t"\tid=1\ttext=a"b\\c\tbytes=\\x00ff');
  });

  test('keeps what was committed when it is stopped, stopped at once, or killed', async () => {
    const before = await rows();
    for (const [id, end] of [
      [10, () => postgres.stop()],
      [11, () => postgres.stop('immediate')],
      [12, () => postgres.kill()],
    ] as const) {
      const { pid } = postgres;
      await postgres.query('insert into t values ($1)', [id], url);
      await end();
      expect(isAlive(pid)).toBe(false);
      await expect(rows()).rejects.toThrow('ECONNREFUSED');
      await postgres.start();
    }
    expect(await rows()).toBe(before + 3);
  });

  test('answers nothing while it is frozen, and then goes on', async () => {
    postgres.freeze();
    let answered = false;
    const answer = postgres.query('select 1 as one').then((found) => {
      answered = true;
      return found;
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(answered).toBe(false);
    postgres.thaw();
    expect(await answer).toEqual([{ one: 1 }]);
  });

  test('copies a database and takes two hundred connections', async () => {
    const copy = await postgres.createDatabase('My copy', new URL(url).pathname.slice(1));
    expect(await postgres.query('select count(*)::int as n from t', [], copy)).toEqual([
      { n: await rows() },
    ]);
    expect(await postgres.query('show max_connections')).toEqual([{ max_connections: '200' }]);
  });

  test('waits for the disk only when it is to be durable', async () => {
    expect(await postgres.query('show fsync')).toEqual([{ fsync: 'off' }]);
    const durable = await startPostgres({ durable: true });
    try {
      expect(await durable.query('show fsync')).toEqual([{ fsync: 'on' }]);
    } finally {
      await durable.dispose();
    }
  });
});
