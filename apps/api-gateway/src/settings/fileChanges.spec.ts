import { mkdir, mkdtemp, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from '@jest/globals';
import { onFileChange } from './fileChanges.js';

let folder: string;
let stop = (): void => undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'file-changes-'));
});
afterEach(async () => {
  stop();
  await rm(folder, { recursive: true });
});

/**
 * Settles once a change has been noticed. The first look must be over before: what it sees is
 * what later ones compare with.
 */
async function noticed(path: string, change: () => Promise<void>): Promise<void> {
  const seen = new Promise<void>((resolve) => {
    stop = onFileChange(path, resolve, 20);
  });
  await new Promise((resolve) => setTimeout(resolve, 100));
  await change();
  await seen;
}

test('content written in place is noticed, though the time of the content is put back', async () => {
  const path = join(folder, 'secret');
  await writeFile(path, 'one');
  const { atime, mtime } = await stat(path);
  await noticed(path, async () => {
    await writeFile(path, 'two');
    await utimes(path, atime, mtime);
  });
});

test('a copy that keeps the time of the content is noticed when it takes the place of the file', async () => {
  const [path, copy] = [join(folder, 'secret'), join(folder, 'copy')];
  await writeFile(path, 'one');
  const { atime, mtime } = await stat(path);
  await writeFile(copy, 'two');
  await utimes(copy, atime, mtime);
  await noticed(path, () => rename(copy, path));
});

test('a folder swapped by a link, as Kubernetes replaces mounted secrets, is noticed', async () => {
  const then = new Date(0);
  for (const version of ['v1', 'v2']) {
    await mkdir(join(folder, version));
    await writeFile(join(folder, version, 'secret'), 'text');
    await utimes(join(folder, version, 'secret'), then, then);
  }
  await symlink('v1', join(folder, '..data'));
  await symlink('..data/secret', join(folder, 'secret'));
  await noticed(join(folder, 'secret'), async () => {
    await symlink('v2', join(folder, '..next'));
    await rename(join(folder, '..next'), join(folder, '..data'));
  });
});

test('a path where nothing lies yet is noticed once something does', async () => {
  const path = join(folder, 'secret');
  await noticed(path, () => writeFile(path, 'one'));
});
