import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { HttpBrowser } from '@session-gateway/testkit';
import { problemCode, type Stack, startStack } from './stack.js';

interface Page {
  sessions: { id: string; sub: string }[];
  next_cursor: string | null;
}

describe("the administrator's list of sessions", () => {
  let stack: Stack;
  let admin: HttpBrowser;
  /** Newest first. */
  const ids: string[] = [];
  beforeAll(async () => {
    stack = await startStack({ redis: false });
    admin = await stack.login('admin');
    for (let i = 0; i < 8; i++) ids.unshift((await stack.session(`person-${i}`)).id);
  });
  afterAll(() => stack.dispose());
  const page = async (cursor?: string | null): Promise<Page> =>
    (
      await admin.get(
        `${stack.url}/admin/sessions?limit=2${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`,
      )
    ).json() as Page;

  test('goes on behind a page whose last session has ended or been purged since, to its end', async () => {
    const first = await page();
    expect(first.sessions.map(({ id }) => id)).toEqual(ids.slice(0, 2));
    expect((await admin.delete(`${stack.url}/admin/sessions/${ids[1]}`)).status).toBe(204);
    const second = await page(first.next_cursor);
    expect(second.sessions.map(({ id }) => id)).toEqual(ids.slice(2, 4));
    await stack.sql('DELETE FROM user_sessions WHERE id = $1', [ids[3]]);
    const third = await page(second.next_cursor);
    const fourth = await page(third.next_cursor);
    expect([...third.sessions, ...fourth.sessions].map(({ id }) => id)).toEqual(ids.slice(4));
    const fifth = await page(fourth.next_cursor);
    // Whoever reads it began first.
    expect([fifth.sessions.length, fifth.next_cursor]).toEqual([1, null]);
  });

  test('takes no other text for a cursor, so that a mistake is not the end of the list', async () => {
    const { next_cursor: cursor } = await page();
    for (const wrong of [
      '',
      'nope',
      ids[2]!,
      `${cursor}=`,
      `${cursor}A`,
      cursor!.slice(1),
      '%00',
      "' OR 1=1",
    ]) {
      const refused = await admin.get(
        `${stack.url}/admin/sessions?cursor=${wrong === '%00' ? wrong : encodeURIComponent(wrong)}`,
      );
      expect([wrong, refused.status, problemCode(refused)]).toEqual([
        wrong,
        400,
        'request_invalid',
      ]);
    }
    expect(
      (await admin.get(`${stack.url}/admin/sessions?cursor=${cursor}&cursor=${cursor}`)).status,
    ).toBe(400);
  });
});
