import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { type Brand, MAX_LOGO_BYTES, readBrand } from './brand.js';
import { contrast, parseColor } from './color.js';

const folder = mkdtempSync(join(tmpdir(), 'brand-'));
afterAll(() => rmSync(folder, { recursive: true }));

const publicUrl = new URL('https://app.example');
const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0]);

function read(env: Record<string, string>): { brand: Brand; problems: string[] } {
  const problems: string[] = [];
  return { brand: readBrand(env, publicUrl, problems), problems };
}

function file(name: string, content: string | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const ratio = (one: string, other: string): number =>
  contrast(parseColor(one) ?? [0, 0, 0], parseColor(other) ?? [0, 0, 0]);

describe('the brand', () => {
  test('is none by default, and home is the start page', () => {
    const { brand, problems } = read({});
    expect(brand).toEqual({ name: null, logo: null, accent: null, home: 'https://app.example/' });
    expect(problems).toEqual([]);
  });

  test.each([
    ['x'.repeat(61), 1],
    ['a\u0000b', 1],
    ['a\u202eb', 1],
    ['Müller & Söhne <b>', 0],
  ])('has a name of limited length in plain characters: %j', (name, count) => {
    expect(read({ BRAND_NAME: name }).problems).toHaveLength(count);
  });

  test.each([
    ['/home?x=1', 'https://app.example/home?x=1'],
    ['https://www.example/', 'https://www.example/'],
  ])('has its home at %s', (text, home) => {
    expect(read({ HOME_URL: text }).brand.home).toBe(home);
  });

  test.each(['javascript:alert(1)', '//evil.example', 'http://www.example/', 'home'])(
    'has no home at %s',
    (text) => {
      expect(read({ HOME_URL: text }).problems).toEqual([expect.stringContaining('HOME_URL')]);
    },
  );

  test.each([
    ['a.svg', '<?xml version="1.0"?>\n<!-- x --><svg xmlns="http://www.w3.org/2000/svg"/>'],
    ['b.svg', '\uFEFF<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x"><svg>'],
  ])('has an SVG as its logo: %s', (name, content) => {
    expect(read({ BRAND_LOGO_FILE: file(name, content) }).brand.logo?.type).toBe('image/svg+xml');
  });

  test('has a PNG as its logo', () => {
    const { brand } = read({ BRAND_LOGO_FILE: file('a.png', PNG) });
    expect(brand.logo).toEqual({ type: 'image/png', bytes: PNG });
  });

  test.each([
    ['missing', () => join(folder, 'none.png'), 'cannot be read (ENOENT)'],
    ['a folder', () => folder, 'cannot be read (EISDIR)'],
    ['a page', () => file('a.html', '<!doctype html><svg>'), 'neither an SVG'],
    ['a JPEG', () => file('a.jpg', Buffer.from([0xff, 0xd8, 0xff])), 'neither an SVG'],
    [
      'too large',
      () => file('b.png', Buffer.concat([PNG, Buffer.alloc(MAX_LOGO_BYTES)])),
      '30729 bytes',
    ],
  ])('has no logo that is %s', (_, path, problem) => {
    const { problems } = read({ BRAND_LOGO_FILE: path() });
    expect(problems).toEqual([expect.stringContaining(problem)]);
  });
});

describe('BRAND_COLOR', () => {
  test.each(['#00539c', '#b3261e', '#000000', '#555', '#6a1b9a, #ce93d8', '#1F5FBF,#7FB0FF'])(
    '%s can be read on light and dark pages, and under text',
    (text) => {
      const { brand, problems } = read({ BRAND_COLOR: text });
      expect(problems).toEqual([]);
      const { light, dark } = brand.accent!;
      const pairs = [
        [light.accent, '#ffffff'],
        [light.accent, '#f4f6f9'],
        [dark.accent, '#1b212a'],
        [dark.accent, '#12161c'],
        [light.onAccent, light.accent],
        [dark.onAccent, dark.accent],
        ['#1c2430', light.soft],
        ['#e8ecf2', dark.soft],
      ] as const;
      for (const [one, other] of pairs)
        expect([one, other, ratio(one, other) >= 4.5]).toEqual([one, other, true]);
    },
  );

  test.each([
    [
      '#ffd500',
      /^BRAND_COLOR cannot be read on light pages: its contrast is 1.\d, .* #\w+ would do$/,
    ],
    ['#00539c,#00539c', /^BRAND_COLOR cannot be read on dark pages/],
    ['red', /of the form #rrggbb/],
    ['#00539c,', /of the form #rrggbb/],
    ['#00539c,#7fb0ff,#fff', /of the form #rrggbb/],
    ['#12345', /of the form #rrggbb/],
  ])('%s is refused', (text, problem) => {
    const { problems } = read({ BRAND_COLOR: text });
    expect(problems).toEqual([expect.stringMatching(problem)]);
  });

  test('that cannot be read is refused with one that can', () => {
    const [problem = ''] = read({ BRAND_COLOR: '#ff6600' }).problems;
    const offered = /(#\w+) would do/.exec(problem)?.[1] ?? '';
    expect(read({ BRAND_COLOR: offered }).problems).toEqual([]);
  });
});
