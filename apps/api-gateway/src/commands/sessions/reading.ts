import type { Database } from '@session-gateway/database';
import { type ListedSession, listSessions, positionOf } from '@session-gateway/keycloak-auth';

const PAGE = 500;

/** Every live session, newest first, a page at a time. */
export async function* liveSessions(
  db: Database,
  { subject, idleTimeoutMs }: { subject: string | null; idleTimeoutMs: number },
): AsyncGenerator<ListedSession> {
  let after: string | undefined;
  for (;;) {
    const page = await listSessions(db.sql, idleTimeoutMs, {
      limit: PAGE,
      subject: subject ?? undefined,
      after: after === undefined ? undefined : (positionOf(after) ?? undefined),
    });
    yield* page;
    after = page.at(-1)?.cursor;
    if (page.length < PAGE || after === undefined) return;
  }
}

/** An event as it is exported: the columns of `session_events`. */
export interface ExportedEvent {
  readonly id: string;
  readonly at: Date;
  readonly event: string;
  readonly session_id: string | null;
  readonly subject: string | null;
  readonly sid: string | null;
  readonly reason: string | null;
  readonly actor: string;
  readonly ip_address: string | null;
}

/** What happened to sessions in a span of time, oldest first, a page at a time. */
export async function* sessionEvents(
  db: Database,
  wanted: { since: Date; until: Date | null; subject: string | null; session: string | null },
): AsyncGenerator<ExportedEvent> {
  const at = { gte: wanted.since, ...(wanted.until === null ? {} : { lt: wanted.until }) };
  const { sessionEvent } = await db.typed();
  for (let last = -1n; ;) {
    const page = await sessionEvent.findMany({
      where: {
        at,
        id: { gt: last },
        ...(wanted.subject === null ? {} : { subject: wanted.subject }),
        ...(wanted.session === null ? {} : { sessionId: wanted.session }),
      },
      orderBy: { id: 'asc' },
      take: PAGE,
    });
    for (const { id, sessionId, ipAddress, ...event } of page)
      yield {
        id: String(id),
        at: event.at,
        event: event.event,
        session_id: sessionId,
        subject: event.subject,
        sid: event.sid,
        reason: event.reason,
        actor: event.actor,
        ip_address: ipAddress,
      };
    last = page.at(-1)?.id ?? last;
    if (page.length < PAGE) return;
  }
}
