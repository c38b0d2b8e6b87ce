import { describe, expect, test } from '@jest/globals';
import { AuthError } from '../errors.js';
import { CircuitBreaker, type Place } from './circuitBreaker.js';

const unavailable = (retryAfterSeconds?: number) =>
  new AuthError('provider_unavailable', 'away', { retryAfterSeconds });
let now = 0;
const breaker = (options = {}) =>
  new CircuitBreaker({
    maxConcurrent: 8,
    failuresToOpen: 3,
    minOpenMs: 1_000,
    maxOpenMs: 4_000,
    now: () => now,
    random: () => 0,
    ...options,
  });
const failTimes = async (circuit: CircuitBreaker, times: number) => {
  for (let i = 0; i < times; i++) (await circuit.enter()).failed(unavailable());
};
/** How many of so many newcomers are let in at once. */
const admitted = async (circuit: CircuitBreaker, many: number): Promise<Place[]> => {
  const places: Place[] = [];
  for (let i = 0; i < many; i++)
    void circuit.enter().then(
      (place) => places.push(place),
      () => undefined,
    );
  await new Promise(setImmediate);
  return places;
};

describe('a circuit breaker', () => {
  test('opens after failures in a row, and not for answers of any kind between them', async () => {
    const circuit = breaker();
    await failTimes(circuit, 2);
    (await circuit.enter()).answered();
    (await circuit.enter()).failed(new AuthError('provider_rejected', 'our fault'));
    await failTimes(circuit, 2);
    expect(circuit.isOpen).toBe(false);
    await failTimes(circuit, 1);
    await expect(circuit.enter()).rejects.toMatchObject({
      code: 'provider_unavailable',
      reason: 'circuit_open',
      retryAfterSeconds: 1,
    });
  });

  test('stays open twice as long each time, up to a bound', async () => {
    const opened: number[] = [];
    const circuit = breaker({ onChange: (_: string, ms: number) => opened.push(ms) });
    await failTimes(circuit, 3);
    for (let i = 0; i < 4; i++) {
      now += 4_000;
      await failTimes(circuit, 1);
    }
    expect(opened).toEqual([1_000, 2_000, 4_000, 4_000, 4_000]);
  });

  test('waits as long as the provider asks it to', async () => {
    const circuit = breaker();
    (await circuit.enter()).failed(unavailable(30));
    now += 29_999;
    expect(circuit.isOpen).toBe(true);
    now += 1;
    expect(circuit.isOpen).toBe(false);
  });

  test("lets one call through after an outage, then two, then four: the provider's return is no stampede", async () => {
    const states: string[] = [];
    const circuit = breaker({ onChange: (state: string) => states.push(state) });
    await failTimes(circuit, 3);
    now += 10_000;
    const places = await admitted(circuit, 100);
    const waves: number[] = [];
    for (let wave = 0; wave < 5; wave++) {
      waves.push(places.length);
      const [first, ...others] = places.splice(0);
      first?.answered();
      for (const place of others) place.unused();
      await new Promise(setImmediate);
    }
    expect(waves).toEqual([1, 2, 4, 8, 8]);
    expect(states).toEqual(['open', 'closed']);
  });

  test('lets people take turns, and nobody has more calls under way than a few', async () => {
    const circuit = breaker({ maxPerPerson: 3 });
    const order: string[] = [];
    const places: Place[] = [];
    const enter = (person: string): void =>
      void circuit.enter(person).then((place) => {
        order.push(person);
        places.push(place);
      });
    for (let i = 0; i < 300; i++) enter('greedy');
    for (const person of ['a', 'b', 'b', 'a', 'b', 'b', 'c']) enter(person);
    await new Promise(setImmediate);
    expect(order).toEqual(['greedy', 'greedy', 'greedy', 'a', 'b', 'b', 'a', 'b']);
    // Then it is the turn of others; the fourth of b waits for one of theirs.
    for (const next of ['greedy', 'c']) {
      places.shift()?.answered();
      await new Promise(setImmediate);
      expect(order.at(-1)).toBe(next);
    }
    for (let place = places.shift(); place; place = places.shift()) {
      place.answered();
      await new Promise(setImmediate);
    }
    expect(order).toHaveLength(307);
    expect(await admitted(circuit, 100)).toHaveLength(8);
  });

  test('refuses those who wait when the first try fails, and never loses a place', async () => {
    const circuit = breaker();
    await failTimes(circuit, 3);
    now += 10_000;
    const waiting = [circuit.enter(), circuit.enter(), circuit.enter()].map((entry) =>
      entry.catch((error: unknown) => (error as AuthError).reason),
    );
    const probe = (await waiting[0]) as Place;
    probe.failed(unavailable());
    probe.answered();
    expect(await Promise.all(waiting.slice(1))).toEqual(['circuit_open', 'circuit_open']);
    now += 10_000;
    expect(await admitted(circuit, 5)).toHaveLength(1);
  });

  test('bounds how many call at once, and how many wait', async () => {
    const circuit = breaker({ maxWaiting: 2 });
    const places = await admitted(circuit, 8);
    const waiting = [circuit.enter(), circuit.enter()];
    await expect(circuit.enter()).rejects.toMatchObject({ reason: 'circuit_open' });
    places[0]?.unused();
    places[1]?.answered();
    (await Promise.all(waiting)).forEach((place) => place.answered());
  });
});
