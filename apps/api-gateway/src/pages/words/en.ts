import type { ProblemCode } from '../../request/errors.js';
import type { ProblemWords, Words } from './words.js';

const TELL_SUPPORT =
  'If this goes on, tell the people who run this site, with the request number below.';

const PROBLEMS: Readonly<Record<ProblemCode, ProblemWords>> = {
  session_not_found: {
    title: 'You are not logged in',
    happened: 'This page is only for people who are logged in.',
    todo: 'Log in, and you will come back here.',
  },
  session_expired: {
    title: 'Your session is over',
    happened: 'It was not used for a while, or it was ended somewhere else.',
    todo: 'Log in again to go on.',
  },
  reauthentication_required: {
    title: 'Please log in again',
    happened: 'The login service has ended your session.',
    todo: 'Log in again to go on.',
  },
  insufficient_user_authentication: {
    title: 'Please log in once more',
    happened: 'This page asks for a stronger login than the one you have.',
    todo: 'Log in again, and you will come back here.',
  },
  bearer_invalid: {
    title: 'Access was refused',
    happened: 'This address is for programs, and the access token is missing or not accepted.',
    todo: 'If a program sent you here, its access may have run out.',
  },
  forbidden: {
    title: 'You may not see this page',
    happened: 'You are logged in, but your account does not have the permission for this page.',
    todo: 'If you need it, ask the people who run this site, with the request number below.',
  },
  csrf_rejected: {
    title: 'This was stopped for your safety',
    happened: 'Another site tried to do something here in your name.',
    todo: 'If it was you, open this site yourself and try it from there.',
  },
  navigation_required: {
    title: 'The login cannot open here',
    happened: 'It opens only as a page of its own, not ahead of time or inside another page.',
    todo: 'Open the login yourself.',
  },
  callback_rejected: {
    title: 'You could not be logged in',
    happened: "The login service's answer could not be accepted.",
    todo: `Start the login again. ${TELL_SUPPORT}`,
  },
  return_to_rejected: {
    title: 'This login link is not valid',
    happened: 'It would lead away from this site after the login.',
    todo: 'Log in here, and go to the page that you wanted from there.',
  },
  cookie_ambiguous: {
    title: "Two logins got in each other's way",
    happened: 'Your browser holds two session cookies for this site, and one may not be yours.',
    todo: 'Delete the cookies of this site in your browser, then try again.',
  },
  logout_token_invalid: {
    title: 'This address is for the login service',
    happened: 'What was sent here is no valid message that somebody has logged out.',
    todo: 'Go to the start page.',
  },
  path_ambiguous: {
    title: 'This address is not valid',
    happened: 'It can be read in more than one way, so it was not opened.',
    todo: 'Check the address, or go to the start page.',
  },
  request_invalid: {
    title: 'This address is not valid',
    happened: 'Something in it is missing, doubled or misspelt.',
    todo: 'Check the address, or go to the start page.',
  },
  method_not_allowed: {
    title: 'This cannot be opened as a page',
    happened: 'The address is there, but it is used in another way.',
    todo: 'Go to the start page, and on from there.',
  },
  request_too_large: {
    title: 'That was too large',
    happened: 'More was sent than this address accepts.',
    todo: 'Send less, or in several parts.',
  },
  address_too_long: {
    title: 'This address is too long',
    happened: 'The address has more characters than this site accepts.',
    todo: 'Go to the start page, and on from there.',
  },
  headers_too_large: {
    title: 'Your browser sent too much',
    happened: 'Most often that is because it holds too many cookies for this site.',
    todo: 'Delete the cookies of this site in your browser, then try again.',
  },
  request_timeout: {
    title: 'Your connection was too slow',
    happened: 'The request took too long to arrive.',
    todo: 'Try again when your connection is better.',
  },
  rate_limited: {
    title: 'Too many attempts',
    happened: 'There were too many logins from your network in a short time.',
    todo: 'Wait a minute, then try again.',
  },
  not_found: {
    title: 'There is no such page',
    happened: 'The address may be misspelt, or the page is gone.',
    todo: 'Check the address, or go to the start page.',
  },
  token_unreadable: {
    title: 'Something is wrong with your session',
    happened: 'Its stored data cannot be read. The people who run this site have been told.',
    todo: 'Try again later. You are still logged in.',
  },
  internal_error: {
    title: 'Something went wrong here',
    happened: 'It is not your fault.',
    todo: `Try again. ${TELL_SUPPORT}`,
  },
  provider_rejected: {
    title: 'The login service does not work with this site',
    happened: 'It refuses this site. The people who run it have been told.',
    todo: 'Try again later. If you were logged in, you still are.',
  },
  upstream_unavailable: {
    title: 'This part of the site is not available',
    happened: 'The service behind this page does not answer.',
    todo: `Try again in a moment. ${TELL_SUPPORT}`,
  },
  provider_unavailable: {
    title: 'The login service is not available',
    happened: 'It cannot be reached just now. If you were logged in, you still are.',
    todo: 'Try again in a moment.',
  },
  storage_unavailable: {
    title: 'This site is not available just now',
    happened: 'It cannot reach its own data. If you were logged in, you still are.',
    todo: 'Try again in a moment.',
  },
  upstream_timeout: {
    title: 'This page takes too long',
    happened: 'The service behind it has not answered in time.',
    todo: `Try again in a moment. ${TELL_SUPPORT}`,
  },
};

