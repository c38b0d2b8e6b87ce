import type { Cache } from '@session-gateway/database';
import { type Session, SessionStore } from '@session-gateway/keycloak-auth';
import type { Database } from '@session-gateway/database';

/** Known-bad variants, which the model must tell from the real thing. */
export const FLAWS = ['a touch that upserts', 'a cache without tombstones, and no feed'] as const;
export type Flaw = (typeof FLAWS)[number];

/** Notes the use of a session whether or not it is live, as a store of plain keys with an expiry does. */
export class UpsertingStore extends SessionStore {
  readonly #sql: Database['sql'];

  constructor(options: ConstructorParameters<typeof SessionStore>[0]) {
    super(options);
    this.#sql = options.db.sql;
  }

  override async touchNow(session: Session): Promise<Session> {
    await this.#sql.query(
      `INSERT INTO user_sessions (id, user_id, expires_at, is_active, last_accessed_at, updated_at) SELECT $1, id, $3, true, $4, now() FROM users WHERE keycloak_id = $2
       ON CONFLICT (id) DO UPDATE SET is_active = true, last_accessed_at = EXCLUDED.last_accessed_at`,
      [session.id, session.subject, session.expiresAt, new Date()],
    );
    return (await this.reload(session.id)) ?? session;
  }
}

/** Forgets by removing and puts without looking. */
export function carelessCache(
  cache: Cache,
  set: (key: string, value: Buffer) => Promise<void>,
  remove: (key: string) => Promise<void>,
): Cache {
  return {
    ...cache,
    async put(key, { version, value }) {
      const head = Buffer.alloc(4);
      head.writeUInt32BE(version);
      await set(key, Buffer.concat([head, value]));
    },
    async bury(keys) {
      for (const key of keys) await remove(key);
    },
  };
}
