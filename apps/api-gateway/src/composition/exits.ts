import process from 'node:process';
import { ConfigError, isAuthError } from '@session-gateway/keycloak-auth';

/** Exit codes of every command. */
export const EXIT = { failed: 1, usage: 2, configuration: 78 } as const;

/** A command line that cannot be meant; the message names what is wrong. */
export class UsageError extends Error {}

/** What keeps a gateway from starting and is no matter of its settings alone. */
export class StartError extends Error {}

/** Says why on stderr and ends the process at once. */
export function fail(code: number, lines: readonly string[]): void {
  process.stderr.write(`${lines.map((line) => `session-gateway: ${line}`).join('\n')}\n`);
  process.exit(code);
}

/** Names every problem of the settings and ends the process with 78. */
export function refuse(error: ConfigError): void {
  fail(EXIT.configuration, [
    'the configuration is not usable:',
    ...error.problems.map((problem) => `  ${problem}`),
  ]);
}

/** Ends the process as fits the error that a command threw. */
export function failWith(error: unknown): void {
  if (error instanceof ConfigError) refuse(error);
  else if (error instanceof UsageError) fail(EXIT.usage, [error.message, 'see --help']);
  else if (error instanceof StartError || isAuthError(error, 'key_provider_unavailable'))
    fail(EXIT.failed, [error.message]);
  else fail(EXIT.failed, [error instanceof Error ? (error.stack ?? error.message) : String(error)]);
}
