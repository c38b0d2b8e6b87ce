import type { Words } from './words.js';

const TELL_SUPPORT =
  'Si cela continue, prévenez les responsables de ce site, avec le numéro de requête ci-dessous.';

export const fr: Words = {
  language: 'fr',
  direction: 'ltr',
  problems: {
    session_not_found: {
      title: "Vous n'êtes pas connecté",
      happened: 'Cette page est réservée aux personnes connectées.',
      todo: 'Connectez-vous, et vous reviendrez ici.',
    },
    session_expired: {
      title: 'Votre session est terminée',
      happened: "Elle n'a pas été utilisée pendant un moment, ou elle a été fermée ailleurs.",
      todo: 'Reconnectez-vous pour continuer.',
    },
    reauthentication_required: {
      title: 'Veuillez vous reconnecter',
      happened: 'Le service de connexion a fermé votre session.',
      todo: 'Reconnectez-vous pour continuer.',
    },
    insufficient_user_authentication: {
      title: 'Veuillez vous connecter une fois encore',
      happened: 'Cette page demande une connexion plus forte que la vôtre.',
      todo: 'Connectez-vous à nouveau, et vous reviendrez ici.',
    },
    bearer_invalid: {
      title: "L'accès a été refusé",
      happened:
        "Cette adresse est destinée aux programmes, et le jeton d'accès manque ou n'est pas accepté.",
      todo: 'Si un programme vous a conduit ici, son accès a peut-être expiré.',
    },
    forbidden: {
      title: 'Vous ne pouvez pas voir cette page',
      happened: "Vous êtes connecté, mais votre compte n'a pas l'autorisation pour cette page.",
      todo: 'Si vous en avez besoin, demandez aux responsables de ce site, avec le numéro de requête ci-dessous.',
    },
    csrf_rejected: {
      title: 'Ceci a été arrêté pour votre sécurité',
      happened: 'Un autre site a essayé de faire quelque chose ici en votre nom.',
      todo: "Si c'était vous, ouvrez ce site vous-même et réessayez à partir de là.",
    },
    navigation_required: {
      title: "La connexion ne peut pas s'ouvrir ici",
      happened: "Elle ne s'ouvre que comme une page à part, ni à l'avance ni dans une autre page.",
      todo: 'Ouvrez la connexion vous-même.',
    },
    callback_rejected: {
      title: "La connexion n'a pas abouti",
      happened: "La réponse du service de connexion n'a pas pu être acceptée.",
      todo: `Recommencez la connexion. ${TELL_SUPPORT}`,
    },
    return_to_rejected: {
      title: "Ce lien de connexion n'est pas valable",
      happened: 'Il mènerait hors de ce site après la connexion.',
      todo: 'Connectez-vous ici, puis allez à la page voulue.',
    },
    cookie_ambiguous: {
      title: 'Deux connexions se sont gênées',
      happened:
        "Votre navigateur a deux cookies de session pour ce site, et l'un d'eux n'est peut-être pas le vôtre.",
      todo: 'Supprimez les cookies de ce site dans votre navigateur, puis réessayez.',
    },
    logout_token_invalid: {
      title: 'Cette adresse est destinée au service de connexion',
      happened: "Ce qui a été envoyé ici n'est pas un message valable de déconnexion.",
      todo: "Allez à la page d'accueil.",
    },
    path_ambiguous: {
      title: "Cette adresse n'est pas valable",
      happened: "Elle peut se lire de plusieurs façons, et n'a donc pas été ouverte.",
      todo: "Vérifiez l'adresse, ou allez à la page d'accueil.",
    },
    request_invalid: {
      title: "Cette adresse n'est pas valable",
      happened: 'Quelque chose y manque, y est en double ou mal écrit.',
      todo: "Vérifiez l'adresse, ou allez à la page d'accueil.",
    },
    method_not_allowed: {
      title: "Ceci ne s'ouvre pas comme une page",
      happened: "L'adresse existe, mais elle s'utilise autrement.",
      todo: "Allez à la page d'accueil, et continuez à partir de là.",
    },
    request_too_large: {
      title: "C'était trop gros",
      happened: "On a envoyé plus que cette adresse n'accepte.",
      todo: 'Envoyez moins, ou en plusieurs parties.',
    },
    address_too_long: {
      title: 'Cette adresse est trop longue',
      happened: "L'adresse a plus de caractères que ce site n'en accepte.",
      todo: "Allez à la page d'accueil, et continuez à partir de là.",
    },
    headers_too_large: {
      title: 'Votre navigateur a trop envoyé',
      happened: "Le plus souvent, c'est qu'il a trop de cookies pour ce site.",
      todo: 'Supprimez les cookies de ce site dans votre navigateur, puis réessayez.',
    },
    request_timeout: {
      title: 'Votre connexion au réseau était trop lente',
      happened: 'La requête a mis trop de temps à arriver.',
      todo: 'Réessayez quand le réseau sera meilleur.',
    },
    rate_limited: {
      title: "Trop d'essais",
      happened: 'Il y a eu trop de connexions depuis votre réseau en peu de temps.',
      todo: 'Attendez une minute, puis réessayez.',
    },
    not_found: {
      title: "Cette page n'existe pas",
      happened: "L'adresse est peut-être mal écrite, ou la page n'est plus là.",
      todo: "Vérifiez l'adresse, ou allez à la page d'accueil.",
    },
    token_unreadable: {
      title: 'Votre session a un problème',
      happened:
        'Ses données enregistrées ne peuvent pas être lues. Les responsables de ce site en sont avertis.',
      todo: 'Réessayez plus tard. Vous êtes toujours connecté.',
    },
    internal_error: {
      title: "Quelque chose n'a pas fonctionné ici",
      happened: "Ce n'est pas votre faute.",
      todo: `Réessayez. ${TELL_SUPPORT}`,
    },
    provider_rejected: {
      title: 'Le service de connexion ne fonctionne pas avec ce site',
      happened: 'Il refuse ce site. Ses responsables en sont avertis.',
      todo: "Réessayez plus tard. Si vous étiez connecté, vous l'êtes toujours.",
    },
    upstream_unavailable: {
      title: "Cette partie du site n'est pas disponible",
      happened: 'Le service derrière cette page ne répond pas.',
      todo: `Réessayez dans un instant. ${TELL_SUPPORT}`,
    },
    provider_unavailable: {
      title: "Le service de connexion n'est pas disponible",
      happened: "Il ne répond pas pour le moment. Si vous étiez connecté, vous l'êtes toujours.",
      todo: 'Réessayez dans un instant.',
    },
    storage_unavailable: {
      title: "Ce site n'est pas disponible pour le moment",
      happened:
        "Il n'atteint pas ses propres données. Si vous étiez connecté, vous l'êtes toujours.",
      todo: 'Réessayez dans un instant.',
    },
    upstream_timeout: {
      title: 'Cette page est trop lente',
      happened: "Le service derrière elle n'a pas répondu à temps.",
      todo: `Réessayez dans un instant. ${TELL_SUPPORT}`,
    },
  },
  loginFailures: {
    state: {
      title: "La connexion n'a pas abouti",
      happened:
        "Votre navigateur n'a pas rendu ce que ce site lui avait donné au début de la connexion. Il bloque peut-être les cookies, ou la connexion a duré trop longtemps ou s'est terminée dans un autre onglet.",
      todo: 'Autorisez les cookies pour ce site, puis reconnectez-vous.',
    },
    denied: {
      title: "Vous n'avez pas été connecté",
      happened:
        'La connexion a été annulée, ou le service de connexion ne vous laisse pas entrer ici.',
      todo: "Reconnectez-vous, ou demandez l'accès aux responsables de ce site.",
    },
    busy: {
      title: 'Le service de connexion a un problème',
      happened: "Il n'a pas pu terminer votre connexion pour le moment.",
      todo: `Attendez un instant, puis reconnectez-vous. ${TELL_SUPPORT}`,
    },
    question: {
      title: "La connexion n'est pas terminée",
      happened: "Le service de connexion a d'abord besoin d'autre chose de votre part.",
      todo: 'Reconnectez-vous et répondez à ses questions.',
    },
    clock: {
      title: "La connexion n'a pas abouti",
      happened:
        "D'après l'horloge de ce site, la réponse du service de connexion a expiré ou n'est pas encore valable. L'une des horloges est peut-être fausse.",
      todo: `Reconnectez-vous. ${TELL_SUPPORT}`,
    },
    loggedOut: {
      title: 'Vous avez été déconnecté à nouveau',
      happened: 'Votre session a été fermée ailleurs pendant votre connexion.',
      todo: 'Reconnectez-vous pour continuer.',
    },
  },
  ways: { login: 'Se connecter', retry: 'Réessayer', home: "Aller à la page d'accueil" },
  requestId: 'Numéro de requête',
  onward: { title: 'Un instant', way: 'Continuer' },
  framedLogin: {
    title: 'Veuillez vous connecter',
    todo: "La connexion s'ouvre dans un onglet à part. Une fois terminé, rechargez cette page.",
    way: 'Se connecter dans un nouvel onglet',
  },
  start: {
    title: 'Vos sessions',
    anonymous: "Vous n'êtes pas connecté",
    todo: 'Connectez-vous pour continuer. Vous pouvez voir et fermer vos sessions à tout moment.',
    hello: 'Bonjour, {name}',
    account: 'Mes sessions',
  },
  account: {
    title: 'Votre compte',
    sessions: 'Où vous êtes connecté',
    lastUsed: 'dernière utilisation {time}',
    since: 'depuis {time}',
    current: 'Cette session',
    end: 'Fermer',
    endOne: 'Fermer la session {device}, {address}',
    endOthers: 'Fermer toutes les autres sessions',
    back: "Retour à la page d'accueil",
    notices: {
      ended: 'La session est fermée.',
      gone: 'Cette session était déjà terminée.',
      others: 'Toutes les autres sessions sont fermées.',
    },
  },
  admin: {
    title: 'Sessions des personnes',
    find: 'Nom d’utilisateur, adresse e-mail ou sujet',
    hint: 'Écrivez-le en entier, tel que le service de connexion le connaît.',
    search: 'Chercher',
    nobody:
      'Personne n’est connu ainsi. Un nom d’utilisateur est connu tant qu’une de ses sessions est conservée.',
    several: 'De qui s’agit-il ?',
    sessions: 'Sessions en cours',
    noSessions: 'Il n’y a aucune session en cours.',
    next: 'Page suivante',
    events: 'Événements récents',
    noEvents: 'Rien n’est enregistré.',
    endAll: 'Terminer toutes les sessions',
    confirmOne: 'Terminer cette session de {name} ?',
    confirmAll: 'Terminer toutes les sessions de {name} ?',
    confirm: 'Terminer maintenant',
    cancel: 'Ne rien changer',
    event: {
      login: 'Connexion',
      session_ended: 'Session terminée',
      refresh_failed: 'Échec du renouvellement',
      reuse_suspected: 'Vol de jeton soupçonné',
      provider_logout: 'Signalé au service de connexion',
      logout_token_refused: 'Message de déconnexion refusé',
    },
    endReason: {
      logout: 'déconnexion',
      backchannel_logout: 'déconnexion auprès du service de connexion',
      frontchannel_logout: 'déconnexion dans le navigateur par le service de connexion',
      ended_by_user: 'fermée sur la page du compte',
      ended_by_admin: 'fermée par l’administration',
      replaced: 'remplacée par une nouvelle connexion',
      session_limit: 'trop de sessions pour une personne',
      idle_timeout: 'inutilisée depuis trop longtemps',
      refresh_expired: 'expirée auprès du service de connexion',
      absolute_timeout: 'durée maximale atteinte',
      grant_ended: 'refusée par le service de connexion',
      subject_changed: 'le service de connexion a nommé une autre personne',
    },
    logoutOutcome: {
      ended: 'fermée là aussi',
      already_over: 'déjà terminée là',
      revoked: 'accès retiré là',
      spared: 'laissée là : une autre session continue',
      refused: 'refusé là',
      expired: 'trop tard : expirée d’elle-même',
      postponed: 'pas encore : le service de connexion ne répond pas',
    },
    actor: {
      user: 'la personne',
      provider: 'service de connexion',
      gateway: 'passerelle',
      admin: 'administration',
      operator: 'exploitation',
    },
    notices: {
      ended: 'La session est terminée.',
      gone: 'C’était déjà terminé.',
      all: 'Sessions terminées : {count}',
    },
  },
  person: {
    name: 'Nom',
    userName: "Nom d'utilisateur",
    email: 'E-mail',
    roles: 'Rôles',
    noRoles: 'aucun',
    ends: 'Fin de la session',
    endsIfUnused: '{idle} si elle ne sert pas, {latest} au plus tard',
  },
  device: '{browser} sur {system}',
  unknownDevice: 'Appareil inconnu',
  unknownAddress: 'adresse inconnue',
  logOut: 'Se déconnecter',
  logOutFailed:
    "Vous n'avez pas pu être déconnecté et êtes peut-être encore connecté. Réessayez dans un instant.",
  logInAgain: 'Se reconnecter',
  loggedOut: {
    title: 'Vous êtes déconnecté',
    happened: 'Votre session est fermée. Vous pouvez fermer cette page.',
  },
  over: {
    title: 'Votre session est terminée',
    happened:
      "Elle n'a pas été utilisée pendant un moment, ou elle a été fermée ailleurs. Reconnectez-vous pour continuer.",
  },
  warning: {
    extendable: 'Votre session va bientôt se terminer.',
    final: 'Votre session va bientôt se terminer et ne peut pas être prolongée.',
    stay: 'Rester connecté',
  },
};
