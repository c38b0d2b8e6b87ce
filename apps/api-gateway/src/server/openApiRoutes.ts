import { type AnyElysia, Elysia } from 'elysia';
import { html, json } from '../pages/answers.js';
import type { Gateway } from '../gateway.js';
import { describeApi, OPERATIONS } from './openapi.js';
import { escapeHtml, page } from '../pages/page.js';
import { en } from '../pages/words/en.js';

/** The API's description, for programs and for people. Never in production. */
export function openApiRoutes(
  { config, cookies }: Pick<Gateway, 'config' | 'cookies'>,
  routes: readonly string[],
): AnyElysia {
  const description = describeApi(routes, {
    serverUrl: config.publicUrl.origin,
    cookieName: cookies.sessionName,
  });
  const rows = routes
    .map(
      (route) =>
        `<div><dt>${escapeHtml(route)}</dt><dd>${escapeHtml(OPERATIONS[route]?.summary ?? '')}</dd></div>`,
    )
    .join('\n');
  const list = page(
    'The API',
    `<h1>The API</h1>\n<p>In full: <a href="/openapi/json">OpenAPI 3.1</a></p>\n<dl>\n${rows}\n</dl>`,
    null,
    { words: en, brand: config.brand, origin: config.publicUrl.origin },
  );
  return new Elysia()
    .get('/openapi', () => html({ config }, list))
    .get('/openapi/json', () => json(description));
}
