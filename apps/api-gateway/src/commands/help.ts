/** What `--help` prints. */
export const HELP = `Session gateway: logs people in with Keycloak and keeps their tokens out of the browser.

usage: session-gateway [command] [flags]

  serve                 run the gateway (the default)
  migrate               bring the database's schema up to date
  encrypt-tokens        rewrite stored tokens under the primary key, while gateways run
  keys                  make, list, add, promote and retire encryption keys
  sessions              list and end sessions, export the audit trail
  check-config          tell what is wrong with the settings, without starting anything

  --help                this text; after a command, that command's own
  --version             version and commit

Settings come from the environment: see docs/operate/configuration.md. Every secret may be in a file: NAME_FILE.

exit codes: 0 done, 1 failed, 2 wrong usage, 78 settings are missing or wrong (all are named)`;
