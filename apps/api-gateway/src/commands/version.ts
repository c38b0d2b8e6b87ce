import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NAME = 'session-gateway';

/** The program's version and, where it is a packaged one, the commit that it was made of. */
export function version(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const found = packageIn(folder);
    if (found !== null) return found.commit ? `${found.version} (${found.commit})` : found.version;
    if (folder === dirname(folder)) return 'of an unknown version';
  }
}

function packageIn(folder: string): { version: string; commit?: string } | null {
  try {
    const content = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
      name?: string;
      version: string;
      commit?: string;
    };
    return content.name === NAME ? content : null;
  } catch {
    return null;
  }
}
