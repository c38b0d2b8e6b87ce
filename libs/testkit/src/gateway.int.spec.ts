import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { startGateway } from './gateway.js';

describe('a gateway as a process of its own', () => {
  let folder: string;
  let entry: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'testkit-'));
    entry = join(folder, 'main.mjs');
    await writeFile(
      entry,
      `
      import { createServer } from 'node:http';
      if (process.env.REFUSE) { console.error('REFUSE is set'); process.exit(78); }
      const server = createServer((request, response) => response.end(JSON.stringify(process.env)));
      server.listen(Number(process.env.PORT), process.env.HOST, () => console.log('listening'));
      process.on('SIGTERM', () => { server.closeAllConnections(); server.close(); });
    `,
    );
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test('is live on its own ports with nothing but its own configuration', async () => {
    process.env['DATABASE_URL'] = 'postgresql://somebody-elses/';
    try {
      const gateway = await startGateway({ entry, env: { LOG_LEVEL: 'debug' } });
      const env = (await (await fetch(gateway.url)).json()) as Record<string, string>;
      expect(env).toMatchObject({
        HOST: '127.0.0.1',
        PORT: String(gateway.port),
        PUBLIC_URL: gateway.url,
        LOG_LEVEL: 'debug',
      });
      expect(gateway.managementUrl).toBe(`http://127.0.0.1:${env['MANAGEMENT_PORT']}`);
      expect(env).not.toHaveProperty('DATABASE_URL');
      expect(gateway.stdout()).toBe('listening\n');
      expect(await gateway.stop()).toBe(0);
    } finally {
      delete process.env['DATABASE_URL'];
    }
  });

  test('that refuses to start says so with its output and exit code', async () => {
    await expect(startGateway({ entry, env: { REFUSE: '1' } })).rejects.toThrow(
      'the gateway ended with 78:\nREFUSE is set',
    );
    const refusing = await startGateway({ entry, env: { REFUSE: '1' }, waitUntilLive: false });
    expect(await refusing.exited).toBe(78);
    expect(refusing.stderr()).toBe('REFUSE is set\n');
  });

  test('can be killed', async () => {
    const gateway = await startGateway({ entry });
    await gateway.kill();
    expect(await gateway.exited).toBeNull();
    await expect(fetch(gateway.url)).rejects.toThrow();
  });
});
