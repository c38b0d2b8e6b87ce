import { expect, test } from '@jest/globals';
import { readText } from './files.js';

test('the unit for systemd reads each credential that it loads, and no other', () => {
  const unit = readText('deploy/systemd/session-gateway.service');
  const loaded = [...unit.matchAll(/^LoadCredential=([^:]+):/gm)].map(([, name]) => name);
  const read = [...unit.matchAll(/^Environment=\w+_FILE=%d\/(.+)$/gm)].map(([, name]) => name);
  expect(loaded.length).toBeGreaterThan(0);
  expect(read).toEqual(loaded);
});
