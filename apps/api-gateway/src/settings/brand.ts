import { readFileSync, statSync } from 'node:fs';
import type { Environment } from '@session-gateway/keycloak-auth';
import { type Accent, parseAccent } from './accent.js';
import { addressForPeople } from './postLogoutUrl.js';

/** A logo is part of a page, and pages are small. */
export const MAX_LOGO_BYTES = 30_720;
const MAX_NAME_CHARACTERS = 60;

export interface Logo {
  readonly type: 'image/svg+xml' | 'image/png';
  readonly bytes: Buffer;
}

/** Whose pages these are. */
export interface Brand {
  readonly name: string | null;
  readonly logo: Logo | null;
  /** Null: the gateway's own colours. */
  readonly accent: Accent | null;
  /** Where "the start page" is: an absolute address. */
  readonly home: string;
}

/** Reads what people's pages show of the application. `problems` gets what is wrong, by name. */
export function readBrand(env: Environment, publicUrl: URL, problems: string[]): Brand {
  const name = env['BRAND_NAME']?.trim() || null;
  if (name !== null && (name.length > MAX_NAME_CHARACTERS || /\p{C}/u.test(name)))
    problems.push(
      `BRAND_NAME must have at most ${MAX_NAME_CHARACTERS} characters, without control characters`,
    );
  const accent = env['BRAND_COLOR'] ? parseAccent(env['BRAND_COLOR']) : null;
  if (typeof accent === 'string') problems.push(`BRAND_COLOR ${accent}`);
  const home = env['HOME_URL'] ? addressForPeople(env['HOME_URL'], publicUrl) : publicUrl;
  if (home === undefined)
    problems.push(
      'HOME_URL must be a path of this site, or an absolute URL with https, or with http on loopback',
    );
  return {
    name,
    logo: readLogo(env['BRAND_LOGO_FILE'], problems),
    accent: typeof accent === 'string' ? null : accent,
    home: (home ?? publicUrl).href,
  };
}

function readLogo(file: string | undefined, problems: string[]): Logo | null {
  if (!file) return null;
  try {
    const { size } = statSync(file);
    if (size > MAX_LOGO_BYTES) {
      problems.push(`BRAND_LOGO_FILE has ${size} bytes, and ${MAX_LOGO_BYTES} at most are served`);
      return null;
    }
    const bytes = readFileSync(file);
    const type = typeOf(bytes);
    if (type !== null) return { type, bytes };
    problems.push('BRAND_LOGO_FILE is neither an SVG in UTF-8 nor a PNG');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    problems.push(`BRAND_LOGO_FILE cannot be read (${code ?? 'unknown'})`);
  }
  return null;
}

const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
/**
 * What may stand before the element: a mark of the encoding, white space, the declaration, comments, a document type.
 */
const SVG = /^\uFEFF?(?:\s|<\?[^>]*\?>|<!--[\s\S]*?-->|<!DOCTYPE\s+svg\b[^>[]*>)*<svg[\s>]/i;

function typeOf(bytes: Buffer): Logo['type'] | null {
  if (bytes.subarray(0, PNG.length).equals(PNG)) return 'image/png';
  return SVG.test(bytes.toString('utf8')) ? 'image/svg+xml' : null;
}
