import { AuthError } from '@session-gateway/keycloak-auth';
import { expect, test } from '@jest/globals';
import type { Log } from './logging.js';
import { createMetrics } from './metrics.js';
import { reportRefusal } from './refusals.js';

test.each([
  ['issuer_missing', /^refused: turn off "Exclude Issuer/],
  ['algorithm', /^refused: set "ID token signature algorithm"/],
  ['no_id_token', /^refused: the scope of the login/],
  ['signature', /^refused$/],
] as const)('a login refused for %s is logged with what to set, if anything', (reason, words) => {
  const said: string[] = [];
  const note = (_: object, message: string): void => void said.push(message);
  const log: Log = { debug: note, info: note, warn: note, error: note };
  const cause = new AuthError('callback_rejected', 'x', { reason });
  reportRefusal({ metrics: createMetrics(), log }, { code: 'callback_rejected', cause });
  expect(said).toEqual([expect.stringMatching(words)]);
});
