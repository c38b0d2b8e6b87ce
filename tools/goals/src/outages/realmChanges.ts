import { setTimeout as delay } from 'node:timers/promises';
import { type Cluster, startCluster } from '@session-gateway/testkit';
import { runGoal } from '../harness/goal.js';
import { variant } from '../harness/variants.js';
import { CHANGES } from './realm/changes.js';
import type { Change, Scene } from './realm/world.js';

/** A login and the change within one second look alike to Keycloak, which counts seconds. */
const APART_MS = 1_100;

await runGoal('D2', async ({ progress }) => {
  const cluster = await startCluster({
    redis: false,
    keycloak: { accessTokenLifespanSeconds: 60 },
  });
  try {
    const wrong: string[] = [];
    for (const [i, change] of CHANGES.entries()) {
      progress(() => `${i} of ${CHANGES.length}: ${change.name}`);
      const faults = await tried(cluster, change, i).catch((error: unknown) => [String(error)]);
      wrong.push(...faults.map((fault) => `${change.name}: ${fault}`));
    }
    await cluster.restartAll({ entry: await variant('believesAnyIssuer') });
    const [hostname] = CHANGES.filter(({ told }) => told?.endsWith('issuer_mismatch'));
    const caught = hostname ? await tried(cluster, hostname, CHANGES.length) : [];
    const control = caught.some((fault) => fault.startsWith('session grant_ended'));
    return {
      passed: wrong.length === 0 && CHANGES.length >= 40 && control,
      changes: CHANGES.length,
      wrong,
      control,
      controls: { believesAnyIssuer: caught },
    };
  } finally {
    await cluster.dispose();
  }
});

/** What is not as it should be when a change comes over a living session. */
async function tried(cluster: Cluster, change: Change, i: number): Promise<string[]> {
  const scene = await personOf(cluster, `person-${i}`);
  await delay(APART_MS);
  const undo = await change.make(scene);
  const faults: string[] = [];
  const check = (what: string, seen: unknown, right: unknown): void => {
    if (seen !== right) faults.push(`${what} ${String(seen)}, not ${String(right)}`);
  };
  try {
    check('answered', await scene.refresh(), change.answer);
    check('session', await fateOf(scene), change.session);
    check('told', await lastWordOn(scene), change.told);
    if (change.role)
      check(change.role.name, (await rolesOf(scene)).includes(change.role.name), change.role.held);
  } finally {
    await undo?.();
  }
  const later = change.later ?? (change.session === 'kept' ? '200' : '401 session_not_found');
  check('later answered', await settledAnswer(scene, later), later);
  return faults;
}

/** The gateway leaves a provider alone for a moment after failures. */
async function settledAnswer(scene: Scene, right: string): Promise<string> {
  for (let attempt = 0; ; attempt++) {
    const answer = await scene.refresh();
    if (answer === right || attempt === 8 || !answer.startsWith('503')) return answer;
    await delay(500);
  }
}

async function personOf(cluster: Cluster, username: string): Promise<Scene> {
  const { keycloak } = cluster;
  if (!keycloak) throw new Error('there is no Keycloak');
  await keycloak.admin('POST', '/users', {
    username,
    enabled: true,
    firstName: 'Some',
    lastName: 'Body',
    email: `${username}@example.com`,
    emailVerified: true,
    credentials: [{ type: 'password', value: username, temporary: false }],
  });
  const role = await keycloak.admin('GET', '/roles/user');
  const id = await keycloak.userId(username);
  await keycloak.admin('POST', `/users/${id}/role-mappings/realm`, [role]);
  const scene: Scene = {
    cluster,
    keycloak,
    session: await cluster.session(username),
    sid: '',
    async refresh() {
      const { status, code } = await cluster.ask(0, '/auth/refresh?force=true', {
        method: 'POST',
        cookie: scene.session.cookie,
      });
      return code === null ? String(status) : `${status} ${code}`;
    },
    async renew() {
      scene.session = await cluster.session(username);
    },
  };
  const [row] = await cluster.sql<{ sid: string }>(
    'SELECT keycloak_session_id AS sid FROM user_sessions WHERE id = $1',
    [scene.session.id],
  );
  scene.sid = row?.sid ?? '';
  return scene;
}

async function fateOf({ cluster, session }: Scene): Promise<string> {
  const [row] = await cluster.sql<{ is_active: boolean; end_reason: string | null }>(
    'SELECT is_active, end_reason FROM user_sessions WHERE id = $1',
    [session.id],
  );
  return row?.is_active === true ? 'kept' : String(row?.end_reason);
}

async function rolesOf({ cluster, session }: Scene): Promise<string[]> {
  const { headers } = await cluster.ask(0, '/auth/verify', session);
  return String(headers['x-auth-roles'] ?? '').split(',');
}

/** What was last written down about the session; what the provider is told of it afterwards comes in its own time. */
async function lastWordOn({ cluster, session }: Scene): Promise<string | null> {
  const [row] = await cluster.sql<{ event: string; reason: string | null }>(
    `SELECT event, reason FROM session_events WHERE session_id = $1 AND event NOT IN ('login', 'provider_logout', 'revocation') ORDER BY id DESC LIMIT 1`,
    [session.id],
  );
  return row ? `${row.event} ${row.reason ?? ''}`.trim() : null;
}
