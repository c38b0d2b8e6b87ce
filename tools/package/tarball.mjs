import { createWriteStream } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-stream';

/** Writes `folder` under the name `as`: sorted, owned by root, all times `at`. The same files give the same bytes. */
export async function writeTarball({ folder, as, file, at }) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
  const archive = pack();
  const written = pipeline(archive, createGzip({ level: 9 }), createWriteStream(file));
  for (const path of paths) {
    const header = { name: `${as}/${path}`, mode: 0o644, mtime: at, uid: 0, gid: 0 };
    archive.entry(header, await readFile(join(folder, path)));
  }
  archive.finalize();
  await written;
}
