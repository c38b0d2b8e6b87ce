import type {
  ListedSession,
  Person,
  RecordedEvent,
  SessionEventKind,
} from '@session-gateway/keycloak-auth';
import { deviceOf } from './device.js';
import type { Look } from './look.js';
import { type Current, escapeHtml, page, time, withTimes } from './page.js';
import { filled } from './words/languages.js';
import type { AdminNotice, Words } from './words/words.js';

export const ADMIN_PATH = '/account/admin';

/** What the administrator's page shows of somebody. */
export interface PersonsSessions {
  readonly person: Person;
  readonly sessions: readonly ListedSession[];
  /** Of the next page; null: this is the last one. */
  readonly cursor: string | null;
  readonly events: readonly RecordedEvent[];
}

export interface AdminView {
  /** What was looked for; empty: nothing yet. */
  readonly asked: string;
  /** Those whom it may mean. */
  readonly people: readonly Person[];
  /** The one who was meant. */
  readonly found: PersonsSessions | null;
  readonly notice: { readonly kind: AdminNotice; readonly count: string } | null;
}

/** `GET /account/admin`: find a person, see their sessions and what happened to them, end one or all. It works without script. */
export function adminPage(current: Current, view: AdminView, look: Look): string {
  const { admin } = look.words;
  const { asked, people, found, notice } = view;
  const said = notice === null ? '' : filled(admin.notices[notice.kind], { count: notice.count });
  return page(
    admin.title,
    `<h1>${escapeHtml(admin.title)}</h1>
${said === '' ? '' : `<p class="notice" role="status">${escapeHtml(said)}</p>`}
${searchForm(asked, look.words)}
${found === null ? peopleList(asked, people, look.words) : personsSessions(found, look.words)}
<p class="back"><a href="/account">${escapeHtml(look.words.account.title)}</a></p>`,
    current,
    look,
  );
}

/** Asks whether it is meant: to end one session, or all that a person has. `session`: null for all. */
export function confirmEndPage(
  current: Current,
  { person, session }: { person: Person; session: ListedSession | null },
  look: Look,
): string {
  const { admin } = look.words;
  const question = filled(session === null ? admin.confirmAll : admin.confirmOne, {
    name: shownName(person),
  });
  return page(
    admin.title,
    `<h1>${escapeHtml(question)}</h1>
${session === null ? facts(person, look.words) : `<p>${sessionText(session, look.words)}</p>`}
<div class="actions"><form method="post" action="${ADMIN_PATH}/end">${hidden('sub', person.subject)}${session === null ? '' : hidden('id', session.id)}<button class="button danger" type="submit">${escapeHtml(admin.confirm)}</button></form>
<a class="button quiet" href="${escapeHtml(addressOf({ sub: person.subject }))}">${escapeHtml(admin.cancel)}</a></div>`,
    current,
    look,
  );
}

/** The page's address with these parameters. */
export const addressOf = (query: Readonly<Record<string, string>>, path = ''): string =>
  `${ADMIN_PATH}${path}?${new URLSearchParams(query).toString()}`;

/** What is written from left to right leaves the order of the words around it alone, also in Arabic. */
const isolated = (text: string): string => `<bdi>${escapeHtml(text)}</bdi>`;

const hidden = (name: string, value: string): string =>
  `<input type="hidden" name="${name}" value="${escapeHtml(value)}">`;

const shownName = ({ name, preferredUsername, email, subject }: Person): string =>
  name ?? preferredUsername ?? email ?? subject;

function searchForm(asked: string, { admin }: Words): string {
  return `<form class="search" method="get" action="${ADMIN_PATH}" role="search">
<label for="q">${escapeHtml(admin.find)}</label>
<input id="q" name="q" type="search" maxlength="255" autocomplete="off" spellcheck="false" dir="auto" aria-describedby="hint" value="${escapeHtml(asked)}" required>
<button class="button" type="submit">${escapeHtml(admin.search)}</button>
<p id="hint" class="small">${escapeHtml(admin.hint)}</p>
</form>`;
}

function peopleList(asked: string, people: readonly Person[], { admin }: Words): string {
  if (asked === '') return '';
  if (people.length === 0) return `<p role="status">${escapeHtml(admin.nobody)}</p>`;
  const items = people.map(
    (person) =>
      `<li><div><h3><a href="${escapeHtml(addressOf({ sub: person.subject }))}">${escapeHtml(shownName(person))}</a></h3>
<p>${escapeHtml([person.preferredUsername, person.email, person.subject].filter(Boolean).join(' · '))}</p></div></li>`,
  );
  return `<h2>${escapeHtml(admin.several)}</h2>
<ul class="sessions">
${items.join('\n')}
</ul>`;
}

