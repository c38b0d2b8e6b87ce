import { expect, test } from '@jest/globals';
import { readText, readYaml } from './files.js';

interface Compose {
  services: Record<
    string,
    { depends_on?: object; environment?: Record<string, string>; volumes?: string[] }
  >;
}
const { services } = readYaml('deploy/compose.yaml') as Compose;

test('each address in the compose file leads to a service of it', () => {
  const { environment = {}, depends_on = {} } = services['gateway'] ?? {};
  const hosts = Object.values(environment).flatMap((value) =>
    [...value.matchAll(/:\/\/(?:[^@/"\s]*@)?([\w.-]+)/g)].map(([, host = '']) => host),
  );
  const inside = [...hosts, ...Object.keys(depends_on)].filter((host) => host !== 'localhost');
  expect(inside.length).toBeGreaterThan(4);
  expect(inside.filter((host) => !(host in services))).toEqual([]);
});

test('each file that the compose file mounts is there', () => {
  const mounted = Object.values(services)
    .flatMap(({ volumes = [] }) => volumes.map((volume) => volume.split(':')[0] ?? ''))
    .filter((path) => path.startsWith('.'));
  expect(mounted).toHaveLength(2);
  for (const path of mounted) expect(readText(`deploy/${path}`)).not.toBe('');
});
