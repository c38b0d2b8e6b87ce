import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type Child, startChild } from '@session-gateway/keycloak-server';
import { type Service, until } from '@session-gateway/testkit';

export interface Ports {
  readonly server: number;
  readonly gateway: number;
  readonly application: number;
}

/** A reverse proxy whose recipe is run as it stands, but for its addresses. */
export interface Recipe {
  readonly needs: Service;
  /** Writes its files into a folder of its own. @returns the command that runs it there */
  prepare(folder: string, ports: Ports): Promise<[string, string[]]>;
}

const recipe = (name: string, { server, gateway, application }: Ports): string =>
  readFileSync(
    fileURLToPath(new URL(`../../../docs/integrate/recipes/${name}`, import.meta.url)),
    'utf8',
  )
    .replaceAll('127.0.0.1:8000', `127.0.0.1:${server}`)
    .replaceAll('127.0.0.1:3000', `127.0.0.1:${gateway}`)
    .replaceAll('127.0.0.1:8080', `127.0.0.1:${application}`);

const APACHE_MODULES = ['mpm_event', 'authz_core', 'headers', 'lua', 'proxy', 'proxy_http'];

export const RECIPES: Readonly<Record<string, Recipe>> = {
  nginx: {
    needs: 'nginx',
    async prepare(folder, ports) {
      await mkdir(join(folder, 'logs'));
      const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
        .map((name) => `${name}_temp_path ${folder}/${name};`)
        .join(' ');
      await writeFile(
        join(folder, 'nginx.conf'),
        `daemon off; pid ${folder}/nginx.pid; worker_processes 1; error_log stderr; events {} http { access_log off; ${temporary}\n${recipe('nginx.conf', ports)}\n}`,
      );
      return ['nginx', ['-p', folder, '-c', join(folder, 'nginx.conf')]];
    },
  },
  Caddy: {
    needs: 'caddy',
    async prepare(folder, ports) {
      const file = join(folder, 'Caddyfile');
      await writeFile(file, `{\n\tadmin off\n}\n${recipe('Caddyfile', ports)}`);
      return ['caddy', ['run', '--config', file, '--adapter', 'caddyfile']];
    },
  },
  HAProxy: {
    needs: 'haproxy',
    async prepare(folder, ports) {
      await writeFile(join(folder, 'haproxy-verify.lua'), recipe('haproxy-verify.lua', ports));
      await writeFile(join(folder, 'haproxy.cfg'), recipe('haproxy.cfg', ports));
      return ['haproxy', ['-db', '-C', folder, '-f', 'haproxy.cfg']];
    },
  },
  Apache: {
    needs: 'apache2+lua-socket',
    async prepare(folder, ports) {
      const lua = join(folder, 'apache-verify.lua');
      await writeFile(lua, recipe('apache-verify.lua', ports));
      const modules = APACHE_MODULES.map(
        (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
      );
      const site = recipe('apache.conf', ports).replace('/etc/apache2/apache-verify.lua', lua);
      await writeFile(
        join(folder, 'apache.conf'),
        [
          ...modules,
          `ServerRoot ${folder}`,
          `PidFile ${folder}/pid`,
          `DefaultRuntimeDir ${folder}`,
          'ServerName localhost',
          `ErrorLog ${folder}/error.log`,
          site,
        ].join('\n'),
      );
      return ['apache2', ['-D', 'FOREGROUND', '-f', join(folder, 'apache.conf')]];
    },
  },
};

/** Starts a recipe's server and resolves when it accepts connections. */
export async function startRecipe(what: Recipe, folder: string, ports: Ports): Promise<Child> {
  const [command, args] = await what.prepare(folder, ports);
  const child = await startChild(command, args, {
    cwd: folder,
    tempFolder: folder,
    env: { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin`, HOME: folder },
  });
  await until(
    async () => {
      if (child.exit() !== null) throw new Error(`${command} ended: ${child.output()}`);
      return fetch(`http://127.0.0.1:${ports.server}/auth/client.js`).then(
        () => true,
        () => false,
      );
    },
    { what: `${command} being there` },
  );
  return child;
}

/** Ends TLS on a port of its own and passes the bytes to where `lead` points. */
export interface TlsTerminator {
  readonly url: string;
  /** Its certificate, PEM. */
  readonly ca: string;
  lead(port: number): void;
  stop(): Promise<void>;
}

export async function startTlsTerminator(folder: string): Promise<TlsTerminator> {
  const [keyFile, certFile] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  await promisify(execFile)('openssl', [
    ...'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'.split(' '),
    ...['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1'],
    ...['-keyout', keyFile, '-out', certFile],
  ]);
  const [key, cert] = [await readFile(keyFile, 'utf8'), await readFile(certFile, 'utf8')];
  let port = 0;
  const sockets = new Set<Socket>();
  const server = createServer({ key, cert }, (socket) => {
    const onward = connect(port, '127.0.0.1');
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.once('close', () => {
        to.destroy();
        sockets.delete(from);
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ca: cert,
    lead: (to) => (port = to),
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
