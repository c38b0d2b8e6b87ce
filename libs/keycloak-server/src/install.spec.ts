import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { installKeycloak, keycloakInstalled } from './install.js';
import { whyNoJava } from './java.js';

describe('finding Keycloak', () => {
  const before = process.env;
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'keycloak-install-'));
    process.env = { ...before, XDG_CACHE_HOME: folder };
    delete process.env['KEYCLOAK_HOME'];
  });
  afterEach(() => {
    process.env = before;
    rmSync(folder, { recursive: true, force: true });
  });

  test('an empty cache holds none', () => {
    expect(keycloakInstalled()).toBeNull();
  });

  test('a folder without the mark of a finished build is not used', () => {
    process.env['KEYCLOAK_HOME'] = folder;
    expect(keycloakInstalled()).toBeNull();
    writeFileSync(join(folder, '.built-for-session-gateway'), '');
    expect(keycloakInstalled()).toBe(folder);
  });

  (whyNoJava() ? test.skip : test)(
    'a KEYCLOAK_HOME that is no distribution is refused by name',
    async () => {
      process.env['KEYCLOAK_HOME'] = folder;
      await expect(installKeycloak()).rejects.toThrow(
        'KEYCLOAK_HOME does not name an unpacked Keycloak distribution',
      );
    },
  );
});
