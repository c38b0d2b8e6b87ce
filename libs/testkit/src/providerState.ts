import { createHash, randomBytes, randomUUID } from 'node:crypto';
import {
  type CryptoKey,
  exportJWK,
  generateKeyPair,
  type JWK,
  type JWTHeaderParameters,
  SignJWT,
} from 'jose';

/** A person at the provider. Claim overrides reach the next tokens; a value of undefined removes a claim. */
export interface StubUser {
  sub: string;
  preferredUsername: string;
  email?: string;
  name?: string;
  realmRoles: string[];
  clientRoles: Record<string, string[]>;
  accessTokenClaims: Record<string, unknown>;
  idTokenClaims: Record<string, unknown>;
}

export interface StubTokens {
  accessToken: string;
  refreshToken: string;
  idToken: string;
  expiresIn: number;
  refreshExpiresIn: number;
  sub: string;
  sid: string;
}

/** What a test may change while the provider runs. */
export interface StubSettings {
  /** A refresh token is replaced at each use; a use of an old one ends its session. */
  rotation: boolean;
  /** How often a replaced refresh token is still accepted. */
  reuse: number;
  latencyMs: number;
  accessTokenLifespanSeconds: number;
  /** `refresh_expires_in`; 0 says that there is no bound. */
  refreshExpiresInSeconds: number;
  /** Access tokens without roles and profile, as of a client with lightweight tokens. */
  lightweight: boolean;
  idTokenOnRefresh: boolean;
}

interface ProviderSession {
  sid: string;
  username: string;
  scope: string;
  alive: boolean;
  generation: number;
  reuses: number;
  startedAtSeconds: number;
}

interface SigningKey {
  kid: string;
  privateKey: CryptoKey;
  jwk: JWK;
}

interface PendingCode {
  session: ProviderSession;
  redirectUri: string;
  challenge: string;
  nonce: string | null;
  used: boolean;
}

/** OAuth's error answer of a token endpoint. */
export class OAuthError extends Error {
  constructor(
    readonly error: string,
    description: string,
    readonly status = 400,
  ) {
    super(description);
  }
}

/** The provider's memory: users, sessions, codes, refresh-token families, keys. Speaks no HTTP. */
export class ProviderState {
  readonly users = new Map<string, StubUser>();
  readonly #sessions = new Map<string, ProviderSession>();
  readonly #codes = new Map<string, PendingCode>();
  readonly #refreshTokens = new Map<string, { session: ProviderSession; generation: number }>();
  #keys: SigningKey[] = [];

  private constructor(
    readonly issuer: string,
    readonly clientId: string,
    readonly settings: StubSettings,
  ) {}

  static async create(
    issuer: string,
    clientId: string,
    settings: StubSettings,
  ): Promise<ProviderState> {
    const state = new ProviderState(issuer, clientId, settings);
    await state.rotateKeys();
    return state;
  }

  /**
   * From now on tokens are signed with a new key; the published key set holds the new one and,
   * with `keepOld`, the old ones.
   */
  async rotateKeys(keepOld = false): Promise<void> {
    const { privateKey, publicKey } = await generateKeyPair('RS256');
    const kid = randomBytes(8).toString('hex');
    const key = {
      kid,
      privateKey,
      jwk: { ...(await exportJWK(publicKey)), kid, alg: 'RS256', use: 'sig' },
    };
    this.#keys = [key, ...(keepOld ? this.#keys : [])];
  }

