import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { createApp, routesOf } from './app.js';
import { readConfig } from '../settings/config.js';
import type { Gateway } from '../gateway.js';
import { describeApi, OPERATIONS } from './openapi.js';
import { GatewayCookies } from '../request/sessionCookie.js';

/** Enough of a gateway to lay out its routes; none of them is called. */
function app(env: Record<string, string> = {}): ReturnType<typeof createApp> {
  const config = { ...readConfig({}), production: env['NODE_ENV'] === 'production' };
  return createApp({
    config,
    cookies: new GatewayCookies({ https: false, sameSite: 'lax' }),
    client: { issuer: 'https://idp.example/realms/x' },
  } satisfies Partial<Record<keyof Gateway, unknown>> as unknown as Gateway);
}

describe('the description of the API', () => {
  test('describes each route that there is, and none that there is not', () => {
    const routes = routesOf(app({ NODE_ENV: 'production' }));
    expect([...routes].sort()).toEqual(Object.keys(OPERATIONS).sort());
    expect(routesOf(app()).filter((route) => !routes.includes(route))).toEqual([
      'GET /openapi',
      'GET /openapi/json',
    ]);
  });

  test('is docs/integrate/openapi.json (npx nx run api-gateway:openapi writes it)', () => {
    const file = new URL('../../../../docs/integrate/openapi.json', import.meta.url);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(
      describeApi(Object.keys(OPERATIONS), {
        serverUrl: 'https://app.example.com',
        cookieName: '__Host-session',
      }),
    );
  });

  test('is OpenAPI whose references all lead somewhere', () => {
    const description = describeApi(Object.keys(OPERATIONS), {
      serverUrl: 'https://app.example',
      cookieName: '__Host-session',
    }) as {
      openapi: string;
      paths: Record<
        string,
        Record<
          string,
          {
            responses: object;
            parameters: { name: string; in: string; required: boolean; schema: object }[];
          }
        >
      >;
      components: { schemas: object };
    };
    expect(description.openapi).toBe('3.1.0');
    expect(Object.keys(description.paths)).toContain('/auth/sessions/{id}');
    expect(description.paths['/auth/sessions/{id}']?.['delete']?.parameters).toEqual([
      expect.objectContaining({ name: 'id', in: 'path' }),
    ]);
    expect(Object.keys(description.paths['/auth/session']?.['get']?.responses ?? {})).toEqual([
      '200',
      '400',
      '401',
      '503',
      'default',
    ]);
    expect(
      description.paths['/auth/frontchannel-logout']?.['get']?.parameters.map(
        ({ name, required }) => [name, required],
      ),
    ).toEqual([
      ['iss', true],
      ['sid', true],
    ]);
    expect(
      description.paths['/admin/sessions']?.['get']?.parameters.map(({ name, required }) => [
        name,
        required,
      ]),
    ).toEqual([
      ['sub', false],
      ['limit', false],
      ['cursor', false],
    ]);
    const references = [
      ...JSON.stringify(description).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g),
    ].map(([, name]) => name ?? '');
    expect(references.length).toBeGreaterThan(20);
    for (const name of references) expect(description.components.schemas).toHaveProperty(name);
  });
});
