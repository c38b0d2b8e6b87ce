import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { readConfig } from './config.js';

const PAGE = join(import.meta.dirname, '../../../../docs/operate/configuration.md');
/** Read where they are used, by the key service and OpenTelemetry's SDK. */
const READ_ELSEWHERE = [
  'OTEL_SERVICE_NAME',
  'VAULT_ADDR',
  'VAULT_NAMESPACE',
  'VAULT_TOKEN',
  'VAULT_TRANSIT_KEY',
  'VAULT_TRANSIT_MOUNT',
];

/** A secret may come by a file, and some only do. */
const withoutFile = (name: string): string => name.replace(/_FILE$/, '');

/** Each variable of the table, as often as it has a row. */
function documented(): string[] {
  return readFileSync(PAGE, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .flatMap((line) => [...(line.split('|')[1] ?? '').matchAll(/`([A-Z][A-Z_]+)`/g)])
    .map(([, name = '']) => withoutFile(name))
    .sort();
}

/** The variables that the gateway looks at when nothing is set. */
function read(): string[] {
  const names = new Set<string>();
  const env = new Proxy<Record<string, string | undefined>>(
    {},
    {
      get(_, name) {
        if (typeof name === 'string') names.add(withoutFile(name));
        return undefined;
      },
    },
  );
  readConfig(env);
  return [...names, ...READ_ELSEWHERE].sort();
}

test('the configuration page has one row for each variable that is read', () => {
  expect(documented()).toEqual(read());
});
