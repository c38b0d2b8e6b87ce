import { connect } from 'node:net';
import { describe, expect, test } from '@jest/globals';
import { createLog, reasonOf } from './logging.js';
import { inRequest } from './requestContext.js';

describe('a line of the log', () => {
  const written = (fields: object): Record<string, unknown> => {
    const lines: string[] = [];
    createLog('debug', { write: (line) => void lines.push(line) }).info(fields, 'done');
    return JSON.parse(lines[0] ?? '{}') as Record<string, unknown>;
  };

  test('holds what is on the list and nothing else, however it got there', () => {
    expect(
      written({
        event: 'login',
        sub: 's',
        access_token: 'secret',
        error: Object.assign(new Error('x'), { body: 'secret' }),
        problems: ['a', { nested: 'secret' }],
        kids: ['k1'],
        ms: 3,
      }),
    ).toEqual({
      level: 30,
      time: expect.any(String),
      msg: 'done',
      event: 'login',
      sub: 's',
      problems: ['a', null],
      kids: ['k1'],
      ms: 3,
    });
  });

  test('names the request and the trace that it belongs to', () => {
    inRequest({ request: 'r1', trace: 't1' }, () =>
      expect(written({ event: 'x' })).toMatchObject({ request: 'r1', trace: 't1' }),
    );
    expect(written({ event: 'x' })).not.toHaveProperty('request');
  });

  test('tells nothing that an earlier line of the same request told', () => {
    inRequest({ request: 'r1', traceparent: '00-a-b-01' }, () => {
      written({ event: 'refresh', outcome: 'failed', session: 's1' });
      expect(written({ event: 'answered' })).toEqual({
        level: 30,
        time: expect.any(String),
        msg: 'done',
        event: 'answered',
        request: 'r1',
      });
    });
  });
});

test('the reason of a failure is never empty, not even where none of several addresses answers', async () => {
  const lookup = (
    _: string,
    __: object,
    found: (error: null, addresses: { address: string; family: number }[]) => void,
  ): void =>
    found(null, [
      { address: '127.0.0.1', family: 4 },
      { address: '::1', family: 6 },
    ]);
  const error = await new Promise((resolve) =>
    connect({ host: 'two.example', port: 1, lookup, autoSelectFamily: true }).on('error', resolve),
  );
  expect(error).toMatchObject({ message: '' });
  expect(reasonOf(error)).toBe('ECONNREFUSED');
  expect([reasonOf(new Error('because')), reasonOf(new RangeError()), reasonOf('text')]).toEqual([
    'because',
    'RangeError',
    'text',
  ]);
});
