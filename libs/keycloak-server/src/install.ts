import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { javaProgram, whyNoJava } from './java.js';

const run = promisify(execFile);

export const KEYCLOAK_VERSION = '26.7.3';
/** Fixed into the server by `kc.sh build`; the database's place and all else are chosen at each start. */
const BUILD_OPTIONS = ['--db=dev-file', '--health-enabled=true'];
/** Written last, inside a distribution that is complete and built with the options above. */
const MARKER = '.built-for-session-gateway';
const PARTIAL = '.partial-';
const ABANDONED_AFTER_MS = 60 * 60 * 1000;

type OnProgress = (message: string) => void;

/** The folder of a Keycloak that is ready to start, or null. Downloads nothing. KEYCLOAK_HOME wins over the cache. */
export function keycloakInstalled(): string | null {
  const home = process.env['KEYCLOAK_HOME'] ?? cacheFolder();
  return existsSync(join(home, MARKER)) ? home : null;
}

/** Why Keycloak cannot be started on this machine as it is; null when it can. */
export function whyNoKeycloak(): string | null {
  const noJava = whyNoJava();
  if (noJava !== null) return noJava;
  if (keycloakInstalled()) return null;
  return `Keycloak ${KEYCLOAK_VERSION} is not downloaded (npx nx run keycloak:install)`;
}

/**
 * Makes a Keycloak ready and resolves with its folder: the one that is there, else the distribution that KEYCLOAK_HOME
 * names, else one fetched with Maven into the user's cache. Several processes may do this at once; none ever sees a
 * half-unpacked folder.
 */
export async function installKeycloak(options: { onProgress?: OnProgress } = {}): Promise<string> {
  const onProgress = options.onProgress ?? (() => undefined);
  const noJava = whyNoJava();
  if (noJava !== null) throw new Error(noJava);
  const present = keycloakInstalled();
  if (present) return present;

  const named = process.env['KEYCLOAK_HOME'];
  if (named !== undefined) {
    if (!existsSync(join(named, 'bin/kc.sh')))
      throw new Error('KEYCLOAK_HOME does not name an unpacked Keycloak distribution');
    await build(named, onProgress);
    return named;
  }

  const home = cacheFolder();
  await mkdir(dirname(home), { recursive: true });
  await removeAbandoned(home);
  const work = await mkdtemp(home + PARTIAL);
  try {
    const archive = await fetchArchive(work, onProgress);
    onProgress(`unpacking ${basename(archive)}`);
    await unpack(archive, work);
    const unpacked = join(work, `keycloak-${KEYCLOAK_VERSION}`);
    await build(unpacked, onProgress);
    await rename(unpacked, home).catch((error: unknown) => {
      // Another process was faster; what it installed is as good.
      if (!keycloakInstalled()) throw error;
    });
    onProgress(`installed in ${home}`);
    return home;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function cacheFolder(): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  return join(cache, 'session-gateway', `keycloak-${KEYCLOAK_VERSION}-dev-file`);
}

async function removeAbandoned(home: string): Promise<void> {
  for (const name of await readdir(dirname(home))) {
    if (!name.startsWith(basename(home) + PARTIAL)) continue;
    const folder = join(dirname(home), name);
    const { mtimeMs } = await stat(folder).catch(() => ({ mtimeMs: Date.now() }));
    if (Date.now() - mtimeMs > ABANDONED_AFTER_MS)
      await rm(folder, { recursive: true, force: true });
  }
}

/**
 * The zip from the local Maven repository, or fetched into `work` by Maven with the user's own settings and mirrors.
 */
async function fetchArchive(work: string, onProgress: OnProgress): Promise<string> {
  const name = `keycloak-quarkus-dist-${KEYCLOAK_VERSION}.zip`;
  const local = join(
    homedir(),
    '.m2/repository/org/keycloak/keycloak-quarkus-dist',
    KEYCLOAK_VERSION,
    name,
  );
  if (existsSync(local)) return local;
  onProgress(`downloading Keycloak ${KEYCLOAK_VERSION} with Maven (about 170 MB)`);
  // Java takes the home folder from the system's list of users, in which a container's user may not be.
  const env = {
    ...process.env,
    MAVEN_OPTS: `${process.env['MAVEN_OPTS'] ?? ''} -Duser.home=${homedir()}`.trim(),
  };
  const artifact = `org.keycloak:keycloak-quarkus-dist:${KEYCLOAK_VERSION}:zip`;
  try {
    await run(
      'mvn',
      ['-q', '-B', 'dependency:copy', `-Dartifact=${artifact}`, `-DoutputDirectory=${work}`],
      { cwd: work, env, maxBuffer: 64 << 20 },
    );
  } catch (error) {
    const { code, stdout } = error as { code?: unknown; stdout?: string };
    if (code === 'ENOENT')
      throw new Error(
        'no mvn on the PATH: install Maven, or unpack Keycloak yourself and set KEYCLOAK_HOME',
        { cause: error },
      );
    throw new Error(`Maven could not fetch ${artifact}:\n${(stdout ?? '').slice(-2000)}`, {
      cause: error,
    });
  }
  return join(work, name);
}

async function unpack(archive: string, into: string): Promise<void> {
  try {
    await run('unzip', ['-q', archive, '-d', into], { maxBuffer: 64 << 20 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    const jar = javaProgram().replace(/java$/, 'jar');
    await run(jar, ['xf', archive], { cwd: into }).catch((cause: unknown) => {
      throw new Error('neither unzip nor jar can unpack Keycloak: install unzip or a JDK', {
        cause,
      });
    });
  }
  // jar knows no permissions.
  await chmod(join(into, `keycloak-${KEYCLOAK_VERSION}`, 'bin/kc.sh'), 0o755);
}

async function build(home: string, onProgress: OnProgress): Promise<void> {
  onProgress('building the server (about 20 s, once)');
  await run(join(home, 'bin/kc.sh'), ['build', ...BUILD_OPTIONS], {
    env: { ...process.env, JAVA: javaProgram() },
    maxBuffer: 64 << 20,
  }).catch((cause: unknown) => {
    const { stdout = '', stderr = '' } = cause as { stdout?: string; stderr?: string };
    throw new Error(`kc.sh build failed:\n${stdout}${stderr}`, { cause });
  });
  await writeFile(join(home, MARKER), `${BUILD_OPTIONS.join(' ')}\n`);
}
