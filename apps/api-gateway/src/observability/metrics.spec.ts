import { describe, expect, it } from '@jest/globals';
import { createMetrics } from './metrics.js';

describe('the count of look-ups', () => {
  it('is what was counted, however often it is asked for', async () => {
    const { registry, sessionLookup } = createMetrics();
    const told = async (): Promise<string[]> =>
      (await registry.getSingleMetricAsString('session_gateway_session_lookups_total'))
        .split('\n')
        .filter((line) => !line.startsWith('#'));
    expect(await told()).toEqual([]);
    sessionLookup('process');
    sessionLookup('process');
    sessionLookup('database');
    const once = [
      'session_gateway_session_lookups_total{answered_by="process"} 2',
      'session_gateway_session_lookups_total{answered_by="database"} 1',
    ];
    expect(await told()).toEqual(once);
    expect(await told()).toEqual(once);
    sessionLookup('cache');
    expect(await told()).toEqual([
      once[0],
      'session_gateway_session_lookups_total{answered_by="cache"} 1',
      once[1],
    ]);
  });
});
