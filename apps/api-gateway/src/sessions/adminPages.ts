import {
  endSessions,
  findPeople,
  type ListedSession,
  type ListPosition,
  type Person,
  personOfSubject,
  positionOf,
} from '@session-gateway/keycloak-auth';
import { type AnyElysia, Elysia } from 'elysia';
import type { Gateway } from '../gateway.js';
import {
  ADMIN_PATH,
  addressOf,
  adminPage,
  type AdminView,
  confirmEndPage,
  type PersonsSessions,
} from '../pages/adminPage.js';
import { empty, html } from '../pages/answers.js';
import { lookFor } from '../pages/look.js';
import { type Current, onwardPage } from '../pages/page.js';
import type { AdminNotice } from '../pages/words/words.js';
import { Problem } from '../request/errors.js';
import { headersOf, readForm, single } from '../request/form.js';
import { isNavigation } from '../request/navigation.js';
import { mayHoldCookieBack } from '../request/strictNavigation.js';
import { currentOf, currentOrNull } from './current.js';
import { isAdmin, requireAdmin } from './requireAdmin.js';

const MAX_FORM_BYTES = 4_096;
const MAX_ASKED_CHARACTERS = 255;
const PEOPLE_LIMIT = 20;
const SESSIONS_PER_PAGE = 50;
const EVENTS_LIMIT = 20;
/** A list, since the name comes from the address: every object has a `__proto__`. */
const NOTICES: readonly AdminNotice[] = ['ended', 'gone', 'all'];

/** Pages on which an administrator ends the sessions of others, by the rules of `/admin/sessions`. */
export function adminPages(gateway: Gateway): AnyElysia {
  return new Elysia()
    .get(ADMIN_PATH, async ({ request }) => {
      const current = await adminOrLogin(gateway, request);
      if (current instanceof Response) return current;
      const view = await viewOf(gateway, new URL(request.url).searchParams);
      return html(gateway, adminPage(current, view, lookFor(gateway, headersOf(request))));
    })
    .get(`${ADMIN_PATH}/end`, async ({ request }) => {
      const current = await adminOrLogin(gateway, request);
      if (current instanceof Response) return current;
      const query = new URL(request.url).searchParams;
      const person = await personOf(gateway, single(query, 'sub'));
      const id = single(query, 'id');
      const session =
        id === null ? null : await gateway.store.listed({ id, subject: person.subject });
      if (id !== null && session === null) return backTo(person.subject, 'gone');
      const look = lookFor(gateway, headersOf(request));
      return html(gateway, confirmEndPage(current, { person, session }, look));
    })
    .post(
      `${ADMIN_PATH}/end`,
      async ({ request }) => {
        const admin = await requireAdmin(gateway, request, 'session');
        const form = await readForm(request, MAX_FORM_BYTES);
        const [subject, id] = [form?.get('sub'), form?.get('id')];
        if (!subject) throw new Problem('request_invalid');
        const selection = id ? { id, subject } : { subject };
        const { length } = await endSessions(gateway, selection, 'ended_by_admin', admin);
        if (length === 0) return backTo(subject, 'gone');
        return id ? backTo(subject, 'ended') : backTo(subject, 'all', length);
      },
      { parse: 'none' },
    );
}

const backTo = (sub: string, done: AdminNotice, count = 0): Response =>
  empty(303, [
    ['Location', addressOf({ sub, done, ...(count === 0 ? {} : { count: String(count) }) })],
  ]);

/** The administrator, or the way to the login where nobody is logged in. @throws Problem `forbidden` */
async function adminOrLogin(gateway: Gateway, request: Request): Promise<Current | Response> {
  const header = headersOf(request);
  const { pathname, search } = new URL(request.url);
  const current = isNavigation(request.method, header)
    ? await currentOrNull(gateway, request)
    : await currentOf(gateway, request);
  if (current === null && mayHoldCookieBack(gateway, header))
    return html(gateway, onwardPage(pathname + search, lookFor(gateway, header)));
  if (current === null) {
    const back = encodeURIComponent(pathname + search);
    return empty(302, [['Location', `/auth/login?return_to=${back}`]]);
  }
  if (!isAdmin(gateway, current.session.roles)) throw new Problem('forbidden');
  return current;
}

async function viewOf(gateway: Gateway, query: URLSearchParams): Promise<AdminView> {
  const done = single(query, 'done');
  const kind = NOTICES.find((name) => name === done);
  const count = /^\d{1,9}$/.exec(single(query, 'count') ?? '')?.[0] ?? '';
  const notice = kind === undefined ? null : { kind, count };
  const sub = single(query, 'sub');
  const cursor = single(query, 'cursor');
  const after = cursor === null ? undefined : positionOf(cursor);
  if (after === null) throw new Problem('request_invalid');
  if (sub !== null) {
    const found = await sessionsOf(gateway, await personOf(gateway, sub), after);
    return { asked: '', people: [], found, notice };
  }
  const asked = (single(query, 'q') ?? '').trim().slice(0, MAX_ASKED_CHARACTERS);
  const people = await findPeople(gateway.db.sql, asked, PEOPLE_LIMIT);
  const [person, ...others] = people;
  const found =
    person === undefined || others.length > 0 ? null : await sessionsOf(gateway, person);
  return { asked, people, found, notice };
}

/** @throws Problem `request_invalid`, `not_found` */
async function personOf({ db }: Pick<Gateway, 'db'>, subject: string | null): Promise<Person> {
  if (!subject) throw new Problem('request_invalid');
  const person = await personOfSubject(db.sql, subject);
  if (person === null) throw new Problem('not_found');
  return person;
}

async function sessionsOf(
  { store, events }: Gateway,
  person: Person,
  after?: ListPosition,
): Promise<PersonsSessions> {
  const [sessions, recent] = await Promise.all([
    store.list({ subject: person.subject, limit: SESSIONS_PER_PAGE + 1, after }),
    events.recentOf(person.subject, EVENTS_LIMIT),
  ]);
  const shown: readonly ListedSession[] = sessions.slice(0, SESSIONS_PER_PAGE);
  const cursor = sessions.length > shown.length ? (shown.at(-1)?.cursor ?? null) : null;
  return { person, sessions: shown, cursor, events: recent };
}
