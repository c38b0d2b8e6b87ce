import assert from 'node:assert/strict';

/** Prints what was seen and fails where it is not what the finding says. */
export function seen(what, value, expected) {
  console.log(`${what}: ${JSON.stringify(value)}`);
  assert.deepEqual(value, expected, `${what} has changed`);
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until something is so. */
export async function until(what, look, timeoutMs = 20_000) {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await sleep(50))
    if (await look()) return;
  throw new Error(`never seen: ${what}`);
}

/** What a promise comes to within a time: its value, its error's message, or 'still waiting'. */
export const within = (ms, promise) =>
  Promise.race([
    promise.then((value) => value ?? 'done').catch((error) => error.message),
    sleep(ms).then(() => 'still waiting'),
  ]);
