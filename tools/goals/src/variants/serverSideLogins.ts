import { randomUUID } from 'node:crypto';
import process from 'node:process';
import { openDatabase } from '@session-gateway/database';
import { KeycloakClient } from '@session-gateway/keycloak-auth';

// A login that is begun is kept on the server, in memory and in PostgreSQL, until its callback comes.
const db = openDatabase({ url: process.env['DATABASE_URL'] ?? '' });
const kept = new Map<string, unknown>();
const begin = KeycloakClient.prototype.authorizationRequest;
KeycloakClient.prototype.authorizationRequest = async function (...given) {
  const begun = await begin.apply(this, given);
  kept.set(begun.state, { ...begun, page: 'x'.repeat(8_000) + randomUUID() });
  await db.sql.query(
    `INSERT INTO session_events (event, actor, reason) VALUES ('login', 'user', 'begun')`,
  );
  return begun;
};
await import('../../../../apps/api-gateway/src/main.js');
