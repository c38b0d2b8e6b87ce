import type { Gateway } from '../gateway.js';
import type { Current } from '../pages/page.js';
import { Problem } from '../request/errors.js';
import { headersOf } from '../request/form.js';
import { requireSession } from './authenticate.js';
import { sessionEnd } from './sessionEnd.js';

/** Who opens a page. @throws Problem as `authenticate` does */
export async function currentOf(gateway: Gateway, request: Request): Promise<Current> {
  const { store } = gateway;
  // A page that a person opens is use of the session, at once: it says when the session ends.
  const session = await store.touchNow(
    await requireSession(gateway, 'GET', headersOf(request), { extend: false }),
  );
  return {
    session,
    profile: await store.profile(session),
    end: sessionEnd(gateway, session),
  };
}

/** The same; null where a login would help. */
export const currentOrNull = (gateway: Gateway, request: Request): Promise<Current | null> =>
  currentOf(gateway, request).catch((error: unknown) => {
    if (error instanceof Problem && error.clearsCookie) return null;
    throw error;
  });
