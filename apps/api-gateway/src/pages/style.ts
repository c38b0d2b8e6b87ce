import { createHash } from 'node:crypto';
import type { Accent } from '../settings/accent.js';
import type { Brand } from '../settings/brand.js';

// Contrast of text: 4.5 or more on each ground, in both schemes (WCAG 2.2 §1.4.3); targets are at least 44 pixels high.
const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1c2430, #e8ecf2); --soft: light-dark(#566170, #a3aebd); --paper: light-dark(#f4f6f9, #12161c);
  --card: light-dark(#fff, #1b212a); --line: light-dark(#dde3ea, #2f3946); --accent: light-dark(#1f5fbf, #7fb0ff); --on-accent: light-dark(#fff, #0d1420);
  --danger: light-dark(#b3261e, #ff9d94); --soft-accent: light-dark(#e8f0fd, #22324a); }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; min-height: 100dvh; display: flex; flex-direction: column; align-items: center; justify-content: center; gap: 1rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
header { width: min(40rem, 100%); }
.brand { display: inline-flex; align-items: center; gap: .75rem; min-height: 2.75rem; color: var(--ink); font-size: 1.125rem; font-weight: 600; text-decoration: none; overflow-wrap: anywhere; }
.brand img { height: 2.5rem; max-width: min(12rem, 50vw); object-fit: contain; }
main { width: min(40rem, 100%); padding: 2rem; background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
h1 { margin: 0 0 1rem; font-size: 1.5rem; line-height: 1.2; }
h2 { margin: 2rem 0 .5rem; font-size: 1.125rem; }
h3 { margin: 0; font-size: 1rem; }
p { margin: 0 0 1rem; }
a { color: var(--accent); }
dl { margin: 0 0 1.5rem; }
dl div { display: grid; grid-template-columns: 9rem 1fr; gap: 1rem; padding: .5rem 0; border-top: 1px solid var(--line); }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
time { white-space: nowrap; }
.role { display: inline-block; padding: 0 .5rem; border-radius: 1rem; background: var(--soft-accent); font-size: .875rem; }
.sessions { list-style: none; margin: 0 0 1.5rem; padding: 0; }
.sessions li { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; justify-content: space-between; padding: .75rem 0; border-top: 1px solid var(--line); }
.sessions li > div { flex: 1 1 18rem; min-width: 0; }
.sessions p { margin: 0; color: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }
.search { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; margin: 0 0 1.5rem; }
.search label, .search .small { flex: 1 0 100%; margin: 0; }
.search input { flex: 1 1 12rem; min-width: 0; min-height: 2.75rem; padding: .5rem .75rem; border: 1px solid var(--soft); border-radius: .5rem; background: var(--paper); color: var(--ink); font: inherit; }
.current { margin-inline-start: .25rem; padding: .125rem .5rem; border-radius: 1rem; background: var(--soft-accent); font-size: .75rem; font-weight: 600; white-space: nowrap; }
.notice { padding: .5rem .75rem; border-inline-start: 4px solid var(--accent); background: var(--soft-accent); }
.notice[role=alert] { border-color: var(--danger); }
.actions { display: flex; flex-wrap: wrap; gap: .75rem; }
.button { display: inline-block; min-height: 2.75rem; padding: .6rem 1.25rem; border: 1px solid transparent; border-radius: .5rem; background: var(--accent); color: var(--on-accent);
  font: inherit; font-weight: 600; line-height: 1.5rem; text-align: center; text-decoration: none; cursor: pointer; }
.button.quiet { background: none; border-color: currentColor; color: var(--accent); }
.button.danger { background: none; border-color: currentColor; color: var(--danger); }
.button:focus-visible, a:focus-visible, input:focus-visible { outline: 3px solid var(--ink); outline-offset: 2px; }
.small { margin: 1.5rem 0 0; color: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }
.back { margin: 1.5rem 0 0; }
#warning { position: fixed; inset: auto 1rem 1rem; margin: auto; width: fit-content; max-width: calc(100% - 2rem); display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center;
  padding: .75rem 1rem; border: 2px solid var(--danger); border-radius: .75rem; background: var(--card); box-shadow: 0 .5rem 2rem #0006; }
#warning[hidden] { display: none; }
#warning p { margin: 0; }
body:has(#warning:not([hidden])) { padding-bottom: 8rem; }
[data-left] { font-variant-numeric: tabular-nums; font-weight: 600; }
@media (max-width: 30rem) { body { align-items: stretch; justify-content: start; padding: .5rem; } main { padding: 1.25rem; } dl div { grid-template-columns: 1fr; gap: 0; } .sessions form, .sessions .button { width: 100%; } }
@media (forced-colors: active) { .button { border-color: currentColor; background: ButtonFace; color: ButtonText; } }
`;

/** A style as a page holds it, and what allows exactly this one in a Content-Security-Policy. */
export interface Style {
  readonly text: string;
  readonly source: string;
}

const styles = new WeakMap<Brand, Style>();

/** The one style of all pages, in the brand's colours. */
export function styleOf(brand: Brand): Style {
  const known = styles.get(brand);
  if (known !== undefined) return known;
  const text = brand.accent === null ? STYLE : STYLE + inColors(brand.accent);
  const hash = createHash('sha256').update(text).digest('base64');
  const style = { text, source: `'sha256-${hash}'` };
  styles.set(brand, style);
  return style;
}

function inColors({ light, dark }: Accent): string {
  const pair = (name: keyof typeof light): string => `light-dark(${light[name]}, ${dark[name]})`;
  return `:root { --accent: ${pair('accent')}; --on-accent: ${pair('onAccent')}; --soft-accent: ${pair('soft')}; }
`;
}
