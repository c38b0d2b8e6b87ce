import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';
import { findProgram } from './findProgram.js';

export type { Browser, Page, Request } from 'playwright-core';

function executable(): string | null {
  const named = process.env['CHROMIUM_PATH'];
  if (named) return existsSync(named) ? named : null;
  return findProgram('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable');
}

/** Why there is no Chromium on this machine; null when there is one. */
export function whyNoChromium(): string | null {
  if (executable()) return null;
  return process.env['CHROMIUM_PATH']
    ? 'CHROMIUM_PATH names a file that does not exist'
    : 'no chromium on the PATH (Debian: apt-get install chromium; or set CHROMIUM_PATH)';
}

/**
 * A headless Chromium with a profile of its own that calls nobody by itself. `close` ends it and removes the profile.
 */
export async function openBrowser(): Promise<Browser> {
  const executablePath = executable();
  if (!executablePath) throw new Error(whyNoChromium() ?? 'no chromium');
  return chromium.launch({
    executablePath,
    headless: true,
    // Chromium's own sandbox refuses to run as root.
    chromiumSandbox: process.getuid?.() !== 0,
    args: [
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--no-first-run',
      '--disable-quic',
      '--disable-dev-shm-usage',
    ],
  });
}
