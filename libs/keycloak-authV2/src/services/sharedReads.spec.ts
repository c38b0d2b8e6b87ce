import { expect, test } from '@jest/globals';
import { SharedReads } from './sharedReads.js';

/** A read that ends when it is told to. */
function slowReads() {
  const begun: { end: (value: string) => void; fail: (error: Error) => void }[] = [];
  const read = (): Promise<string> => new Promise((end, fail) => begun.push({ end, fail }));
  return { begun, read };
}
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('who asks while a read runs is answered by one that began after, and shares it', async () => {
  const reads = new SharedReads<string>();
  const { begun, read } = slowReads();
  const first = reads.read('a', read);
  const crowd = [1, 2, 3].map(() => reads.read('a', read));
  expect(begun).toHaveLength(1);
  begun[0]?.end('before');
  await expect(first).resolves.toBe('before');
  await turn();
  expect(begun).toHaveLength(2);
  begun[1]?.end('after');
  await expect(Promise.all(crowd)).resolves.toEqual(['after', 'after', 'after']);
});

test('another key waits for nobody', async () => {
  const reads = new SharedReads<string>();
  const { begun, read } = slowReads();
  const both = [reads.read('a', read), reads.read('b', read)];
  expect(begun).toHaveLength(2);
  for (const one of begun) one.end('read');
  await expect(Promise.all(both)).resolves.toEqual(['read', 'read']);
});

test('a read that fails fails those that share it, and nobody after', async () => {
  const reads = new SharedReads<string>();
  const { begun, read } = slowReads();
  const [first, second] = [reads.read('a', read), reads.read('a', read)];
  begun[0]?.fail(new Error('away'));
  await expect(first).rejects.toThrow('away');
  await turn();
  begun[1]?.end('back');
  await expect(second).resolves.toBe('back');
});

test('a read that hangs holds nobody up', async () => {
  const reads = new SharedReads<string>();
  const { begun, read } = slowReads();
  const [hanging, second] = [reads.read('a', read), reads.read('a', read)];
  while (begun.length < 2) await turn();
  begun[1]?.end('answered');
  await expect(second).resolves.toBe('answered');
  begun[0]?.end('late');
  await expect(hanging).resolves.toBe('late');
});
