import { describe, expect, test } from '@jest/globals';
import { metricsText, serveMetrics } from './metrics.js';

const at = {
  sweep: 2,
  scanned: 500,
  scannedBefore: 0,
  total: 2_000,
  changed: 400,
  lostRace: 3,
  throttledBy: null,
};

describe("the job's metrics", () => {
  test('are Prometheus text, with each name explained once', () => {
    const text = metricsText({ ...at, throttledBy: 'replica "x} is 12 s behind, at most 10' });
    expect(text).toContain(
      '# TYPE token_encryption_rows_changed_total counter\ntoken_encryption_rows_changed_total 400\n',
    );
    expect(text).toContain('token_encryption_sweep 2\n');
    expect(text).toContain('token_encryption_throttled{reason="replication_lag"} 1\n');
    expect(text.match(/\} 1$/gm)).toHaveLength(1);
    expect(text.match(/# TYPE token_encryption_throttled gauge/g)).toHaveLength(1);
    for (const line of text.trimEnd().split('\n'))
      expect(line).toMatch(
        /^(# (HELP|TYPE) token_encryption_\w+ .+|token_encryption_\w+(\{reason="\w+"\})? \d+)$/,
      );
  });

  test.each([
    ['held to 500 rows/s', 'rows_per_second'],
    ['working 50 % of the time', 'duty'],
    ['WAL held to 20 MB/s', 'wal'],
    ['6 sessions wait for locks, at most 5', 'lock_waits'],
    ['26 other sessions are at work, at most 25', 'active_sessions'],
    ['statements are slow: 11 times as slow as at best', 'slow_statements'],
    ['something new', 'other'],
  ])('a rest because of "%s" has the label %s', (throttledBy, reason) => {
    expect(metricsText({ ...at, throttledBy })).toContain(
      `token_encryption_throttled{reason="${reason}"} 1\n`,
    );
  });

  test('are served on the loopback interface until they are closed, and nothing else is', async () => {
    const metrics = await serveMetrics(0);
    const get = async (path: string): Promise<[number, string]> => {
      const answer = await fetch(`http://127.0.0.1:${metrics.port}${path}`);
      return [answer.status, await answer.text()];
    };
    expect(await get('/metrics')).toEqual([
      200,
      expect.stringMatching(
        /^# HELP token_encryption_up .*\n# TYPE token_encryption_up gauge\ntoken_encryption_up 1\n$/,
      ),
    ]);
    metrics.progress(at);
    expect((await get('/metrics?x=1'))[1]).toContain('token_encryption_lost_races_total 3\n');
    expect((await get('/'))[0]).toBe(404);
    await expect(serveMetrics(metrics.port)).rejects.toThrow(/EADDRINUSE/);
    await metrics.close();
    await expect(get('/metrics')).rejects.toThrow();
  });
});
