import { expect, test } from '@jest/globals';
import { describeWith } from '@session-gateway/testkit';
import { runDemo } from './demo.js';

describeWith(['redis', 'haproxy'], 'two gateways behind HAProxy', () => {
  test('log nobody out whichever part is killed, and serve everybody again', async () => {
    const { outcomes } = await runDemo({ people: 4, awayMs: 1_000, keycloak: false });
    expect(outcomes).toHaveLength(5);
    for (const outcome of outcomes)
      expect(outcome).toMatchObject({ loggedOut: 0, other: 0, recovered: true });
    // The client does count: nothing answers while no PostgreSQL is a primary.
    expect(outcomes.at(-1)!.unanswered).toBeGreaterThan(0);
  });
});
