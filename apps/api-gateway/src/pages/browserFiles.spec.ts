import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { transform } from 'esbuild';
import ts from 'typescript';
import { browserFile } from './browserFiles.js';

const folder = mkdtempSync(join(tmpdir(), 'client-types-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** What TypeScript has to say about each of these page sources that use the browser helper. */
function faultsOf(sources: readonly string[]): string[][] {
  const types = join(folder, 'client.d.ts');
  writeFileSync(types, browserFile('client.d.ts'));
  const pages = sources.map((source, i) => {
    const page = join(folder, `page${i}.ts`);
    writeFileSync(page, `export {};\n${source}`);
    return page;
  });
  const program = ts.createProgram([types, ...pages], {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'],
    target: ts.ScriptTarget.ES2022,
    types: [],
  });
  return pages.map((page) =>
    ts
      .getPreEmitDiagnostics(program, program.getSourceFile(page))
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')),
  );
}

describe('the browser helper', () => {
  test('is at most 2 KB as it is served', async () => {
    const { code } = await transform(browserFile('client.js'), { minify: true, target: 'es2020' });
    expect(Buffer.byteLength(code)).toBeLessThanOrEqual(2_048);
  });

  test("has types that a page's source can use", () => {
    const [right, wrong] = faultsOf([
      `
      addEventListener('session-expiring', ({ detail }) => { if (detail.extendable && detail.secondsLeft < 60) void sessionGateway.stay(); });
      addEventListener('session-ended', () => sessionGateway.login('/here'));
      void sessionGateway.check().then((body) => body?.user.roles.includes('realm:admin'));
    `,
      'sessionGateway.stay(1);',
    ]);
    expect(right).toEqual([]);
    expect(wrong).toHaveLength(1);
  }, 60_000);
});
