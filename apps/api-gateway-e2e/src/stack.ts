import type { Cluster, HttpAnswer } from '@session-gateway/testkit';

export {
  type Cluster as Stack,
  KEY_TEXT,
  startCluster as startStack,
} from '@session-gateway/testkit';

export interface SessionBody {
  session: {
    id: string;
    created_at: string;
    expires_at: string;
    idle_expires_at: string;
    token_expires_at: string;
    last_accessed_at: string;
    acr: string | null;
  };
  user: { sub: string; preferred_username: string; email: string; name: string; roles: string[] };
}

export interface ProblemBody {
  status: number;
  code: string;
  title: string;
}

/** Of a problem document, or of the page that a navigation gets in its place. */
export const problemCode = (answer: HttpAnswer): string =>
  /<main data-code="(\w+)">/.exec(answer.text)?.[1] ?? (answer.json() as ProblemBody).code;

/** The three stored values of a session. */
export async function storedTokens(
  stack: Cluster,
  id: string,
): Promise<Record<'access_token' | 'refresh_token' | 'id_token', string | null>> {
  const [row] = await stack.sql<
    Record<'access_token' | 'refresh_token' | 'id_token', string | null>
  >('SELECT access_token, refresh_token, id_token FROM user_sessions WHERE id = $1', [id]);
  if (!row) throw new Error(`there is no session ${id}`);
  return row;
}
