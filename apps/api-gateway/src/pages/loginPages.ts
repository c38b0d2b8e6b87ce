import { document, escapeHtml } from './page.js';
import type { Look } from './look.js';

/** In place of a login in a frame, where the provider's page would stay empty. `address`: of that login. */
export function framedLoginPage(address: string, look: Look): string {
  const { title, todo, way } = look.words.framedLogin;
  return document(
    title,
    `<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(todo)}</p>
<p><a class="button" href="${escapeHtml(address)}" target="_blank">${escapeHtml(way)}</a></p>`,
    { look },
  );
}
