// The first that fits counts: most browsers name others too, so that they are taken for them.
const BROWSERS: readonly [RegExp, string][] = [
  [/\bEdgA?\/|\bEdgiOS\//, 'Edge'], [/\bOPR\//, 'Opera'], [/\bSamsungBrowser\//, 'Samsung Internet'], [/\b(Firefox|FxiOS)\//, 'Firefox'],
  [/\b(Chrome|CriOS|HeadlessChrome)\//, 'Chrome'], [/\bVersion\/.*\bSafari\//, 'Safari'],
];
const SYSTEMS: readonly [RegExp, string][] = [
  [/\biPhone\b/, 'iPhone'], [/\biPad\b/, 'iPad'], [/\bAndroid\b/, 'Android'], [/\bWindows NT\b/, 'Windows'], [/\bMac OS X\b/, 'macOS'], [/\bCrOS\b/, 'ChromeOS'], [/\bLinux\b/, 'Linux'],
];

/** A User-Agent in words that its owner knows, such as "Firefox on Windows". What it says is the client's claim. */
export function deviceOf(userAgent: string | null): string {
  const first = (names: readonly [RegExp, string][]): string | undefined => names.find(([pattern]) => pattern.test(userAgent ?? ''))?.[1];
  const [browser, system] = [first(BROWSERS), first(SYSTEMS)];
  if (browser) return system ? `${browser} on ${system}` : browser;
  const product = /^[\w.-]{1,40}/.exec(userAgent ?? '')?.[0];
  return product ?? system ?? 'Unknown device';
}