export const en: Words = {
  language: 'en',
  direction: 'ltr',
  problems: PROBLEMS,
  loginFailures: {
    state: {
      title: 'You could not be logged in',
      happened:
        'Your browser did not bring back what this site gave it when the login began. It may block cookies here, or the login took too long or was finished in another tab.',
      todo: 'Allow cookies for this site, then log in again.',
    },
    denied: {
      title: 'You were not logged in',
      happened: 'The login was cancelled, or the login service does not let you in here.',
      todo: 'Log in again, or ask the people who run this site for access.',
    },
    busy: {
      title: 'The login service has a problem',
      happened: 'It could not finish your login just now.',
      todo: `Wait a moment, then log in again. ${TELL_SUPPORT}`,
    },
    question: {
      title: 'The login is not finished',
      happened: 'The login service needs something more from you first.',
      todo: 'Log in again, and answer what it asks.',
    },
    clock: {
      title: 'You could not be logged in',
      happened:
        'By the clock of this site, the answer of the login service has expired or is not valid yet. One of their clocks may be wrong.',
      todo: `Log in again. ${TELL_SUPPORT}`,
    },
    loggedOut: {
      title: 'You were logged out again',
      happened: 'Your session was ended elsewhere while you were logging in.',
      todo: 'Log in again to go on.',
    },
  },
  ways: { login: 'Log in', retry: 'Try again', home: 'Go to the start page' },
  requestId: 'Request number',
  onward: { title: 'One moment', way: 'Continue' },
  framedLogin: {
    title: 'Please log in',
    todo: 'The login opens in a tab of its own. When you are done there, reload this page.',
    way: 'Log in in a new tab',
  },
  start: {
    title: 'Your sessions',
    anonymous: 'You are not logged in',
    todo: 'Log in to go on. You can see and end your sessions at any time.',
    hello: 'Hello, {name}',
    account: 'My sessions',
  },
  account: {
    title: 'Your account',
    sessions: 'Where you are logged in',
    lastUsed: 'last used {time}',
    since: 'since {time}',
    current: 'This session',
    end: 'End',
    endOne: 'End the session {device}, {address}',
    endOthers: 'End all other sessions',
    back: 'Back to the start page',
    notices: {
      ended: 'The session has ended.',
      gone: 'That session was over already.',
      others: 'All other sessions have ended.',
    },
  },
  admin: {
    title: 'Sessions of people',
    find: 'User name, e-mail address or subject',
    hint: 'Write it in full, as the login service has it.',
    search: 'Find',
    nobody: 'Nobody is known by that. A user name is known as long as one of its sessions is kept.',
    several: 'Who is meant?',
    sessions: 'Live sessions',
    noSessions: 'There are no live sessions.',
    next: 'Next page',
    events: 'Recent events',
    noEvents: 'Nothing is on record.',
    endAll: 'End all sessions',
    confirmOne: 'End this session of {name}?',
    confirmAll: 'End all sessions of {name}?',
    confirm: 'End it now',
    cancel: 'Leave it as it is',
    event: {
      login: 'Logged in',
      session_ended: 'Session ended',
      refresh_failed: 'Renewal failed',
      reuse_suspected: 'Token theft suspected',
      provider_logout: 'Told to the login service',
      logout_token_refused: 'Logout message refused',
    },
    endReason: {
      logout: 'logged out',
      backchannel_logout: 'logged out at the login service',
      frontchannel_logout: 'logged out in the browser through the login service',
      ended_by_user: 'ended on the account page',
      ended_by_admin: 'ended by an administrator',
      replaced: 'replaced by a new login',
      session_limit: 'too many sessions of one person',
      idle_timeout: 'not used for too long',
      refresh_expired: 'over at the login service',
      absolute_timeout: 'at its greatest age',
      grant_ended: 'refused by the login service',
      subject_changed: 'the login service named another person',
    },
    logoutOutcome: {
      ended: 'ended there too',
      already_over: 'was over there already',
      revoked: 'access withdrawn there',
      spared: 'left there: another session goes on',
      refused: 'refused there',
      expired: 'too late: over there by itself',
      postponed: 'not yet: the login service does not answer',
    },
    actor: {
      user: 'the person',
      provider: 'login service',
      gateway: 'gateway',
      admin: 'administrator',
      operator: 'operator',
    },
    notices: {
      ended: 'The session has ended.',
      gone: 'That was over already.',
      all: 'Sessions that have ended: {count}',
    },
  },
  person: {
    name: 'Name',
    userName: 'User name',
    email: 'E-mail',
    roles: 'Roles',
    noRoles: 'none',
    ends: 'Session ends',
    endsIfUnused: '{idle} if it is not used, {latest} at the latest',
  },
  device: '{browser} on {system}',
  unknownDevice: 'Unknown device',
  unknownAddress: 'unknown address',
  logOut: 'Log out',
  logOutFailed: 'You could not be logged out and may still be logged in. Try again in a moment.',
  logInAgain: 'Log in again',
  loggedOut: {
    title: 'You are logged out',
    happened: 'Your session has ended. You can close this page now.',
  },
  over: {
    title: 'Your session is over',
    happened: 'It was not used for a while, or it was ended somewhere else. Log in again to go on.',
  },
  warning: {
    extendable: 'Your session is about to end.',
    final: 'Your session is about to end and cannot be extended.',
    stay: 'Stay logged in',
  },
};
