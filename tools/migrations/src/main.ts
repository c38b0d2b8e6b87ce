import process from 'node:process';
import { isJobCommand, jobCommand } from './jobCommand.js';

const [command = '', ...args] = process.argv.slice(2);

if (isJobCommand(command)) process.exitCode = await jobCommand(command, args);
else {
  process.stderr.write(
    command === ''
      ? 'migrations: say what to do: encrypt-tokens or keys\n'
      : `migrations: unknown command ${command}: there are encrypt-tokens and keys\n`,
  );
  process.exitCode = 2;
}
