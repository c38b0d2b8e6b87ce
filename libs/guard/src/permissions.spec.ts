import { beforeAll, describe, expect, test } from '@jest/globals';
import { createGuard, type GuardOptions, type Spec } from './index.js';
import {
  CLAIMS,
  ISSUER,
  issuerOf,
  judge,
  type Key,
  newKey,
  now,
  requestOf,
  sign,
} from './testing/world.js';

let key: Key;
beforeAll(async () => {
  key = await newKey('ES256', 'k1');
});

/** Keycloak's answers to one permission each, and the forms that were sent. */
function worldOf(answers: Record<string, () => Response>, options: Partial<GuardOptions> = {}) {
  const issuer = issuerOf(key);
  const asked: { form: URLSearchParams; authorization: string }[] = [];
  const fetch = async (url: string, init: RequestInit): Promise<Response> => {
    if (!url.endsWith('/token')) return issuer.fetch(url);
    const form = init.body as URLSearchParams;
    const { authorization = '' } = init.headers as Record<string, string>;
    asked.push({ form, authorization });
    const answer = answers[form.get('permission') ?? ''];
    if (answer === undefined) throw new TypeError('fetch failed');
    return answer();
  };
  const guard = createGuard({ issuer: ISSUER, audience: 'orders', now, fetch, ...options });
  const ask = async (permissions: string | string[], claims = {}, more: Spec<null> = {}) => {
    const token = await sign({ key, claims: { ...CLAIMS, ...claims } });
    const spec = { permissions, ...(more as object) };
    const { status, code } = await judge(guard, requestOf(`Bearer ${token}`), spec);
    return { token, answer: `${status} ${code}` };
  };
  return { asked, ask };
}
const granted = () => Response.json({ result: true });
const denied = () => Response.json({ error: 'access_denied' }, { status: 403 });
const failed = (status: number, error: string) => () => Response.json({ error }, { status });

describe('permissions', () => {
  test('are asked of Keycloak with the token itself, one by one', async () => {
    const { asked, ask } = worldOf({ 'order#view': granted, order: granted });
    const { token, answer } = await ask(['order:view', 'order']);
    expect(answer).toBe('200 passed');
    expect(asked.map(({ form }) => Object.fromEntries(form))).toEqual(
      ['order#view', 'order'].map((permission) => ({
        grant_type: 'urn:ietf:params:oauth:grant-type:uma-ticket',
        audience: 'orders',
        response_mode: 'decision',
        permission,
      })),
    );
    expect(new Set(asked.map(({ authorization }) => authorization))).toEqual(
      new Set([`Bearer ${token}`]),
    );
  });

  test('one that is denied is enough, and nothing is remembered', async () => {
    const { asked, ask } = worldOf({ a: granted, b: denied });
    for (let i = 0; i < 2; i++)
      expect((await ask(['a', 'b'])).answer).toBe('403 permission_denied');
    expect(asked).toHaveLength(4);
  });

  test.each<[string, () => Response, string]>([
    ['a grant that is none', () => Response.json({ result: 'true' }), '403 permission_denied'],
    ['no JSON', () => new Response('yes'), '403 permission_denied'],
    ['a token that is over', failed(400, 'invalid_grant'), '401 token_revoked'],
    ['a token that is not taken', failed(401, 'invalid_token'), '401 token_revoked'],
    ['a resource that is unknown', failed(400, 'invalid_resource'), '502 issuer_rejected'],
    ['a scope that is unknown', failed(400, 'invalid_scope'), '502 issuer_rejected'],
    ['an error', failed(500, 'unknown_error'), '503 issuer_unavailable'],
    ['too much to do', failed(429, 'slow_down'), '503 issuer_unavailable'],
  ])('%s', async (_what, answer, outcome) => {
    expect((await worldOf({ a: answer }).ask('a')).answer).toBe(outcome);
  });

  test('that cannot be asked for are 503', async () => {
    expect((await worldOf({}).ask('a')).answer).toBe('503 issuer_unavailable');
  });

  test('of a token that has them are not asked for, unless it is for others too', async () => {
    const permissions = [{ rsid: '1', rsname: 'order', scopes: ['view'] }, { rsname: 'bare' }];
    const rpt = { aud: 'orders', authorization: { permissions } };
    const { asked, ask } = worldOf({ 'order#edit': denied, 'bare#view': denied });
    for (const one of ['order:view', 'order', '1:view', 'bare'])
      expect((await ask(one, rpt)).answer).toBe('200 passed');
    expect(asked).toEqual([]);
    for (const one of ['order:edit', 'bare:view'])
      expect((await ask(one, rpt)).answer).toBe('403 permission_denied');
    const shared = { ...rpt, aud: ['orders', 'billing'] };
    expect((await ask('order:view', shared)).answer).toBe('503 issuer_unavailable');
    expect(asked).toHaveLength(3);
  });

  test('with claims for policies are asked by the client, with the token as its subject', async () => {
    const { asked, ask } = worldOf({ a: granted }, { clientId: 'or:ders', clientSecret: 's e' });
    const claims = () => ({ 'http.uri': ['/x'] });
    const { token, answer } = await ask('a', {}, { claims });
    expect(answer).toBe('200 passed');
    const [{ form, authorization } = { form: new URLSearchParams(), authorization: '' }] = asked;
    expect(authorization).toBe(`Basic ${btoa('or%3Aders:s%20e')}`);
    expect(form.get('subject_token')).toBe(token);
    expect(JSON.parse(atob(form.get('claim_token') ?? ''))).toEqual({ 'http.uri': ['/x'] });
  });
});
