import type { Words } from './words.js';

const TELL_SUPPORT =
  'Wenn das so bleibt, sagen Sie es den Betreibern dieser Seite, mit der Anfragenummer unten.';

export const de: Words = {
  language: 'de',
  direction: 'ltr',
  problems: {
    session_not_found: {
      title: 'Sie sind nicht angemeldet',
      happened: 'Diese Seite ist nur für angemeldete Personen.',
      todo: 'Melden Sie sich an, dann kommen Sie hierher zurück.',
    },
    session_expired: {
      title: 'Ihre Sitzung ist vorbei',
      happened: 'Sie wurde eine Weile nicht benutzt oder anderswo beendet.',
      todo: 'Melden Sie sich wieder an, um weiterzumachen.',
    },
    reauthentication_required: {
      title: 'Bitte melden Sie sich erneut an',
      happened: 'Der Anmeldedienst hat Ihre Sitzung beendet.',
      todo: 'Melden Sie sich wieder an, um weiterzumachen.',
    },
    insufficient_user_authentication: {
      title: 'Bitte melden Sie sich noch einmal an',
      happened: 'Diese Seite verlangt eine stärkere Anmeldung als Ihre jetzige.',
      todo: 'Melden Sie sich noch einmal an, dann kommen Sie hierher zurück.',
    },
    bearer_invalid: {
      title: 'Der Zugriff wurde verweigert',
      happened:
        'Diese Adresse ist für Programme, und das Zugriffstoken fehlt oder wird nicht angenommen.',
      todo: 'Wenn ein Programm Sie hierher geführt hat, ist sein Zugriff vielleicht abgelaufen.',
    },
    forbidden: {
      title: 'Sie dürfen diese Seite nicht sehen',
      happened: 'Sie sind angemeldet, aber Ihr Konto hat keine Berechtigung für diese Seite.',
      todo: 'Wenn Sie sie brauchen, fragen Sie die Betreiber dieser Seite, mit der Anfragenummer unten.',
    },
    csrf_rejected: {
      title: 'Das wurde zu Ihrer Sicherheit angehalten',
      happened: 'Eine andere Website wollte hier etwas in Ihrem Namen tun.',
      todo: 'Wenn Sie es selbst waren, öffnen Sie diese Seite und versuchen Sie es von dort aus.',
    },
    navigation_required: {
      title: 'Die Anmeldung kann hier nicht geöffnet werden',
      happened:
        'Sie öffnet sich nur als eigene Seite, nicht im Voraus und nicht in einer anderen Seite.',
      todo: 'Öffnen Sie die Anmeldung selbst.',
    },
    callback_rejected: {
      title: 'Die Anmeldung ist nicht gelungen',
      happened: 'Die Antwort des Anmeldedienstes konnte nicht angenommen werden.',
      todo: `Beginnen Sie die Anmeldung neu. ${TELL_SUPPORT}`,
    },
    return_to_rejected: {
      title: 'Dieser Anmelde-Link ist ungültig',
      happened: 'Er würde nach der Anmeldung von dieser Website wegführen.',
      todo: 'Melden Sie sich hier an und gehen Sie von hier zur gewünschten Seite.',
    },
    cookie_ambiguous: {
      title: 'Zwei Anmeldungen sind sich in die Quere gekommen',
      happened:
        'Ihr Browser hat zwei Sitzungscookies für diese Website, und eines gehört vielleicht nicht Ihnen.',
      todo: 'Löschen Sie die Cookies dieser Website in Ihrem Browser und versuchen Sie es noch einmal.',
    },
    logout_token_invalid: {
      title: 'Diese Adresse ist für den Anmeldedienst',
      happened: 'Was hierher geschickt wurde, ist keine gültige Nachricht über eine Abmeldung.',
      todo: 'Gehen Sie zur Startseite.',
    },
    path_ambiguous: {
      title: 'Diese Adresse ist ungültig',
      happened: 'Sie lässt sich auf mehrere Arten lesen und wurde darum nicht geöffnet.',
      todo: 'Prüfen Sie die Adresse, oder gehen Sie zur Startseite.',
    },
    request_invalid: {
      title: 'Diese Adresse ist ungültig',
      happened: 'Etwas darin fehlt, steht doppelt da oder ist falsch geschrieben.',
      todo: 'Prüfen Sie die Adresse, oder gehen Sie zur Startseite.',
    },
    method_not_allowed: {
      title: 'Das lässt sich nicht als Seite öffnen',
      happened: 'Die Adresse gibt es, aber sie wird anders benutzt.',
      todo: 'Gehen Sie zur Startseite und von dort weiter.',
    },
    request_too_large: {
      title: 'Das war zu groß',
      happened: 'Es wurde mehr geschickt, als diese Adresse annimmt.',
      todo: 'Schicken Sie weniger, oder in mehreren Teilen.',
    },
    address_too_long: {
      title: 'Diese Adresse ist zu lang',
      happened: 'Die Adresse hat mehr Zeichen, als diese Website annimmt.',
      todo: 'Gehen Sie zur Startseite und von dort weiter.',
    },
    headers_too_large: {
      title: 'Ihr Browser hat zu viel geschickt',
      happened: 'Meist liegt es an zu vielen Cookies für diese Website.',
      todo: 'Löschen Sie die Cookies dieser Website in Ihrem Browser und versuchen Sie es noch einmal.',
    },
    request_timeout: {
      title: 'Ihre Verbindung war zu langsam',
      happened: 'Die Anfrage brauchte zu lange, um anzukommen.',
      todo: 'Versuchen Sie es noch einmal, wenn Ihre Verbindung besser ist.',
    },
    rate_limited: {
      title: 'Zu viele Versuche',
      happened: 'Aus Ihrem Netz kamen in kurzer Zeit zu viele Anmeldungen.',
      todo: 'Warten Sie eine Minute und versuchen Sie es dann noch einmal.',
    },
    not_found: {
      title: 'Diese Seite gibt es nicht',
      happened: 'Vielleicht ist die Adresse falsch geschrieben, oder die Seite ist weg.',
      todo: 'Prüfen Sie die Adresse, oder gehen Sie zur Startseite.',
    },
    token_unreadable: {
      title: 'Mit Ihrer Sitzung stimmt etwas nicht',
      happened:
        'Ihre gespeicherten Daten lassen sich nicht lesen. Die Betreiber dieser Website wissen davon.',
      todo: 'Versuchen Sie es später noch einmal. Sie sind weiterhin angemeldet.',
    },
    internal_error: {
      title: 'Hier ist etwas schiefgegangen',
      happened: 'Es liegt nicht an Ihnen.',
      todo: `Versuchen Sie es noch einmal. ${TELL_SUPPORT}`,
    },
    provider_rejected: {
      title: 'Der Anmeldedienst arbeitet nicht mit dieser Website',
      happened: 'Er weist diese Website ab. Ihre Betreiber wissen davon.',
      todo: 'Versuchen Sie es später noch einmal. Waren Sie angemeldet, sind Sie es weiterhin.',
    },
    upstream_unavailable: {
      title: 'Dieser Teil der Website ist nicht erreichbar',
      happened: 'Der Dienst hinter dieser Seite antwortet nicht.',
      todo: `Versuchen Sie es gleich noch einmal. ${TELL_SUPPORT}`,
    },
    provider_unavailable: {
      title: 'Der Anmeldedienst ist nicht erreichbar',
      happened: 'Er antwortet gerade nicht. Waren Sie angemeldet, sind Sie es weiterhin.',
      todo: 'Versuchen Sie es gleich noch einmal.',
    },
    storage_unavailable: {
      title: 'Diese Website ist gerade nicht erreichbar',
      happened:
        'Sie kommt nicht an ihre eigenen Daten. Waren Sie angemeldet, sind Sie es weiterhin.',
      todo: 'Versuchen Sie es gleich noch einmal.',
    },
    upstream_timeout: {
      title: 'Diese Seite braucht zu lange',
      happened: 'Der Dienst dahinter hat nicht rechtzeitig geantwortet.',
      todo: `Versuchen Sie es gleich noch einmal. ${TELL_SUPPORT}`,
    },
  },
  loginFailures: {
    state: {
      title: 'Die Anmeldung ist nicht gelungen',
      happened:
        'Ihr Browser hat nicht zurückgebracht, was diese Website ihm zu Beginn der Anmeldung gab. Vielleicht blockiert er Cookies, oder die Anmeldung dauerte zu lange oder wurde in einem anderen Tab beendet.',
      todo: 'Erlauben Sie Cookies für diese Website und melden Sie sich noch einmal an.',
    },
    denied: {
      title: 'Sie wurden nicht angemeldet',
      happened: 'Die Anmeldung wurde abgebrochen, oder der Anmeldedienst lässt Sie hier nicht ein.',
      todo: 'Melden Sie sich noch einmal an, oder bitten Sie die Betreiber dieser Website um Zugang.',
    },
    busy: {
      title: 'Der Anmeldedienst hat ein Problem',
      happened: 'Er konnte Ihre Anmeldung gerade nicht abschließen.',
      todo: `Warten Sie einen Moment und melden Sie sich dann noch einmal an. ${TELL_SUPPORT}`,
    },
    question: {
      title: 'Die Anmeldung ist nicht fertig',
      happened: 'Der Anmeldedienst braucht zuerst noch etwas von Ihnen.',
      todo: 'Melden Sie sich noch einmal an und beantworten Sie seine Fragen.',
    },
    clock: {
      title: 'Die Anmeldung ist nicht gelungen',
      happened:
        'Nach der Uhr dieser Website ist die Antwort des Anmeldedienstes abgelaufen oder noch nicht gültig. Eine der Uhren geht vielleicht falsch.',
      todo: `Melden Sie sich noch einmal an. ${TELL_SUPPORT}`,
    },
    loggedOut: {
      title: 'Sie wurden wieder abgemeldet',
      happened: 'Ihre Sitzung wurde anderswo beendet, während Sie sich anmeldeten.',
      todo: 'Melden Sie sich noch einmal an, um weiterzumachen.',
    },
  },
  ways: { login: 'Anmelden', retry: 'Noch einmal versuchen', home: 'Zur Startseite' },
  requestId: 'Anfragenummer',
  onward: { title: 'Einen Moment', way: 'Weiter' },
  framedLogin: {
    title: 'Bitte melden Sie sich an',
    todo: 'Die Anmeldung öffnet sich in einem eigenen Tab. Laden Sie danach diese Seite neu.',
    way: 'In neuem Tab anmelden',
  },
  start: {
    title: 'Ihre Sitzungen',
    anonymous: 'Sie sind nicht angemeldet',
    todo: 'Melden Sie sich an, um weiterzumachen. Sie können Ihre Sitzungen jederzeit sehen und beenden.',
    hello: 'Hallo, {name}',
    account: 'Meine Sitzungen',
  },
  account: {
    title: 'Ihr Konto',
    sessions: 'Wo Sie angemeldet sind',
    lastUsed: 'zuletzt benutzt {time}',
    since: 'seit {time}',
    current: 'Diese Sitzung',
    end: 'Beenden',
    endOne: 'Sitzung beenden: {device}, {address}',
    endOthers: 'Alle anderen Sitzungen beenden',
    back: 'Zurück zur Startseite',
    notices: {
      ended: 'Die Sitzung ist beendet.',
      gone: 'Diese Sitzung war schon vorbei.',
      others: 'Alle anderen Sitzungen sind beendet.',
    },
  },
  admin: {
    title: 'Sitzungen von Personen',
    find: 'Benutzername, E-Mail-Adresse oder Subject',
    hint: 'Schreiben Sie ihn vollständig, wie ihn der Anmeldedienst kennt.',
    search: 'Suchen',
    nobody:
      'Darunter ist niemand bekannt. Ein Benutzername ist bekannt, solange eine seiner Sitzungen aufbewahrt wird.',
    several: 'Wer ist gemeint?',
    sessions: 'Laufende Sitzungen',
    noSessions: 'Es gibt keine laufenden Sitzungen.',
    next: 'Nächste Seite',
    events: 'Letzte Ereignisse',
    noEvents: 'Nichts ist verzeichnet.',
    endAll: 'Alle Sitzungen beenden',
    confirmOne: 'Diese Sitzung von {name} beenden?',
    confirmAll: 'Alle Sitzungen von {name} beenden?',
    confirm: 'Jetzt beenden',
    cancel: 'So lassen',
    event: {
      login: 'Angemeldet',
      session_ended: 'Sitzung beendet',
      refresh_failed: 'Erneuerung misslungen',
      reuse_suspected: 'Verdacht auf Token-Diebstahl',
      provider_logout: 'Dem Anmeldedienst mitgeteilt',
      logout_token_refused: 'Abmeldenachricht abgelehnt',
    },
    endReason: {
      logout: 'abgemeldet',
      backchannel_logout: 'beim Anmeldedienst abgemeldet',
      frontchannel_logout: 'im Browser über den Anmeldedienst abgemeldet',
      ended_by_user: 'auf der Kontoseite beendet',
      ended_by_admin: 'von der Administration beendet',
      replaced: 'durch eine neue Anmeldung ersetzt',
      session_limit: 'zu viele Sitzungen einer Person',
      idle_timeout: 'zu lange nicht benutzt',
      refresh_expired: 'beim Anmeldedienst abgelaufen',
      absolute_timeout: 'Höchstdauer erreicht',
      grant_ended: 'vom Anmeldedienst abgelehnt',
      subject_changed: 'der Anmeldedienst nannte eine andere Person',
    },
    logoutOutcome: {
      ended: 'auch dort beendet',
      already_over: 'dort schon vorbei',
      revoked: 'Zugriff dort entzogen',
      spared: 'dort belassen: eine andere Sitzung läuft weiter',
      refused: 'dort abgelehnt',
      expired: 'zu spät: dort von selbst abgelaufen',
      postponed: 'noch nicht: der Anmeldedienst antwortet nicht',
    },
    actor: {
      user: 'die Person',
      provider: 'Anmeldedienst',
      gateway: 'Gateway',
      admin: 'Administration',
      operator: 'Betrieb',
    },
    notices: {
      ended: 'Die Sitzung ist beendet.',
      gone: 'Das war schon vorbei.',
      all: 'Beendete Sitzungen: {count}',
    },
  },
  person: {
    name: 'Name',
    userName: 'Benutzername',
    email: 'E-Mail',
    roles: 'Rollen',
    noRoles: 'keine',
    ends: 'Sitzung endet',
    endsIfUnused: '{idle}, wenn sie nicht benutzt wird, spätestens {latest}',
  },
  device: '{browser} unter {system}',
  unknownDevice: 'Unbekanntes Gerät',
  unknownAddress: 'unbekannte Adresse',
  logOut: 'Abmelden',
  logOutFailed:
    'Sie konnten nicht abgemeldet werden und sind vielleicht noch angemeldet. Versuchen Sie es gleich noch einmal.',
  logInAgain: 'Wieder anmelden',
  loggedOut: {
    title: 'Sie sind abgemeldet',
    happened: 'Ihre Sitzung ist beendet. Sie können diese Seite schließen.',
  },
  over: {
    title: 'Ihre Sitzung ist vorbei',
    happened:
      'Sie wurde eine Weile nicht benutzt oder anderswo beendet. Melden Sie sich wieder an, um weiterzumachen.',
  },
  warning: {
    extendable: 'Ihre Sitzung endet gleich.',
    final: 'Ihre Sitzung endet gleich und kann nicht verlängert werden.',
    stay: 'Angemeldet bleiben',
  },
};
