import type { Database } from '@session-gateway/database';
import { ChangeFeed, type SessionEvent } from '@session-gateway/keycloak-auth';
import type { Gateway } from '../gateway.js';
import { type Log, reasonOf } from '../observability/logging.js';
import type { Metrics } from '../observability/metrics.js';

const AUDIT_LOG = 'audit';

/** Copies of sessions are believed while it is heard, so an operator is told when it is not. */
export function followChanges(db: Database, metrics: Metrics, log: Log): ChangeFeed {
  const feed = new ChangeFeed({
    sql: db.apart,
    onChange: (problem) =>
      problem === null
        ? log.info({ event: 'feed' }, 'changes of sessions are heard again')
        : log.warn(
            { event: 'feed', error: reasonOf(problem) },
            'changes of sessions are not heard (session_changes in PostgreSQL); every request asks PostgreSQL',
          ),
  });
  metrics.changesHeard(() => feed.heardAt);
  return feed;
}

/** The audit trail's line in the log; the ends of sessions are counted here and nowhere else. */
export function tellEvent(
  { event, sessionId: session, reason, actor, subject: sub, sid, ipAddress: address }: SessionEvent,
  { metrics, log }: Pick<Gateway, 'metrics' | 'log'>,
): void {
  if (event === 'session_ended') metrics.sessionsEnded.inc({ reason: reason ?? 'unknown' });
  const alarming =
    event === 'reuse_suspected' || event === 'logout_token_refused' || reason === 'subject_changed';
  log[alarming ? 'warn' : 'info']({ event, session, reason, actor, sub, sid, address }, AUDIT_LOG);
}