function personsSessions(
  { person, sessions, cursor, events }: PersonsSessions,
  words: Words,
): string {
  const { admin } = words;
  const { subject: sub } = person;
  const endAll =
    sessions.length === 0
      ? ''
      : `<a class="button danger" href="${escapeHtml(addressOf({ sub }, '/end'))}">${escapeHtml(admin.endAll)}</a>`;
  const next =
    cursor === null
      ? ''
      : `<a class="button quiet" rel="next" href="${escapeHtml(addressOf({ sub, cursor }))}">${escapeHtml(admin.next)}</a>`;
  const list =
    sessions.length === 0
      ? `<p>${escapeHtml(admin.noSessions)}</p>`
      : `<ul class="sessions">
${sessions.map((session) => sessionItem(session, person, words)).join('\n')}
</ul>`;
  return `<h2>${escapeHtml(shownName(person))}</h2>
${facts(person, words)}
<h2>${escapeHtml(admin.sessions)}</h2>
${list}
<div class="actions">${endAll}${next}</div>
<h2>${escapeHtml(admin.events)}</h2>
${eventList(events, words)}`;
}

function facts({ preferredUsername, email, subject }: Person, { person }: Words): string {
  const rows = [
    [person.userName, preferredUsername ?? '–'],
    [person.email, email ?? '–'],
    ['sub', subject],
  ] as const;
  return `<dl>
${rows.map(([term, value]) => `<div><dt>${escapeHtml(term)}</dt><dd>${escapeHtml(value)}</dd></div>`).join('\n')}
</dl>`;
}

function sessionText(
  { userAgent, ipAddress, lastAccessedAt, createdAt }: ListedSession,
  words: Words,
): string {
  const { account } = words;
  const used = withTimes(account.lastUsed, { time: lastAccessedAt });
  const since = withTimes(account.since, { time: createdAt });
  const where = [deviceOf(userAgent, words), ipAddress ?? words.unknownAddress];
  return `${where.map(isolated).join(' · ')} · ${used} · ${since}`;
}

function sessionItem(session: ListedSession, { subject: sub }: Person, words: Words): string {
  const device = deviceOf(session.userAgent, words);
  const address = session.ipAddress ?? words.unknownAddress;
  const label = filled(words.account.endOne, { device, address });
  const to = addressOf({ sub, id: session.id }, '/end');
  return `<li><div><p>${sessionText(session, words)}</p></div>
<a class="button quiet" href="${escapeHtml(to)}" aria-label="${escapeHtml(label)}">${escapeHtml(words.account.end)}</a></li>`;
}

function eventList(events: readonly RecordedEvent[], words: Words): string {
  const { admin } = words;
  if (events.length === 0) return `<p>${escapeHtml(admin.noEvents)}</p>`;
  const items = events.map(({ at, event, reason, actor, ipAddress }) => {
    const details = [time(at), escapeHtml(admin.event[event])];
    if (reason !== null) details.push(whyText(event, reason, words));
    details.push(actorText(actor, words));
    if (ipAddress !== null) details.push(isolated(ipAddress));
    return `<li><div><p>${details.join(' · ')}</p></div></li>`;
  });
  return `<ul class="sessions">
${items.join('\n')}
</ul>`;
}

/** In words, with the code of the audit trail beside them; a failure that only its code names, as that. */
function whyText(event: SessionEventKind, reason: string, { admin }: Pick<Words, 'admin'>): string {
  const code = escapeHtml(reason);
  const known: Partial<Record<SessionEventKind, Readonly<Record<string, string>>>> = {
    session_ended: admin.endReason,
    provider_logout: admin.logoutOutcome,
  };
  const words = wordOf(known[event] ?? {}, reason);
  return words === null
    ? `<code>${code}</code>`
    : `<span title="${code}">${escapeHtml(words)}</span>`;
}

/** `admin:` and `operator:` are followed by a name. */
function actorText(actor: string, { admin }: Pick<Words, 'admin'>): string {
  const [, kind = '', name = ''] = /^(\w+)(?::(.*))?$/s.exec(actor) ?? [];
  const words = wordOf(admin.actor, kind);
  if (words === null) return isolated(actor);
  return name === '' ? escapeHtml(words) : `${escapeHtml(words)} ${isolated(name)}`;
}

const wordOf = (words: Readonly<Record<string, string>>, name: string): string | null =>
  Object.hasOwn(words, name) ? (words[name] ?? null) : null;
