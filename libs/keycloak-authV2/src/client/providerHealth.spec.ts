import { describe, expect, test } from '@jest/globals';
import { ProviderHealth } from './providerHealth.js';

describe('the health of the provider', () => {
  let now = 0;
  const answering =
    (status: number): typeof fetch =>
    async () =>
      new Response(null, { status });
  const silent: typeof fetch = async () => {
    throw new TypeError('fetch failed');
  };
  /** Health with a counted look, which asks whatever provider there is just then. */
  function watched(provider: typeof fetch) {
    const health = new ProviderHealth(() => now);
    const state = { provider, looks: 0 };
    const send = health.watch((...request) => state.provider(...request));
    const look = async (): Promise<void> => {
      state.looks++;
      await send('http://id.example');
    };
    return { state, send, reason: () => health.reason(look) };
  }

  test('is told by the latest request to it, whoever sent that', async () => {
    const { state, send, reason } = watched(answering(200));
    await send('http://id.example/token');
    expect(await reason()).toBeNull();
    state.provider = silent;
    await expect(send('http://id.example/token')).rejects.toThrow(TypeError);
    expect(await reason()).toBe('the provider does not answer');
    state.provider = answering(503);
    await send('http://id.example/token');
    expect(await reason()).toBe('the provider answers 503');
    // Refusals are answers.
    state.provider = answering(400);
    await send('http://id.example/token');
    expect(await reason()).toBeNull();
    expect(state.looks).toBe(0);
  });

  test('is looked at where nothing has been asked of it for a while, once for all who want to know', async () => {
    const { state, reason } = watched(answering(200));
    expect(await Promise.all(Array.from({ length: 50 }, reason))).toEqual(
      Array.from({ length: 50 }, () => null),
    );
    state.provider = silent;
    now += 2_999;
    expect([await reason(), state.looks]).toEqual([null, 1]);
    now += 1;
    expect([await reason(), await reason(), state.looks]).toEqual([
      'the provider does not answer',
      'the provider does not answer',
      2,
    ]);
    now += 3_000;
    state.provider = answering(200);
    expect([await reason(), state.looks]).toEqual([null, 3]);
  });

  test('of one that is mute is told without an answer, and corrected by the answer', async () => {
    let answer: (response: Response) => void = () => undefined;
    const { state, reason } = watched(
      () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
    );
    expect(await reason()).toBe('the provider has not answered yet');
    now += 3_000;
    expect(await reason()).toBe('the provider has not answered yet');
    expect(state.looks).toBe(1);
    answer(new Response(null, { status: 200 }));
    await new Promise(setImmediate);
    expect([await reason(), state.looks]).toEqual([null, 1]);
  });
});
