import { describe, expect, test } from '@jest/globals';
import { en } from './en.js';
import { acceptedLocales, filled, LANGUAGES, wordsFor } from './languages.js';

/** Every message of a language by its path, such as `account.notices.ended`. */
function messagesOf(words: object, path = ''): Map<string, string> {
  const found = new Map<string, string>();
  for (const [name, value] of Object.entries(words) as [string, unknown][]) {
    const here = path === '' ? name : `${path}.${name}`;
    if (typeof value === 'string') found.set(here, value);
    else for (const [deeper, text] of messagesOf(value as object, here)) found.set(deeper, text);
  }
  return found;
}

const placeholders = (message: string): string[] => (message.match(/\{\w+\}/g) ?? []).sort();
const english = messagesOf(en);

describe('a language of the pages', () => {
  test.each(LANGUAGES.slice(1).map((words) => [words.language, messagesOf(words)] as const))(
    '%s has every message, with the same values in it, and none left in English',
    (_, messages) => {
      expect([...messages.keys()].sort()).toEqual([...english.keys()].sort());
      for (const [path, message] of messages) {
        const original = english.get(path) ?? '';
        expect([path, placeholders(message)]).toEqual([path, placeholders(original)]);
        expect(message.trim()).not.toBe('');
        const isSentence = original.includes(' ') && !original.startsWith('{');
        if (isSentence) expect([path, message]).not.toEqual([path, original]);
      }
    },
  );

  test.each([
    [null, 'en'],
    ['', 'en'],
    ['*', 'en'],
    ['tlh', 'en'],
    ['de-CH, en;q=0.5', 'de'],
    ['en;q=0.4, fr;q=0.9, de;q=0.1', 'fr'],
    ['ar-EG', 'ar'],
    ['ja', 'ja'],
    ['x'.repeat(10_000), 'en'],
  ])('is what Accept-Language %s prefers', (accepted, language) => {
    const header = (name: string): string | null => (name === 'accept-language' ? accepted : null);
    expect(wordsFor(header).language).toBe(language);
  });

  test.each([
    ['fr', 'fr'],
    ['tlh de-AT fr', 'de'],
    ['tlh', 'ja'],
    ['', 'ja'],
    ['fr;q=0, *', 'ja'],
    ['x'.repeat(10_000), 'ja'],
  ])('is what ui_locales %s asks for before Accept-Language', (uiLocales, language) => {
    expect(wordsFor(() => 'ja', uiLocales).language).toBe(language);
  });

  test.each([
    [null, ''],
    ['*', ''],
    ['da, de-CH;q=0.8, en;q=0.9', 'da en de-CH'],
    ['a b, <script>, en', 'en'],
    [Array.from({ length: 300 }, () => 'de').join(), 'de de de de de'],
  ])('is told to the provider as the browser has it, %s', (accepted, locales) => {
    expect(acceptedLocales(() => accepted)).toBe(locales);
  });

  test('has values put in as they are, whatever they look like', () => {
    expect(filled('Hello, {name}', { name: "{name} <b>'{x}'</b>" })).toBe(
      "Hello, {name} <b>'{x}'</b>",
    );
  });
});
