import { constants } from 'node:os';
import process from 'node:process';

/** Some package runners pass on the terminal's Ctrl-C, which this process has had from the terminal already. */
const SAME_SIGNAL_MS = 500;

/** What is to be done when the process is asked to end. */
export interface Signals {
  ask(toStop: (signal: string) => Promise<void>): void;
}

/**
 * Until there is something to finish a signal ends the process at once, and so does the second
 * one of somebody who insists.
 */
export function takeSignals(): Signals {
  let stop: ((signal: string) => Promise<void>) | null = null;
  let asked: number | null = null;
  const take = (signal: 'SIGINT' | 'SIGTERM'): void => {
    const now = performance.now();
    if (asked !== null && now - asked < SAME_SIGNAL_MS) return;
    if (stop === null || asked !== null) process.exit(128 + constants.signals[signal]);
    asked = now;
    void stop(signal);
  };
  process.on('SIGINT', take);
  process.on('SIGTERM', take);
  // While it starts there is nothing to read anew, and no reason to end.
  process.on('SIGHUP', () => undefined);
  return {
    ask: (toStop) => {
      stop = toStop;
    },
  };
}
