import { expect, test } from '@jest/globals';
import { readText } from './files.js';

test('the reference of log fields names each field that may be logged, and no other', () => {
  const source = readText('apps/api-gateway/src/observability/logging.ts');
  const [, list = ''] = /LOG_FIELDS = \[([^\]]*)\]/.exec(source) ?? [];
  const fields = [...list.matchAll(/^ +'(\w+)',$/gm)].map(([, name]) => name);
  const rows = readText('docs/operate/log-fields.md').matchAll(/^\| `(\w+)`/gm);
  expect(fields.length).toBeGreaterThan(10);
  expect([...rows].map(([, name]) => name)).toEqual(fields);
});