  jwks(): { keys: JWK[] } {
    return { keys: this.#keys.map(({ jwk }) => jwk) };
  }

  /** Signs any claims, with the current key and any header parameters; claims of undefined are left out. */
  sign(
    claims: Record<string, unknown>,
    header: Partial<JWTHeaderParameters> = {},
  ): Promise<string> {
    const key = this.#keys[0] as SigningKey;
    const defined = Object.fromEntries(
      Object.entries(claims).filter(([, value]) => value !== undefined),
    );
    return new SignJWT(defined)
      .setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid: key.kid, ...header })
      .sign(key.privateKey);
  }

  login(username: string, scope = 'openid'): ProviderSession {
    if (!this.users.has(username)) throw new Error(`no user ${username}`);
    const sid = randomBytes(18).toString('base64url');
    const session = {
      sid,
      username,
      scope,
      alive: true,
      generation: 0,
      reuses: 0,
      startedAtSeconds: now(),
    };
    this.#sessions.set(sid, session);
    return session;
  }

  authorize(
    session: ProviderSession,
    request: { redirectUri: string; challenge: string; nonce: string | null },
  ): string {
    const code = randomUUID();
    this.#codes.set(code, { session, ...request, used: false });
    return code;
  }

  /** The code grant, with PKCE S256 (RFC 7636). A second use of a code ends its session (RFC 6749 §4.1.2). */
  async redeemCode(code: string, redirectUri: string, verifier: string): Promise<StubTokens> {
    const pending = this.#codes.get(code);
    if (!pending || !pending.session.alive) throw new OAuthError('invalid_grant', 'Code not valid');
    if (pending.used) {
      pending.session.alive = false;
      throw new OAuthError('invalid_grant', 'Code already used');
    }
    pending.used = true;
    if (pending.redirectUri !== redirectUri)
      throw new OAuthError('invalid_grant', 'Incorrect redirect_uri');
    if (createHash('sha256').update(verifier).digest('base64url') !== pending.challenge) {
      throw new OAuthError('invalid_grant', 'PKCE verification failed: Code mismatch');
    }
    return this.issue(pending.session, pending.nonce);
  }

  /** The refresh grant. With rotation, one use too many of a replaced token ends the session and all its tokens. */
  async refresh(refreshToken: string): Promise<StubTokens> {
    const known = this.#refreshTokens.get(refreshToken);
    if (!known) throw new OAuthError('invalid_grant', 'Invalid refresh token');
    const { session, generation } = known;
    if (!session.alive)
      throw new OAuthError('invalid_grant', "Session doesn't have required client");
    if (this.settings.rotation && generation < session.generation) {
      session.reuses += 1;
      if (session.reuses > this.settings.reuse) {
        session.alive = false;
        throw new OAuthError('invalid_grant', 'Maximum allowed refresh token reuse exceeded');
      }
    } else {
      session.reuses = 0;
    }
    return this.issue(session, null);
  }

  /** A fresh token set of a live session; the newest refresh token replaces the ones before. */
  async issue(session: ProviderSession, nonce: string | null): Promise<StubTokens> {
    session.generation += 1;
    const generation = session.generation;
    const user = this.users.get(session.username) as StubUser;
    const { accessTokenLifespanSeconds: lifespan, refreshExpiresInSeconds: refreshLifespan } =
      this.settings;
    const common = {
      iss: this.issuer,
      iat: now(),
      sub: user.sub,
      azp: this.clientId,
      sid: session.sid,
    };
    const profile = {
      preferred_username: user.preferredUsername,
      email: user.email,
      name: user.name,
    };
    const roles = {
      realm_access: { roles: user.realmRoles },
      resource_access: Object.fromEntries(
        Object.entries(user.clientRoles).map(([client, names]) => [client, { roles: names }]),
      ),
    };
    const accessToken = await this.sign({
      ...common,
      exp: now() + lifespan,
      jti: randomUUID(),
      typ: 'Bearer',
      scope: session.scope,
      ...(this.settings.lightweight ? {} : { ...profile, ...roles }),
      ...user.accessTokenClaims,
    });
    const idToken = await this.sign({
      ...common,
      exp: now() + lifespan,
      jti: randomUUID(),
      typ: 'ID',
      aud: this.clientId,
      auth_time: session.startedAtSeconds,
      nonce: nonce ?? undefined,
      ...profile,
      ...user.idTokenClaims,
    });
    const refreshToken = await this.sign({
      ...common,
      jti: randomUUID(),
      typ: 'Refresh',
      aud: this.issuer,
      ...(refreshLifespan > 0 ? { exp: now() + refreshLifespan } : {}),
    });
    this.#refreshTokens.set(refreshToken, { session, generation });
    return {
      accessToken,
      refreshToken,
      idToken,
      expiresIn: lifespan,
      refreshExpiresIn: refreshLifespan,
      sub: user.sub,
      sid: session.sid,
    };
  }

  knowsRefreshToken(token: string): boolean {
    return this.#refreshTokens.has(token);
  }

  /** Ends the session that a refresh token or a signed token of this provider belongs to; false when there is none. */
  endByToken(token: string): boolean {
    const byRefreshToken = this.#refreshTokens.get(token)?.session;
    return byRefreshToken ? this.end(byRefreshToken.sid) : this.end(String(claimsOf(token)['sid']));
  }

  end(sid: string): boolean {
    const session = this.#sessions.get(sid);
    if (!session?.alive) return false;
    session.alive = false;
    return true;
  }

  isAlive(sid: string): boolean {
    return this.#sessions.get(sid)?.alive ?? false;
  }

  issued(sid: string): number {
    return this.#sessions.get(sid)?.generation ?? 0;
  }

  userOf(sid: string): StubUser | undefined {
    const session = this.#sessions.get(sid);
    return session?.alive ? this.users.get(session.username) : undefined;
  }

  /** A logout token (OpenID Connect Back-Channel Logout 1.0 §2.4). Overrides replace claims; undefined removes one. */
  logoutToken(
    claims: Record<string, unknown>,
    header: Partial<JWTHeaderParameters> = {},
  ): Promise<string> {
    return this.sign(
      {
        iss: this.issuer,
        aud: this.clientId,
        iat: now(),
        exp: now() + 120,
        jti: randomUUID(),
        typ: 'Logout',
        events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
        ...claims,
      },
      { typ: 'logout+jwt', ...header },
    );
  }
}

/** The claims of a token, unverified; none when it is no JWT. */
export function claimsOf(token: string | null): Record<string, unknown> {
  try {
    return JSON.parse(
      Buffer.from(token?.split('.')[1] ?? '', 'base64url').toString('utf8'),
    ) as Record<string, unknown>;
  } catch {
    return {};
  }
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}
