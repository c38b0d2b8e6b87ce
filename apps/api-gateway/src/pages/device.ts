import Bowser from 'bowser';
import { en } from './words/en.js';
import { filled } from './words/languages.js';
import type { Words } from './words/words.js';

/** A User-Agent in words that its owner knows, such as "Firefox on Windows". What it says is the client's claim. */
export function deviceOf(
  userAgent: string | null,
  words: Pick<Words, 'device' | 'unknownDevice'> = en,
): string {
  if (!userAgent) return words.unknownDevice;
  const { browser, os, platform } = Bowser.parse(userAgent);
  const system = platform.model ?? os.name;
  if (browser.name)
    return system ? filled(words.device, { browser: browser.name, system }) : browser.name;
  const product = /^[\w.-]{1,40}/.exec(userAgent)?.[0];
  return product ?? system ?? words.unknownDevice;
}
