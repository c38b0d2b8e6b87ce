import { parseArgs } from 'node:util';
import { runDemo, tableOf } from './demo.js';

const { values } = parseArgs({
  options: {
    people: { type: 'string', default: '20' },
    'away-seconds': { type: 'string', default: '5' },
    'no-keycloak': { type: 'boolean', default: false },
  },
});
const { isKeycloak, outcomes } = await runDemo({
  people: Number(values.people),
  awayMs: Number(values['away-seconds']) * 1_000,
  keycloak: !values['no-keycloak'],
});
process.stdout.write(`${tableOf(outcomes)}\n`);
if (!isKeycloak)
  process.stdout.write('With a stand-in for Keycloak (npx nx run keycloak:install).\n');
process.exit(outcomes.every(({ loggedOut, recovered }) => loggedOut === 0 && recovered) ? 0 : 1);
