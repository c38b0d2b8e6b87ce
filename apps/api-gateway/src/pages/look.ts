import type { HeaderReader } from '../request/sameOrigin.js';
import type { Brand } from '../settings/brand.js';
import type { Config } from '../settings/config.js';
import { wordsFor } from './words/languages.js';
import type { Words } from './words/words.js';

/** How a page speaks, and whose it is. */
export interface Look {
  readonly words: Words;
  readonly brand: Brand;
  /** Of PUBLIC_URL. */
  readonly origin: string;
}

/** `uiLocales`: what a login asked for (OpenID Connect Core §3.1.2.1); it goes before `Accept-Language`. */
export const lookFor = (
  { config: { brand, publicUrl } }: { config: Pick<Config, 'brand' | 'publicUrl'> },
  header: HeaderReader,
  uiLocales: string | null = null,
): Look => ({ words: wordsFor(header, uiLocales), brand, origin: publicUrl.origin });
