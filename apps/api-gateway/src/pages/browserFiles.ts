import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The scripts that browsers get, read once: shortened beside the built program, as they are written beside its source. */
export function browserFile(name: 'client.js' | 'client.d.ts' | 'page.js'): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const file = join(here, 'browser', name);
  if (!existsSync(file)) throw new Error(`${name} is missing beside ${here}`);
  return readFileSync(file, 'utf8');
}
