import { IntlMessageFormat } from 'intl-messageformat';
import Negotiator from 'negotiator';
import type { HeaderReader } from '../../request/sameOrigin.js';
import { ar } from './ar.js';
import { de } from './de.js';
import { en } from './en.js';
import { es } from './es.js';
import { fr } from './fr.js';
import { ja } from './ja.js';
import type { Words } from './words.js';

/** Every language that pages speak. The first is for whoever asks for none of them. */
export const LANGUAGES: readonly [Words, ...Words[]] = [en, de, fr, es, ja, ar];

/** As RFC 5646 has them, but for what is registered of them. */
const TAG = /^[a-z]{2,8}(-[a-z\d]{1,8}){0,4}$/i;
/** Browsers send as many as a person has chosen; nobody reads a dozen. */
const MAX_TAGS = 5;
const TAGS = LANGUAGES.map(({ language }) => language);

/**
 * The words of the first of `uiLocales` (BCP 47, with blanks between, most wanted first) that pages speak, else those that
 * `Accept-Language` prefers, by weight (RFC 9110 §12.5.4).
 */
export function wordsFor(header: HeaderReader, uiLocales: string | null = null): Words {
  const asked = tagsOf(uiLocales ?? '').map(languageOf);
  const wanted = asked.find((tag) => TAGS.includes(tag)) ?? acceptedLanguages(header, TAGS)[0];
  return LANGUAGES.find(({ language }) => language === wanted) ?? LANGUAGES[0];
}

const languageOf = (tag: string): string => (tag.split('-')[0] ?? '').toLowerCase();

/** What the browser accepts as `ui_locales` says it, whether pages speak it or not; empty where it says nothing. */
export const acceptedLocales = (header: HeaderReader): string =>
  tagsOf(acceptedLanguages(header).join(' ')).join(' ');

function acceptedLanguages(header: HeaderReader, offered?: string[]): string[] {
  const accepted = header('accept-language');
  if (accepted === null) return [];
  return new Negotiator({ headers: { 'accept-language': accepted } }).languages(offered);
}

const tagsOf = (list: string): string[] =>
  list
    .split(' ')
    .filter((tag) => TAG.test(tag))
    .slice(0, MAX_TAGS);

const formats = new Map<string, IntlMessageFormat>();

/** A message with its values put in (ICU MessageFormat); all of it is text, none is markup. */
export function filled(message: string, values: Readonly<Record<string, string>>): string {
  let format = formats.get(message);
  if (format === undefined) {
    format = new IntlMessageFormat(message, 'en', undefined, { ignoreTag: true });
    formats.set(message, format);
  }
  return String(format.format(values));
}
