// What <script src="/auth/client.js" defer></script> adds to a page. Kept beside your sources, it needs no import.
// The script's `data-warn-seconds` (120, also in place of what is no number) says how long before the end of an idle session `session-expiring` is told:
// that, or half of the idle time where that is less.
// It also sends `X-CSRF: 1` with every fetch to this origin that is not GET, HEAD or OPTIONS.

/** The answer of `GET /auth/session`; times in ISO 8601. */
interface SessionGatewaySession {
  session: {
    id: string;
    created_at: string;
    expires_at: string;
    /** When the session ends if nobody uses it. */
    idle_expires_at: string;
    /** Whether using it moves that. */
    extendable: boolean;
    token_expires_at: string | null;
    last_accessed_at: string;
  };
  user: {
    sub: string;
    preferred_username: string | null;
    email: string | null;
    name: string | null;
    roles: string[];
  };
}

interface SessionGateway {
  /** The session as the server has it now, without extending it; null when there is none, undefined when nobody answers. */
  check(): Promise<SessionGatewaySession | null | undefined>;
  /** Extends the idle timeout. */
  stay(): Promise<SessionGatewaySession | null | undefined>;
  /** Leaves for the login and comes back to `returnTo`, a path of this site (default: this page, with its `#fragment`). */
  login(returnTo?: string): void;
  /**
   * Ends the session here, in all tabs, and at the provider. Rejects, and leaves page and tabs as they are, when the gateway does not say that
   * the session has ended: the person may still be logged in, and should be told.
   */
  logout(): Promise<void>;
}

declare const sessionGateway: SessionGateway;

interface Window {
  sessionGateway: SessionGateway;
}

interface WindowEventMap {
  /** Told again every few seconds until the session is extended or ends; `extendable` is false when `stay` cannot help. */
  'session-expiring': CustomEvent<{ secondsLeft: number; extendable: boolean }>;
  /** In use again, perhaps in another tab. */
  'session-extended': CustomEvent<SessionGatewaySession>;
  /** Logged out or expired, perhaps in another tab. */
  'session-ended': CustomEvent<null>;
  /** Logged in, perhaps in another tab or as somebody else. */
  'session-started': CustomEvent<SessionGatewaySession>;
}
