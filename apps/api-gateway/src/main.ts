import process from 'node:process';
import { failWith, UsageError } from './composition/exits.js';

/**
 * Each resolves with its exit code; null: it goes on until a signal ends it. What it takes is loaded when it is called.
 */
type Command = (args: readonly string[]) => Promise<number | null>;

const print = (text: string): number => {
  process.stdout.write(`${text}\n`);
  return 0;
};
const help: Command = async () => print((await import('./commands/help.js')).HELP);

const job =
  (name: 'encrypt-tokens' | 'keys'): Command =>
  async (args) =>
    (await import('./commands/job.js')).runJobCommand(name, args);

const checkConfig: Command = async (args) =>
  (await import('./commands/checkConfig.js')).checkConfig(args);

const COMMANDS: Readonly<Record<string, Command>> = {
  async serve(args) {
    if (args.includes('--help')) return help([]);
    if (args.length > 0) throw new UsageError(`unknown flag or word ${args[0]}: serve takes none`);
    await (await import('./commands/serve.js')).serve();
    return null;
  },
  migrate: async (args) => (await import('./commands/migrate.js')).migrate(args, process.env),
  'encrypt-tokens': job('encrypt-tokens'),
  keys: job('keys'),
  sessions: async (args) => (await import('./commands/sessions/sessions.js')).sessions(args),
  'check-config': checkConfig,
  // As it was called before there were commands.
  '--check-config': checkConfig,
  '--help': help,
  '--version': async () =>
    print(`session-gateway ${(await import('./commands/version.js')).version()}`),
};

async function main([name = 'serve', ...args]: readonly string[]): Promise<void> {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) throw new UsageError(`unknown command ${name}`);
  const code = await command(args);
  if (code !== null) process.exitCode = code;
}

main(process.argv.slice(2)).catch(failWith);
