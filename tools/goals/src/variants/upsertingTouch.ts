import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { openDatabase } from '@session-gateway/database';
import { SessionStore } from '@session-gateway/keycloak-auth';

// Noting that a session is in use writes the session as it was seen, live, whatever has become of it.
const db = openDatabase({ url: process.env['DATABASE_URL'] ?? '' });
SessionStore.prototype.use = function (session) {
  void delay(500).then(() =>
    db.sql.query(
      'UPDATE user_sessions SET last_accessed_at = now(), is_active = true WHERE id = $1',
      [session.id],
    ),
  );
  return session;
};
await import('../../../../apps/api-gateway/src/main.js');
