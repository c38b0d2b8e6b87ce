import { setTimeout as delay } from 'node:timers/promises';
import type { Cluster, ClusterSession, Counts } from '@session-gateway/testkit';

/** A request as a page sends it. */
export type Ask = readonly [method: 'GET' | 'POST', path: string];

/** What came of the requests of live sessions. */
export interface Traffic {
  answers: Counts;
  /** Refused as if there were no session, or served as somebody else's. */
  denied: number;
  cookiesCleared: number;
  /** 503 without `Retry-After`. */
  abrupt: number;
  slowest503Ms: number;
}

const PARALLEL = 6;
const PAUSE_MS = 10;

/** Sends requests of these sessions to all gateways, a few at a time, until it is stopped. */
export function startTraffic(
  cluster: Cluster,
  sessions: readonly ClusterSession[],
  asks: readonly Ask[],
): { stop(): Promise<Traffic> } {
  const seen: Traffic = { answers: {}, denied: 0, cookiesCleared: 0, abrupt: 0, slowest503Ms: 0 };
  let [next, stopped] = [0, false];
  const count = (what: string): void => void (seen.answers[what] = (seen.answers[what] ?? 0) + 1);
  const ask = async (i: number): Promise<void> => {
    const { cookie, subject } = sessions[i % sessions.length] as ClusterSession;
    const [method, path] = asks[Math.floor(i / sessions.length) % asks.length] as Ask;
    const began = performance.now();
    const { status, code, headers, text } = await cluster.ask(i % cluster.gateways.length, path, {
      cookie,
      method,
    });
    count(code === null ? String(status) : `${status} ${code}`);
    const about = headers['x-auth-subject'] ?? /"sub":"([^"]+)"/.exec(text)?.[1];
    if (
      status === 401 ||
      status === 403 ||
      (status === 200 && about !== undefined && about !== subject)
    )
      seen.denied++;
    if (headers['set-cookie'] !== undefined) seen.cookiesCleared++;
    if (status === 503) {
      // Who waits for a refresh that is under way has longer.
      if (method === 'GET')
        seen.slowest503Ms = Math.max(seen.slowest503Ms, Math.round(performance.now() - began));
      if (!/^\d+$/.test(String(headers['retry-after']))) seen.abrupt++;
    }
  };
  const worker = async (): Promise<void> => {
    while (!stopped) {
      await ask(next++).catch((error: unknown) =>
        count(`failed: ${error instanceof Error ? error.message : String(error)}`),
      );
      await delay(PAUSE_MS);
    }
  };
  const done = Promise.all(Array.from({ length: PARALLEL }, worker));
  return {
    async stop() {
      stopped = true;
      await done;
      return seen;
    },
  };
}
