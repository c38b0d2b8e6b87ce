import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type HttpAnswer, HttpBrowser } from '@session-gateway/testkit';
import { problemCode, type Stack, startStack } from './stack.js';

interface Schema {
  $ref?: string;
  type?: string | string[];
  format?: string;
  enum?: string[];
  required?: string[];
  properties?: Record<string, Schema>;
  additionalProperties?: Schema;
  items?: Schema;
}
interface Described {
  description: string;
  content?: Record<string, { schema?: Schema }>;
  headers?: Record<string, unknown>;
}
interface Operation {
  parameters: { name: string; in: string; required: boolean }[];
  responses: Record<string, Described>;
}
interface Description {
  servers: { url: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: {
    schemas: Record<string, Schema & { examples?: unknown[] }>;
    securitySchemes: { session: { name: string } };
  };
}

const FILE = join(import.meta.dirname, '../../../docs/integrate/openapi.json');
const elsewhere = { origin: 'https://elsewhere.example', 'sec-fetch-site': 'cross-site' };
const form = (fields: string) => ({
  body: fields,
  headers: { 'content-type': 'application/x-www-form-urlencoded' },
});

/** A value's type in the words of JSON Schema. */
function typeName(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}

describe("the gateway's own routes", () => {
  let stack: Stack;
  let admin: HttpBrowser;
  let description: Description;
  const nobody = new HttpBrowser();
  const folder = mkdtempSync(join(tmpdir(), 'logo-'));
  const logo = join(folder, 'logo.svg');
  beforeAll(async () => {
    writeFileSync(logo, '<svg xmlns="http://www.w3.org/2000/svg"/>');
    stack = await startStack({ redis: false, env: { BRAND_LOGO_FILE: logo } });
    admin = await stack.login('admin');
    description = (await admin.get(`${stack.url}/openapi/json`)).json() as Description;
  });
  afterAll(async () => {
    await nobody.close();
    await stack.dispose();
    rmSync(folder, { recursive: true });
  });

  /** Where a value is other than its schema says; a property that the schema does not name is one such place. */
  const faultsOf = (schema: Schema, value: unknown, at: string): string[] => {
    if (schema.$ref !== undefined)
      return faultsOf(description.components.schemas[schema.$ref.split('/').at(-1)!]!, value, at);
    const type = typeName(value);
    if (schema.type !== undefined && ![schema.type].flat().includes(type))
      return [`${at} is ${type}`];
    if (schema.enum && !schema.enum.includes(String(value))) return [`${at} is ${String(value)}`];
    if (
      schema.format === 'date-time' &&
      type === 'string' &&
      new Date(String(value)).toJSON() !== value
    )
      return [`${at} is no time`];
    if (Array.isArray(value))
      return value.flatMap((item, i) => faultsOf(schema.items ?? {}, item, `${at}[${i}]`));
    if (type !== 'object') return [];
    const [properties, object] = [schema.properties ?? {}, value as Record<string, unknown>];
    return [
      ...(schema.required ?? [])
        .filter((name) => !(name in object))
        .map((name) => `${at}.${name} is missing`),
      ...Object.entries(object).flatMap(([name, inner]) => {
        const known = properties[name] ?? schema.additionalProperties;
        return known ? faultsOf(known, inner, `${at}.${name}`) : [`${at}.${name} is not described`];
      }),
    ];
  };
  const deviations = (operation: string, answer: HttpAnswer): string[] => {
    const [method = '', path = ''] = operation.split(' ');
    const described = description.paths[path]?.[method.toLowerCase()]?.responses[answer.status];
    if (!described) return [`${operation} answers ${answer.status}: ${answer.text}`];
    const type = String(answer.headers['content-type'] ?? '').split(';')[0]!;
    const about = `${operation} ${answer.status}`;
    const found = Object.keys(described.headers ?? {})
      .filter((name) => answer.headers[name.toLowerCase()] === undefined)
      .map((name) => `${about} has no ${name}`);
    if (answer.text === '')
      return [...found, ...(described.content ? [`${about} has no body`] : [])];
    const content = described.content?.[type] ?? described.content?.[type.replace(/\/.*/, '/*')];
    if (!content) return [...found, `${about} is ${type}`];
    if (answer.status >= 400 && !described.description.split(', ').includes(problemCode(answer)))
      found.push(`${about} is ${problemCode(answer)}`);
    return [
      ...found,
      ...(type.endsWith('json') ? faultsOf(content.schema ?? {}, answer.json(), about) : []),
    ];
  };

  test('are those of the file that comes with the gateway, apart from its address and its cookie', () => {
    const file = JSON.parse(readFileSync(FILE, 'utf8')) as Description;
    expect(description.servers).toEqual([{ url: stack.url }]);
    expect(description.components.securitySchemes.session.name).toBe('session');
    expect(file.components.securitySchemes.session.name).toBe('__Host-session');
    file.servers = description.servers;
    file.components.securitySchemes.session.name = 'session';
    expect(file).toEqual(description);
  });

  test('have examples of what they answer', () => {
    for (const [name, schema] of Object.entries(description.components.schemas)) {
      expect([name, schema.examples?.length]).toEqual([name, 1]);
      expect(faultsOf(schema, schema.examples![0], name)).toEqual([]);
    }
  });

  test("answer as the API's description says, in good cases and in bad ones", async () => {
    const { url, provider } = stack;
    const bob = await stack.login('bob');
    const idOf = async (browser: HttpBrowser) =>
      ((await browser.get(`${url}/auth/session`)).json() as { session: { id: string } }).session.id;
    const issuer = encodeURIComponent(provider!.issuer);
    const start = await nobody.navigate(`${url}/auth/login`);
    const callback = (await nobody.navigate(start.location!)).location!;
    const two = { cookies: false, headers: { cookie: 'session=a; session=b' } };
    const more = [
      await stack.login('bob'),
      await stack.login('bob'),
      await stack.login('carol'),
      await stack.login('carol'),
    ];
    const [mine, , theirs] = await Promise.all(more.map(idOf));
    const { sub } = (
      (await more[2]!.get(`${url}/auth/session`)).json() as { user: { sub: string } }
    ).user;
    const good: [string, Promise<HttpAnswer> | (() => Promise<HttpAnswer>)][] = [
      ['GET /', () => nobody.navigate(url)],
      ['GET /account', () => bob.navigate(`${url}/account`)],
      ['GET /account', () => nobody.navigate(`${url}/account`)],
      ['GET /auth/logo', () => nobody.get(`${url}/auth/logo`)],
      ['GET /account/admin', () => admin.navigate(`${url}/account/admin?q=carol`)],
      ['GET /account/admin', () => nobody.navigate(`${url}/account/admin`)],
      ['GET /account/admin/end', () => admin.navigate(`${url}/account/admin/end?sub=${sub}`)],
      [
        'POST /account/admin/end',
        () => admin.post(`${url}/account/admin/end`, new URLSearchParams({ sub, id: 'none' })),
      ],
      ['GET /account/page.js', () => nobody.get(`${url}/account/page.js`)],
      ['GET /auth/logged-out', () => nobody.navigate(`${url}/auth/logged-out`)],
      ['GET /auth/ended', () => nobody.navigate(`${url}/auth/ended`)],
      ['GET /auth/client.js', () => nobody.get(`${url}/auth/client.js`)],
      ['GET /auth/client.d.ts', () => nobody.get(`${url}/auth/client.d.ts`)],
      ['GET /auth/login', Promise.resolve(start)],
      ['GET /auth/callback', () => nobody.navigate(callback)],
      ['GET /auth/callback', () => nobody.navigate(callback)],
      ['GET /auth/session', () => bob.get(`${url}/auth/session`)],
      ['POST /auth/refresh', () => bob.post(`${url}/auth/refresh?force=true`)],
      ['GET /auth/verify', () => bob.get(`${url}/auth/verify`)],
      ['GET /auth/sessions', () => bob.get(`${url}/auth/sessions`)],
      ['GET /admin/sessions', () => admin.get(`${url}/admin/sessions`)],
      ['GET /admin/sessions', () => admin.get(`${url}/admin/sessions?limit=1`)],
      ['DELETE /auth/sessions/{id}', () => bob.delete(`${url}/auth/sessions/${mine}`)],
      [
        'POST /account/end',
        () => bob.post(`${url}/account/end`, new URLSearchParams({ id: mine! })),
      ],
      ['POST /account/end-others', () => bob.post(`${url}/account/end-others`)],
      ['DELETE /auth/sessions', () => bob.delete(`${url}/auth/sessions`)],
      ['DELETE /admin/sessions/{id}', () => admin.delete(`${url}/admin/sessions/${theirs}`)],
      ['DELETE /admin/sessions', () => admin.delete(`${url}/admin/sessions?sub=nobody`)],
      [
        'POST /auth/backchannel-logout',
        async () =>
          nobody.request(
            'POST',
            `${url}/auth/backchannel-logout`,
            form(`logout_token=${await provider!.logoutToken({ sub: 'x', sid: 'x' })}`),
          ),
      ],
      [
        'GET /auth/frontchannel-logout',
        () => nobody.get(`${url}/auth/frontchannel-logout?iss=${issuer}&sid=none`),
      ],
      [
        'POST /auth/logout',
        () =>
          bob.post(`${url}/auth/logout`, undefined, { headers: { accept: 'application/json' } }),
      ],
      [
        'POST /auth/logout',
        () => nobody.post(`${url}/auth/logout`, undefined, { headers: { accept: 'text/html' } }),
      ],
      ['GET /health/live', () => nobody.get(`${url}/health/live`)],
      ['GET /health/ready', () => nobody.get(`${url}/health/ready`)],
    ];
    const carol = more[3]!;
    const bad: typeof good = [
      ['GET /account/admin', () => carol.navigate(`${url}/account/admin`)],
      ['GET /account/admin', () => admin.navigate(`${url}/account/admin?sub=none`)],
      ['GET /account/admin/end', () => carol.navigate(`${url}/account/admin/end?sub=${sub}`)],
      ['GET /account/admin/end', () => admin.navigate(`${url}/account/admin/end`)],
      ['POST /account/admin/end', () => admin.post(`${url}/account/admin/end`)],
      [
        'POST /account/admin/end',
        () => carol.post(`${url}/account/admin/end`, new URLSearchParams({ sub })),
      ],
      ['GET /', () => nobody.get(url, two)],
      ['GET /auth/login', () => nobody.navigate(`${url}/auth/login`, two)],
      ['GET /auth/login', () => nobody.navigate(`${url}/auth/login?return_to=//x`)],
      ['GET /auth/login', () => nobody.navigate(`${url}/auth/login?prompt=a&prompt=b`)],
      ['GET /auth/login', () => nobody.get(`${url}/auth/login`)],
      [
        'GET /auth/callback',
        () => nobody.navigate(`${url}/auth/callback?error=access_denied`, { cookies: false }),
      ],
      [
        'GET /auth/callback',
        async () => {
          const again = (
            await nobody.navigate((await nobody.navigate(`${url}/auth/login`)).location!)
          ).location!;
          const cookie = `${nobody.cookies.header(url)}; session=a; session=b`;
          return nobody.navigate(again, { cookies: false, headers: { cookie } });
        },
      ],
      [
        'POST /account/end',
        () => carol.post(`${url}/account/end`, new URLSearchParams({ id: 'a\0' })),
      ],
      [
        'POST /account/end',
        () => carol.post(`${url}/account/end`, new URLSearchParams({ id: 'x'.repeat(5_000) })),
      ],
      [
        'POST /account/end-others',
        () => carol.post(`${url}/account/end-others`, undefined, { headers: elsewhere }),
      ],
      [
        'GET /auth/verify',
        () =>
          carol.get(`${url}/auth/verify`, {
            headers: { 'x-forwarded-method': 'POST', ...elsewhere },
          }),
      ],
      [
        'POST /auth/refresh',
        () => carol.post(`${url}/auth/refresh`, undefined, { headers: elsewhere }),
      ],
      ['DELETE /auth/sessions/{id}', () => carol.delete(`${url}/auth/sessions/none`)],
      ['DELETE /auth/sessions', () => carol.delete(`${url}/auth/sessions`, { headers: elsewhere })],
      ['GET /admin/sessions', () => carol.get(`${url}/admin/sessions`)],
      ['GET /admin/sessions', () => admin.get(`${url}/admin/sessions?limit=0`)],
      [
        'GET /admin/sessions',
        () =>
          nobody.request('GET', `${url}/admin/sessions`, {
            cookies: false,
            headers: { authorization: 'Bearer x' },
          }),
      ],
      ['DELETE /admin/sessions', () => admin.delete(`${url}/admin/sessions?sub=%00`)],
      ['DELETE /admin/sessions/{id}', () => admin.delete(`${url}/admin/sessions/none`)],
      [
        'POST /auth/logout',
        () => carol.post(`${url}/auth/logout`, undefined, { headers: elsewhere }),
      ],
      [
        'POST /auth/backchannel-logout',
        () => nobody.request('POST', `${url}/auth/backchannel-logout`, form('logout_token=%00')),
      ],
      [
        'POST /auth/backchannel-logout',
        () =>
          nobody.request(
            'POST',
            `${url}/auth/backchannel-logout`,
            form(`logout_token=${'x'.repeat(40_000)}`),
          ),
      ],
      [
        'GET /auth/frontchannel-logout',
        () => nobody.get(`${url}/auth/frontchannel-logout?iss=${issuer}&sid=%00`),
      ],
    ];
    for (const path of [
      '/account',
      '/auth/session',
      '/auth/sessions',
      '/auth/verify',
      '/admin/sessions',
    ])
      bad.push(
        [`GET ${path}`, () => nobody.get(url + path, { cookies: false })],
        [`GET ${path}`, () => nobody.get(url + path, two)],
      );
    const found: string[] = [];
    for (const [operation, ask] of good) {
      const answer = await (typeof ask === 'function' ? ask() : ask);
      if (answer.status >= 400) found.push(`${operation} answers ${answer.status}: ${answer.text}`);
      found.push(...deviations(operation, answer));
    }
    for (const [operation, ask] of bad) {
      const answer = await (typeof ask === 'function' ? ask() : ask);
      if (answer.status < 400) found.push(`${operation} answers ${answer.status}`);
      found.push(...deviations(operation, answer));
    }
    expect(found).toEqual([]);
    const described = Object.entries(description.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(described.filter((operation) => !good.some(([asked]) => asked === operation))).toEqual(
      [],
    );
    // The comparison tells an answer of another operation.
    expect(deviations('GET /auth/session', await admin.get(`${url}/auth/sessions`))).toContain(
      'GET /auth/session 200.session is missing',
    );
  });

  test('refuse a request that leaves out a required parameter, and no other', async () => {
    for (const [method, path, whole] of [
      ['GET', '/auth/frontchannel-logout', { iss: stack.provider!.issuer, sid: 'none' }],
      ['DELETE', '/admin/sessions', { sub: 'nobody' }],
      ['GET', '/admin/sessions', {}],
      ['GET', '/auth/session', {}],
    ] as const) {
      const { parameters } = description.paths[path]![method.toLowerCase()]!;
      const required = parameters.filter((parameter) => parameter.required).map(({ name }) => name);
      expect([path, required]).toEqual([path, Object.keys(whole)]);
      const ask = (query: URLSearchParams) =>
        method === 'GET'
          ? admin.get(`${stack.url}${path}?${query}`)
          : admin.delete(`${stack.url}${path}?${query}`);
      expect((await ask(new URLSearchParams(whole))).status).toBeLessThan(300);
      for (const name of required) {
        const query = new URLSearchParams(whole);
        query.delete(name);
        expect(problemCode(await ask(query))).toBe('request_invalid');
      }
    }
  });

  test('say which methods they take to a request with another one', async () => {
    // A verdict is asked for with the method of the request that it is about.
    for (const [path, operations] of Object.entries(description.paths).filter(
      ([path]) => path !== '/auth/verify',
    )) {
      const taken = Object.keys(operations)
        .map((method) => method.toUpperCase())
        .flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method]))
        .sort();
      for (const method of ['GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH', 'DELETE'].filter(
        (each) => !taken.includes(each),
      )) {
        const answer = await fetch(stack.url + path.replaceAll(/\{\w+\}/g, 'x'), { method });
        expect([
          method,
          path,
          answer.status,
          answer.headers.get('allow')?.split(', ').sort(),
          answer.headers.get('cache-control'),
        ]).toEqual([method, path, 405, taken, 'no-store']);
        if (method !== 'HEAD')
          expect(await answer.json()).toMatchObject({ code: 'method_not_allowed' });
      }
    }
    expect((await fetch(`${stack.url}/auth/nothing`, { method: 'POST' })).status).toBe(404);
  });
});
