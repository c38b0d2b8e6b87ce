import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');

test('docs/review/storage-schema.md names every table, every column of user_sessions, and nothing that is not there', () => {
  const models = read('../prisma/schema.prisma').matchAll(/^model (\w+) \{\n([\s\S]*?)^\}/gm);
  const tables = new Map(
    [...models].map(([, , body = '']) => [
      /@@map\("(\w+)"\)/.exec(body)?.[1] ?? '',
      columnsOf(body),
    ]),
  );
  const [tablePart = '', columnPart = ''] = (
    read('../../../docs/review/storage-schema.md').split('\n## ')[1] ?? ''
  ).split('`user_sessions`:');
  expect(named(tablePart)).toEqual([...tables.keys()].sort());
  expect(named(columnPart)).toEqual([...(tables.get('user_sessions') ?? [])].sort());
});

/** Scalar fields by their names in the database; relations have no column. */
const columnsOf = (body: string): string[] =>
  body.split('\n').flatMap((line) => {
    const [, field, type = ''] = /^ {2}([a-z]\w*)\s+(\w+)/.exec(line) ?? [];
    if (field === undefined || !/^(String|DateTime|Boolean|Int|BigInt|Bytes|Json)$/.test(type))
      return [];
    return [/@map\("(\w+)"\)/.exec(line)?.[1] ?? field];
  });

/** What stands in the first column of a table. */
const named = (markdown: string): string[] =>
  [...markdown.matchAll(/^\| (`[^|]*) \|/gm)]
    .flatMap(([, cell = '']) => [...cell.matchAll(/`(\w+)`/g)].map(([, name = '']) => name))
    .sort();
