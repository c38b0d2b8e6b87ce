import { setTimeout as pause } from 'node:timers/promises';
import { HttpBrowser } from '@session-gateway/testkit';

/** What people met in a span of time. */
export interface Counts {
  requests: number;
  /** Answers 503, and requests without an answer. */
  unanswered: number;
  /** Between the first and the last of those. */
  secondsUnanswered: number;
  /** Answers 401: somebody who is logged in is told that they are not. */
  loggedOut: number;
  /** Any other answer that is no 200. */
  other: number;
}

/** People who are logged in and keep asking for something, one after the other. */
export interface People {
  /** What has been counted since the last call. */
  take(): Counts;
  /** Resolves when each person has been answered with 200 once more. */
  allServed(withinMs: number): Promise<boolean>;
  stop(): Promise<void>;
}

const PAUSE_MS = 20;
const TIMEOUT_MS = 5_000;

/** Logs people in, and has `atOnce` of them ask at a time, until `stop`. */
export async function startPeople(url: string, count: number, atOnce = 4): Promise<People> {
  const cookies: string[] = [];
  for (let i = 0; i < count; i++) cookies.push(await logIn(url));
  let counts = none();
  let firstAt: number | undefined;
  let stopped = false;
  let next = 0;

  const note = (status: number | null): void => {
    counts.requests++;
    if (status === 200) return;
    if (status === 401) counts.loggedOut++;
    else if (status === 503 || status === null) {
      firstAt ??= performance.now();
      counts.unanswered++;
      counts.secondsUnanswered = (performance.now() - firstAt) / 1_000;
    } else counts.other++;
  };
  const ask = async (): Promise<void> => {
    while (!stopped) {
      const cookie = cookies[next++ % count] ?? '';
      note(await statusOf(`${url}/${next % 2 ? 'api/x' : 'auth/session'}`, cookie));
      await pause(PAUSE_MS);
    }
  };
  const asking = Array.from({ length: atOnce }, ask);
  return {
    take() {
      const taken = counts;
      counts = none();
      firstAt = undefined;
      return taken;
    },
    async allServed(withinMs) {
      const until = performance.now() + withinMs;
      for (const cookie of cookies)
        while ((await statusOf(`${url}/api/x`, cookie)) !== 200) {
          if (performance.now() > until) return false;
          await pause(PAUSE_MS);
        }
      return true;
    },
    async stop() {
      stopped = true;
      await Promise.all(asking);
    },
  };
}

const none = (): Counts => ({
  requests: 0,
  unanswered: 0,
  secondsUnanswered: 0,
  loggedOut: 0,
  other: 0,
});

async function logIn(url: string): Promise<string> {
  const browser = new HttpBrowser();
  await browser.loginThroughKeycloak(url, 'demo', 'demo', { returnTo: '/api/x' });
  const value = browser.cookies.get('session')?.value;
  await browser.close();
  if (value === undefined) throw new Error('the login gave no session cookie');
  return `session=${value}`;
}

/** Null where no answer came. */
async function statusOf(address: string, cookie: string): Promise<number | null> {
  try {
    const answer = await fetch(address, {
      headers: { cookie },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    await answer.arrayBuffer();
    return answer.status;
  } catch {
    return null;
  }
}
