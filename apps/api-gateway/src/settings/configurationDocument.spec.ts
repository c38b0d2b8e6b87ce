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

/** The variables of each row, and its default. */
function rows(): { names: string[]; fallback: string }[] {
  return readFileSync(PAGE, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|'))
    .map(([, variable = '', fallback = '']) => ({
      names: [...variable.matchAll(/`([A-Z][A-Z_]+)`/g)].map(([, name = '']) => name),
      fallback: fallback.trim(),
    }))
    .filter(({ names }) => names.length > 0);
}

/** Each variable of the table, as often as it has a row. */
const documented = (): string[] =>
  rows()
    .flatMap(({ names }) => names.map(withoutFile))
    .sort();

/** Defaults that can be written as a value: a number, with or without its unit, an address, or a text in backquotes. */
const LITERAL = /^(?:`([^`]+)`|(\d[\d.]*)(?: s| days)?)$/;
/** Of `DATABASE_MAX_CONNECTIONS` the address may say another one. */
const NOT_AS_IF_SET = ['DATABASE_MAX_CONNECTIONS', 'DATABASE_URL', 'DIRECT_DATABASE_URL'];

function literalDefaults(): [name: string, value: string][] {
  return rows().flatMap(({ names, fallback }) => {
    const parts =
      fallback.startsWith('`') && names.length === 1 ? [fallback] : fallback.split(', ');
    return names.flatMap((name, i): [string, string][] => {
      const [, quoted, bare] = LITERAL.exec(parts.length === 1 ? fallback : (parts[i] ?? '')) ?? [];
      const value = quoted ?? bare;
      return value === undefined || NOT_AS_IF_SET.includes(name) ? [] : [[name, value]];
    });
  });
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

const ESSENTIAL = {
  NODE_ENV: 'production',
  PUBLIC_URL: 'https://app.example',
  DATABASE_URL: 'postgresql://u:p@localhost/app',
  REDIS_URL: 'redis://localhost',
  KEYCLOAK_ISSUER: 'https://id.example/realms/main',
  KEYCLOAK_CLIENT_ID: 'gateway',
  KEYCLOAK_CLIENT_SECRET: 'secret',
  SESSION_TOKEN_ENCRYPTION_KEY: 'Yk3v0Zq9rT1wLx8mNp5sUd2hGf7jBc4e',
};
const configuration = (more: Record<string, string> = {}): string =>
  JSON.stringify(readConfig({ ...ESSENTIAL, ...more }));

test('each default that the page names is the one that counts where nothing is set', () => {
  const defaults = literalDefaults();
  expect(defaults.length).toBeGreaterThan(30);
  const others = defaults.filter(
    ([name, value]) => configuration({ [name]: value }) !== configuration(),
  );
  expect(others).toEqual([]);
  // The comparison sees another value.
  for (const [name, value] of defaults.filter(([, each]) => /^\d+$/.test(each)))
    expect([
      name,
      configuration({ [name]: String(Number(value) + 5) }) === configuration(),
    ]).toEqual([name, false]);
});
