import { describe, expect, test } from '@jest/globals';
import { parseOptions, shapeFlags, USAGE, UsageError } from './options.js';

const refusal = (...args: string[]): string => {
  try {
    parseOptions(args);
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  return 'accepted';
};

describe('the command line', () => {
  test("asks for a dry run of the gateway's own table when it says nothing", () => {
    expect(parseOptions([])).toEqual({
      mode: 'dry-run',
      to: null,
      table: 'user_sessions',
      idColumn: 'id',
      columns: ['access_token', 'refresh_token', 'id_token'],
      chunkSize: 100,
      maxRowsPerSecond: null,
      duty: 0.7,
      maxWalMbPerSecond: null,
      maxReplicationLagSeconds: 10,
      maxSlotWalMb: 16_000,
      maxActiveSessions: 25,
      maxLockWaits: 5,
      resume: null,
      restart: false,
      json: false,
      workers: 1,
      cas: 'xmin',
      maxUnreadable: 0.2,
      join: null,
      finalize: false,
      sample: null,
      report: null,
      vacuum: false,
      metricsPort: null,
    });
  });

  test.each<[string[], object]>([
    [['--execute', '--json'], { mode: 'execute', json: true }],
    [['--verify', '--to', 'k26a'], { mode: 'verify', to: 'k26a' }],
    [['--dry-run', '--to=plain'], { mode: 'dry-run', to: 'plain' }],
    [['--execute', '--to', 'plain', '--i-understand-tokens-will-be-plaintext'], { to: 'plain' }],
    [
      ['--chunk-size', '10000', '--max-rows-per-second=1', '--duty', '.5'],
      { chunkSize: 10_000, maxRowsPerSecond: 1, duty: 0.5 },
    ],
    [['--duty', '1.0'], { duty: 1 }],
    [
      [
        '--max-wal-mb-per-second',
        '20',
        '--max-replication-lag',
        '0',
        '--max-active-sessions',
        '3',
        '--max-lock-waits',
        '1',
      ],
      { maxWalMbPerSecond: 20, maxReplicationLagSeconds: 0, maxActiveSessions: 3, maxLockWaits: 1 },
    ],
    [['--execute', '--resume', '2026-01-01-abc'], { resume: '2026-01-01-abc' }],
    [['--execute', '--restart'], { restart: true }],
    [
      ['--execute', '--join', 'r1', '--workers', '4', '--cas', 'digest', '--max-unreadable', '1'],
      { join: 'r1', workers: 4, cas: 'digest', maxUnreadable: 1 },
    ],
    [['--finalize'], { mode: 'verify', finalize: true }],
    [['--execute', '--finalize'], { mode: 'execute', finalize: true }],
    [
      ['--table', 'old."x', '--id-column', 'Id', '--columns', 'accessToken, refreshToken'],
      { table: 'old."x', idColumn: 'Id', columns: ['accessToken', 'refreshToken'] },
    ],
    [['--'], { mode: 'dry-run' }],
  ])('%j is understood', (args, options) => {
    expect(parseOptions(args)).toMatchObject(options);
  });

  test('help is for whoever asks, and names every flag', () => {
    expect(parseOptions(['--help', '--execute'])).toBeNull();
    for (const flag of [
      '--dry-run',
      '--execute',
      '--verify',
      '--to',
      '--chunk-size',
      '--max-rows-per-second',
      '--duty',
      '--max-wal-mb-per-second',
      '--max-replication-lag',
      '--max-active-sessions',
      '--max-lock-waits',
      '--resume',
      '--restart',
      '--join',
      '--workers',
      '--cas',
      '--max-unreadable',
      '--finalize',
      '--sample',
      '--report',
      '--vacuum',
      '--metrics-port',
      '--table',
      '--id-column',
      '--columns',
      '--json',
    ])
      expect(USAGE).toContain(flag);
  });

  test.each([
    ['--dry-run --execute', '--dry-run and --execute exclude each other'],
    ['--dry-run --execute --verify', '--dry-run and --execute and --verify exclude each other'],
    ['--execute --verify', '--execute and --verify exclude each other'],
    ['--execute --resume x --restart', '--resume and --restart exclude each other'],
    ['--resume x', '--resume belongs to --execute'],
    ['--verify --restart', '--restart belongs to --execute'],
    ['--join x', '--join belongs to --execute'],
    ['--execute --join x --resume x', '--resume and --join exclude each other'],
    ['--dry-run --finalize', '--dry-run and --finalize exclude each other'],
    ['--verify --finalize --to plain', '--verify needs a key: it cannot be used with --to plain'],
    ['--finalize --to plain', '--verify needs a key: it cannot be used with --to plain'],
    ['--execute --cas row', '--cas must be xmin or digest'],
    ['--workers 0', '--workers must be a whole number from 1 to 16'],
    ['--sample 5', '--sample belongs to --verify'],
    ['--verify --sample 5 --finalize', '--sample belongs to --verify'],
    ['--verify --vacuum', '--vacuum belongs to --execute'],
    ['--json --json', '--json is given twice'],
    ['--duty 1 --duty=0.5', '--duty is given twice'],
    [
      '--to plain --execute',
      '--to plain writes tokens in the clear: add --i-understand-tokens-will-be-plaintext',
    ],
    ['--to plain --verify', '--verify needs a key: it cannot be used with --to plain'],
    [
      '--execute --i-understand-tokens-will-be-plaintext',
      '--i-understand-tokens-will-be-plaintext belongs to --to plain',
    ],
  ])('%s contradicts itself', (line, message) => {
    expect(refusal(...line.split(' '))).toBe(message);
  });

  test.each([
    ['--no-such', 'unknown flag --no-such'],
    ['--exec', 'unknown flag --exec'],
    ['--no-json', 'unknown flag --no-json'],
    ['-x', 'unknown flag -x'],
    ['--Json', 'unknown flag --Json'],
    ['--worker 2', 'unknown flag --worker'],
    ['--finalise', 'unknown flag --finalise'],
    ['--batch-size=5', 'unknown flag --batch-size'],
    ['--__proto__ 1', 'unknown flag --__proto__'],
    ['now', 'unexpected word now'],
    ['--execute please', 'unexpected word please'],
    ['-- --execute', 'unexpected word --execute'],
    ['--json=true', '--json takes no value'],
    ['--execute=false', '--execute takes no value'],
    ['--to', '--to needs a value'],
    ['--chunk-size --json', '--chunk-size needs a value'],
    ['--resume', '--resume needs a value'],
  ])('%s is named and refused', (line, message) => {
    expect(refusal(...line.split(' '))).toBe(message);
  });

  test.each([
    '',
    '0',
    '-1',
    '1.5',
    '10001',
    '1e3',
    '0x10',
    ' 5',
    '١',
    'ten',
    '99999999999999999999',
  ])('--chunk-size=%s is no chunk size', (value) => {
    expect(refusal(`--chunk-size=${value}`)).toBe(
      '--chunk-size must be a whole number from 1 to 10000',
    );
  });

  test.each(['', '0', '-5', '1000001', 'NaN', 'Infinity'])(
    '--max-rows-per-second=%s is no rate',
    (value) => {
      expect(refusal(`--max-rows-per-second=${value}`)).toBe(
        '--max-rows-per-second must be a whole number from 1 to 1000000',
      );
    },
  );

  test.each(['', '0', '0.0', '1.1', '2', '-0.5', '50%', '1e-1', '.'])(
    '--duty=%s is no share',
    (value) => {
      expect(refusal(`--duty=${value}`)).toBe('--duty must be a number above 0 and up to 1');
    },
  );

  test.each(['', 'K1', 'k_1', 'seventeencharacte', 'k1 ', 'PLAIN'])(
    '--to=%s is no target',
    (value) => {
      expect(refusal(`--to=${value}`)).toBe(
        '--to must be a key id (1 to 16 characters a-z, 0-9) or plain',
      );
    },
  );

  test('names that cannot be any are refused', () => {
    expect(refusal('--table=')).toBe('--table must not be empty');
    for (const table of ['a.', '.a', 'a.b.c', '.'])
      expect(refusal('--table', table)).toBe("--table must be a table's name, or schema.name");
    expect(refusal('--id-column= ')).toBe('--id-column must not be empty');
    expect(refusal('--execute', '--resume=')).toBe('--resume must not be empty');
    expect(refusal('--table', 'x'.repeat(129))).toContain('--table is too long');
    for (const columns of ['', 'a,', 'a,,b', 'a,a', 'a, a'])
      expect(refusal('--columns', columns)).toBe(
        '--columns must be column names separated by commas, each once',
      );
  });

  test('what is suggested next is for the same table and target', () => {
    const flags = (...args: string[]): string => shapeFlags(parseOptions(args)!);
    expect(flags('--execute', '--json')).toBe('');
    expect(
      flags('--to', 'k1', '--table', 'old.UserSession', '--id-column', 'Id', '--columns', 'a,b'),
    ).toBe(' --to k1 --table old.UserSession --id-column Id --columns a,b');
    expect(flags('--table', "it's one")).toBe(` --table 'it'\\''s one'`);
  });
});
