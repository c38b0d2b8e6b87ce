import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { transform } from 'esbuild';
import ts from 'typescript';
import { browserFile } from './browserFiles.js';

const folder = mkdtempSync(join(tmpdir(), 'client-types-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** What TypeScript has to say about a page's own source that uses the browser helper. */
function faultsOf(source: string): string[] {
  const [types, user] = [join(folder, 'client.d.ts'), join(folder, 'page.ts')];
  writeFileSync(types, browserFile('client.d.ts'));
  writeFileSync(user, source);
  const program = ts.createProgram([types, user], { strict: true, noEmit: true, lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'], target: ts.ScriptTarget.ES2022, types: [] });
  return ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}

describe('the browser helper', () => {
  test('is at most 2 KB as it is served', async () => {
    const { code } = await transform(browserFile('client.js'), { minify: true, target: 'es2020' });
    expect(Buffer.byteLength(code)).toBeLessThanOrEqual(2_048);
  });

  test('has types that a page\'s source can use', () => {
    expect(faultsOf(`
      addEventListener('session-expiring', ({ detail }) => { if (detail.extendable && detail.secondsLeft < 60) void sessionGateway.stay(); });
      addEventListener('session-ended', () => sessionGateway.login('/here'));
      void sessionGateway.check().then((body) => body?.user.roles.includes('realm:admin'));
    `)).toEqual([]);
    expect(faultsOf('sessionGateway.stay(1);')).toHaveLength(1);
  }, 60_000);
});
