import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Child, freePort, startChild, until } from '@session-gateway/keycloak-server';

const GUIDES = 'docs/integrate/migrate';
/** Below the repository, so that its packages are found; the guard is the built one. */
const WORK = 'dist/guides';

export interface Guide {
  readonly name: string;
  readonly port: number;
  /** GATEWAY_ROUTES as it stands in the guide, but for the address of the upstream. */
  readonly routes: string;
  stop(): Promise<void>;
}

/** Runs the code of every migration guide as it stands, each as a process of its own. */
export async function startGuides(issuer: string): Promise<Guide[]> {
  await rm(WORK, { recursive: true, force: true });
  await mkdir(join(WORK, 'node_modules/@session-gateway'), { recursive: true });
  await symlink(resolve('dist/libs/guard'), join(WORK, 'node_modules/@session-gateway/guard'));
  const files = (await readdir(GUIDES)).filter((file) => file.startsWith('from-')).sort();
  return Promise.all(files.map((file) => startGuide(file, issuer)));
}

async function startGuide(file: string, issuer: string): Promise<Guide> {
  const text = await readFile(join(GUIDES, file), 'utf8');
  const [, name, code] = /```js\n\/\/ (\w+\.mjs)\n(.*?)```/s.exec(text) ?? [];
  const [, routes] = /```json\n(.*?)```/s.exec(text) ?? [];
  if (name === undefined || code === undefined || routes === undefined)
    throw new Error(`${file} has no program or no routes`);
  await writeFile(join(WORK, name), code);
  const port = await freePort();
  const child = await startChild(process.execPath, [await programOf(name)], {
    cwd: WORK,
    env: { ...process.env, KEYCLOAK_ISSUER: issuer, PORT: String(port) },
  });
  await until(() => answers(port, child), {
    timeoutMs: 120_000,
    what: `${file} listening`,
  });
  return {
    name: file.replace(/^from-|\.md$/g, ''),
    port,
    routes: routes.replaceAll(/"http:\/\/\w+:\d+"/g, `"http://127.0.0.1:${port}"`),
    async stop() {
      child.signal('SIGTERM');
      await child.exited;
    },
  };
}

/** A guide's functions from request to response get the server that Next.js would be. */
async function programOf(name: string): Promise<string> {
  if (name !== 'route.mjs') return name;
  await writeFile(
    join(WORK, 'server.mjs'),
    `import { createServer } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import * as route from './route.mjs';
const none = () => new Response(null, { status: 405 });
createServer(getRequestListener((request) => (route[request.method] ?? none)(request)))
  .listen(Number(process.env.PORT), '127.0.0.1');
`,
  );
  return 'server.mjs';
}

async function answers(port: number, child: Child): Promise<boolean> {
  if (child.exit()) throw new Error(child.output());
  return (await fetch(`http://127.0.0.1:${port}/`)).status > 0;
}
