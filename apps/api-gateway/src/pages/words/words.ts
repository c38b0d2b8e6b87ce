import type {
  EndReason,
  ProviderLogoutOutcome,
  SessionEventKind,
} from '@session-gateway/keycloak-auth';
import type { ProblemCode, WayOn } from '../../request/errors.js';

/** What a page says about a problem: its heading, and sentences on what happened and what to do. */
export interface ProblemWords {
  readonly title: string;
  readonly happened: string;
  readonly todo: string;
}

/** Kinds of failed logins that a person can do something different about. */
export type LoginFailure = 'state' | 'denied' | 'busy' | 'question' | 'clock' | 'loggedOut';

/** What an administrator has done a moment ago: ended a session, or all of a person's. */
export type AdminNotice = 'ended' | 'gone' | 'all';

/** Kinds of actors of the audit trail; the name of an administrator or operator follows. */
export type Actor = 'user' | 'provider' | 'gateway' | 'admin' | 'operator';

/** What was done on the account page a moment ago. */
export type Notice = 'ended' | 'gone' | 'others';

/**
 * Everything that pages say, in one language. A new language is one file beside `en.ts`, and its place in the list of
 * `languages.ts`. What has a `{name}` is ICU MessageFormat.
 */
export interface Words {
  /** BCP 47 */
  readonly language: string;
  readonly direction: 'ltr' | 'rtl';
  readonly problems: Readonly<Record<ProblemCode, ProblemWords>>;
  /** In place of those of `callback_rejected` where more is known. */
  readonly loginFailures: Readonly<Record<LoginFailure, ProblemWords>>;
  readonly ways: Readonly<Record<WayOn, string>>;
  readonly requestId: string;
  /** A page that leads on by itself. */
  readonly onward: { readonly title: string; readonly way: string };
  /** A login in a frame of another page. */
  readonly framedLogin: { readonly title: string; readonly todo: string; readonly way: string };
  readonly start: {
    readonly title: string;
    readonly anonymous: string;
    readonly todo: string;
    /** `{name}` */
    readonly hello: string;
    readonly account: string;
  };
  readonly account: {
    readonly title: string;
    readonly sessions: string;
    /** `{time}` */
    readonly lastUsed: string;
    /** `{time}` */
    readonly since: string;
    readonly current: string;
    readonly end: string;
    /** `{device}`, `{address}` */
    readonly endOne: string;
    readonly endOthers: string;
    readonly back: string;
    readonly notices: Readonly<Record<Notice, string>>;
  };
  /** The administrator's page. */
  readonly admin: {
    readonly title: string;
    readonly find: string;
    readonly hint: string;
    readonly search: string;
    readonly nobody: string;
    readonly several: string;
    readonly sessions: string;
    readonly noSessions: string;
    readonly next: string;
    readonly events: string;
    readonly noEvents: string;
    readonly event: Readonly<Record<SessionEventKind, string>>;
    /** Of `session_ended`. */
    readonly endReason: Readonly<Record<EndReason, string>>;
    /** Of `provider_logout`. */
    readonly logoutOutcome: Readonly<Record<ProviderLogoutOutcome, string>>;
    readonly actor: Readonly<Record<Actor, string>>;
    readonly endAll: string;
    /** `{name}` */
    readonly confirmOne: string;
    /** `{name}` */
    readonly confirmAll: string;
    readonly confirm: string;
    readonly cancel: string;
    /** `{count}` in `all` */
    readonly notices: Readonly<Record<AdminNotice, string>>;
  };
  readonly person: {
    readonly name: string;
    readonly userName: string;
    readonly email: string;
    readonly roles: string;
    readonly noRoles: string;
    readonly ends: string;
    /** `{idle}` and `{latest}` are times. */
    readonly endsIfUnused: string;
  };
  /** `{browser}`, `{system}` */
  readonly device: string;
  readonly unknownDevice: string;
  readonly unknownAddress: string;
  readonly logOut: string;
  readonly logOutFailed: string;
  readonly logInAgain: string;
  readonly loggedOut: { readonly title: string; readonly happened: string };
  readonly over: { readonly title: string; readonly happened: string };
  /** Before the end of a session. */
  readonly warning: { readonly extendable: string; readonly final: string; readonly stay: string };
}
