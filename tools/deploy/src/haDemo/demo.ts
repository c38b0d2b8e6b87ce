import { setTimeout as pause } from 'node:timers/promises';
import { type Fleet, startFleet } from './fleet.js';
import { type Counts, type People, startPeople } from './people.js';

export interface Outcome extends Counts {
  killed: string;
  /** Whether everybody was served again, with the session that they had. */
  recovered: boolean;
}

export interface DemoOptions {
  people: number;
  /** How long a part stays away before it is started again, or its stand-in takes over. */
  awayMs: number;
  keycloak: boolean;
}

interface Step {
  killed: string;
  kill: (fleet: Fleet) => Promise<unknown>;
  /** What an operator, or the program that watches over the part, does then. */
  then: (fleet: Fleet) => Promise<unknown>;
}

const STEPS: Step[] = [
  gatewayStep('gateway a', 0),
  gatewayStep('gateway b', 1),
  {
    killed: 'Redis, primary (a sentinel promotes the replica)',
    kill: ({ redis }) => redis.primary.kill(),
    then: () => Promise.resolve(),
  },
  {
    killed: 'Keycloak, stopped and started',
    kill: ({ provider }) => provider.stop(),
    then: ({ provider }) => provider.start(),
  },
  {
    killed: 'PostgreSQL, primary (then the standby is promoted)',
    kill: ({ primary }) => primary.kill(),
    then: ({ standby }) => standby.query('SELECT pg_promote()'),
  },
];
const RECOVERED_WITHIN_MS = 60_000;

function gatewayStep(killed: string, index: number): Step {
  return {
    killed,
    kill: (fleet) => fleet.killGateway(index),
    then: (fleet) => fleet.startGateway(index),
  };
}

/** Kills each part of a fleet in turn while people work, and tells what they met. */
export async function runDemo({ people, awayMs, keycloak }: DemoOptions): Promise<{
  isKeycloak: boolean;
  outcomes: Outcome[];
}> {
  const fleet = await startFleet({ keycloak });
  let crowd: People | undefined;
  try {
    crowd = await startPeople(fleet.url, people);
    const outcomes: Outcome[] = [];
    for (const { killed, kill, then } of STEPS) {
      await fleet.whole();
      crowd.take();
      await kill(fleet);
      await pause(awayMs);
      await then(fleet);
      const recovered = await crowd.allServed(RECOVERED_WITHIN_MS);
      outcomes.push({ killed, recovered, ...crowd.take() });
    }
    return { isKeycloak: fleet.isKeycloak, outcomes };
  } finally {
    await crowd?.stop();
    await fleet.dispose();
  }
}

/** The outcomes as a table of Markdown. */
export function tableOf(outcomes: readonly Outcome[]): string {
  const rows = outcomes.map((outcome) => [
    outcome.killed,
    String(outcome.requests),
    String(outcome.loggedOut),
    outcome.secondsUnanswered.toFixed(1),
    String(outcome.unanswered),
    outcome.recovered ? 'yes' : 'NO',
  ]);
  const head = ['killed', 'requests', 'logged out', 'seconds of 503', '503', 'all served again'];
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
}
