import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  bindMigrationAwareSqlAdapterFactory,
  type SqlDriverAdapter,
  type SqlMigrationAwareDriverAdapterFactory,
} from '@prisma/driver-adapter-utils';
import type { MigrationList, SchemaEngine } from '@prisma/schema-engine-wasm';
import * as bindings from '@prisma/schema-engine-wasm/schema_engine_bg';
import { DatabaseError } from './errors.js';

const glue = bindings as unknown as WebAssembly.ModuleImports & {
  __wbg_set_wasm(exports: WebAssembly.Exports): void;
  SchemaEngine: {
    new: (
      options: { datamodels: [string, string][] },
      log: (line: string) => void,
      adapter: unknown,
    ) => Promise<SchemaEngine>;
  };
};

const ENGINE = 'schema_engine_bg.wasm';

/** Beside a packaged program, or in the package that it comes with. */
function engineFile(): string {
  const beside = fileURLToPath(new URL(ENGINE, import.meta.url));
  if (existsSync(beside)) return beside;
  const bindingsFile = createRequire(import.meta.url).resolve(
    '@prisma/schema-engine-wasm/schema_engine_bg',
  );
  return join(dirname(bindingsFile), ENGINE);
}

let loaded: Promise<void> | undefined;

/** The package's own entry imports its .wasm file as a module, which Node 20 cannot do; this instantiates it, once. */
function load(): Promise<void> {
  loaded ??= (async () => {
    const file = engineFile();
    const imports: WebAssembly.ModuleImports = { ...glue };
    // The engine never clears the timer of its advisory lock: unreferenced, it cannot keep the process waiting.
    for (const [name, call] of Object.entries(glue)) {
      if (!name.startsWith('__wbg_setTimeout_')) continue;
      imports[name] = (...args: unknown[]) =>
        (call as (...all: unknown[]) => NodeJS.Timeout)(...args).unref();
    }
    const { instance } = await WebAssembly.instantiate(await readFile(file), {
      './schema_engine_bg.js': imports,
    });
    glue.__wbg_set_wasm(instance.exports);
    (instance.exports['__wbindgen_start'] as () => void)();
  })();
  return loaded;
}

/**
 * Runs `work` with Prisma's own migration engine on a database; what the engine opens is closed afterwards. The
 * engine's errors are texts: they are thrown as one line each, with the driver's error as their cause.
 */
export async function withSchemaEngine<Result>(
  prismaDir: string,
  adapter: SqlMigrationAwareDriverAdapterFactory,
  work: (engine: SchemaEngine, migrations: MigrationList) => Promise<Result>,
): Promise<Result> {
  await load();
  const opened: SqlDriverAdapter[] = [];
  let fault: unknown;
  const noting = async <Answer>(asking: Promise<Answer>): Promise<Answer> => {
    try {
      return await asking;
    } catch (error) {
      // A table that is missing is the migration's mistake; elsewhere it means that migrations are still to come.
      if ((error as { cause?: { originalCode?: string } }).cause?.originalCode !== '42P01')
        fault = error;
      throw error;
    }
  };
  const track = async (opening: Promise<SqlDriverAdapter>): Promise<SqlDriverAdapter> => {
    const one = await opening;
    opened.push(one);
    const executeRaw = one.executeRaw.bind(one);
    const queryRaw = one.queryRaw.bind(one);
    one.executeRaw = (query) => noting(executeRaw(query));
    one.queryRaw = (query) => noting(queryRaw(query));
    // The adapter's own splits a script at every semicolon, also inside a function's body. Sent whole and without
    // parameters it is one simple query, and so one transaction: a migration applies wholly or not at all.
    one.executeScript = async (script) =>
      void (await one.executeRaw({ sql: script, args: [], argTypes: [] }));
    return one;
  };
  const tracked: SqlMigrationAwareDriverAdapterFactory = {
    provider: adapter.provider,
    adapterName: adapter.adapterName,
    connect: () => track(adapter.connect()),
    connectToShadowDb: () => track(adapter.connectToShadowDb()),
  };
  const schemaPath = resolve(prismaDir, 'schema.prisma');
  let engine: SchemaEngine | undefined;
  try {
    engine = await glue.SchemaEngine.new(
      { datamodels: [[schemaPath, await readFile(schemaPath, 'utf8')]] },
      () => undefined,
      bindMigrationAwareSqlAdapterFactory(tracked),
    );
    return await work(engine, await listMigrations(resolve(prismaDir, 'migrations')));
  } catch (error) {
    if (error instanceof DatabaseError || !(error instanceof Error)) throw error;
    throw new Error(oneLine(error.message), { cause: fault ?? error });
  } finally {
    engine?.free();
    await Promise.all(opened.map((one) => one.dispose()));
  }
}

/** The engine's message without its trace, of which only the migration's name helps. */
function oneLine(message: string): string {
  const [said = '', ...trace] = message.split(/\n\s+\d+: /);
  const migration = /migration_name="([^"]+)"/.exec(trace.join())?.[1];
  const text = said
    .replace(/^external connector error\n/, '')
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)
    .join(' ');
  return migration ? `${migration}: ${text}` : text;
}

export async function listMigrations(baseDir: string): Promise<MigrationList> {
  const names = (await readdir(baseDir, { withFileTypes: true }))
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
  return {
    baseDir,
    lockfile: {
      path: 'migration_lock.toml',
      content: await readFile(join(baseDir, 'migration_lock.toml'), 'utf8'),
    },
    shadowDbInitScript: '',
    migrationDirectories: await Promise.all(
      names.map(async (path) => ({
        path,
        migrationFile: {
          path: 'migration.sql',
          content: {
            tag: 'ok' as const,
            value: await readFile(join(baseDir, path, 'migration.sql'), 'utf8'),
          },
        },
      })),
    ),
  };
}
