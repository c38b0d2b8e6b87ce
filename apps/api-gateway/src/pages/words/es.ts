import type { Words } from './words.js';

const TELL_SUPPORT =
  'Si sigue pasando, avise a los responsables de este sitio, con el número de solicitud de abajo.';

export const es: Words = {
  language: 'es',
  direction: 'ltr',
  problems: {
    session_not_found: {
      title: 'No ha iniciado sesión',
      happened: 'Esta página es solo para quienes han iniciado sesión.',
      todo: 'Inicie sesión y volverá aquí.',
    },
    session_expired: {
      title: 'Su sesión ha terminado',
      happened: 'No se usó durante un tiempo o se cerró en otro lugar.',
      todo: 'Inicie sesión de nuevo para continuar.',
    },
    reauthentication_required: {
      title: 'Inicie sesión de nuevo',
      happened: 'El servicio de acceso ha cerrado su sesión.',
      todo: 'Inicie sesión de nuevo para continuar.',
    },
    insufficient_user_authentication: {
      title: 'Inicie sesión una vez más',
      happened: 'Esta página pide un acceso más fuerte que el suyo.',
      todo: 'Inicie sesión de nuevo y volverá aquí.',
    },
    bearer_invalid: {
      title: 'Se denegó el acceso',
      happened: 'Esta dirección es para programas, y el token de acceso falta o no se acepta.',
      todo: 'Si un programa le trajo aquí, quizá su acceso haya caducado.',
    },
    forbidden: {
      title: 'No puede ver esta página',
      happened: 'Ha iniciado sesión, pero su cuenta no tiene permiso para esta página.',
      todo: 'Si la necesita, pregunte a los responsables de este sitio, con el número de solicitud de abajo.',
    },
    csrf_rejected: {
      title: 'Se ha detenido por su seguridad',
      happened: 'Otro sitio intentó hacer algo aquí en su nombre.',
      todo: 'Si fue usted, abra este sitio e inténtelo desde aquí.',
    },
    navigation_required: {
      title: 'El acceso no puede abrirse aquí',
      happened: 'Solo se abre como página propia, ni por adelantado ni dentro de otra página.',
      todo: 'Abra el acceso usted mismo.',
    },
    callback_rejected: {
      title: 'No se pudo iniciar sesión',
      happened: 'La respuesta del servicio de acceso no se pudo aceptar.',
      todo: `Empiece el acceso de nuevo. ${TELL_SUPPORT}`,
    },
    return_to_rejected: {
      title: 'Este enlace de acceso no es válido',
      happened: 'Llevaría fuera de este sitio después del acceso.',
      todo: 'Inicie sesión aquí y vaya a la página que quería.',
    },
    cookie_ambiguous: {
      title: 'Dos accesos se estorbaron',
      happened:
        'Su navegador tiene dos cookies de sesión para este sitio, y una quizá no sea suya.',
      todo: 'Borre las cookies de este sitio en su navegador e inténtelo de nuevo.',
    },
    logout_token_invalid: {
      title: 'Esta dirección es para el servicio de acceso',
      happened: 'Lo que se envió aquí no es un aviso válido de cierre de sesión.',
      todo: 'Vaya a la página de inicio.',
    },
    path_ambiguous: {
      title: 'Esta dirección no es válida',
      happened: 'Se puede leer de varias maneras, y por eso no se abrió.',
      todo: 'Compruebe la dirección o vaya a la página de inicio.',
    },
    request_invalid: {
      title: 'Esta dirección no es válida',
      happened: 'Algo falta en ella, está repetido o mal escrito.',
      todo: 'Compruebe la dirección o vaya a la página de inicio.',
    },
    method_not_allowed: {
      title: 'Esto no se puede abrir como página',
      happened: 'La dirección existe, pero se usa de otra manera.',
      todo: 'Vaya a la página de inicio y siga desde allí.',
    },
    request_too_large: {
      title: 'Era demasiado grande',
      happened: 'Se envió más de lo que esta dirección acepta.',
      todo: 'Envíe menos, o en varias partes.',
    },
    address_too_long: {
      title: 'Esta dirección es demasiado larga',
      happened: 'La dirección tiene más caracteres de los que este sitio acepta.',
      todo: 'Vaya a la página de inicio y siga desde allí.',
    },
    headers_too_large: {
      title: 'Su navegador envió demasiado',
      happened: 'Casi siempre es porque tiene demasiadas cookies de este sitio.',
      todo: 'Borre las cookies de este sitio en su navegador e inténtelo de nuevo.',
    },
    request_timeout: {
      title: 'Su conexión fue demasiado lenta',
      happened: 'La solicitud tardó demasiado en llegar.',
      todo: 'Inténtelo de nuevo cuando su conexión sea mejor.',
    },
    rate_limited: {
      title: 'Demasiados intentos',
      happened: 'Hubo demasiados accesos desde su red en poco tiempo.',
      todo: 'Espere un minuto e inténtelo de nuevo.',
    },
    not_found: {
      title: 'Esta página no existe',
      happened: 'Quizá la dirección esté mal escrita o la página ya no esté.',
      todo: 'Compruebe la dirección o vaya a la página de inicio.',
    },
    token_unreadable: {
      title: 'Hay un problema con su sesión',
      happened:
        'Sus datos guardados no se pueden leer. Los responsables de este sitio están avisados.',
      todo: 'Inténtelo más tarde. Su sesión sigue abierta.',
    },
    internal_error: {
      title: 'Algo falló aquí',
      happened: 'No es culpa suya.',
      todo: `Inténtelo de nuevo. ${TELL_SUPPORT}`,
    },
    provider_rejected: {
      title: 'El servicio de acceso no funciona con este sitio',
      happened: 'Rechaza este sitio. Sus responsables están avisados.',
      todo: 'Inténtelo más tarde. Si tenía una sesión, sigue abierta.',
    },
    upstream_unavailable: {
      title: 'Esta parte del sitio no está disponible',
      happened: 'El servicio detrás de esta página no responde.',
      todo: `Inténtelo de nuevo en un momento. ${TELL_SUPPORT}`,
    },
    provider_unavailable: {
      title: 'El servicio de acceso no está disponible',
      happened: 'No responde por ahora. Si tenía una sesión, sigue abierta.',
      todo: 'Inténtelo de nuevo en un momento.',
    },
    storage_unavailable: {
      title: 'Este sitio no está disponible por ahora',
      happened: 'No llega a sus propios datos. Si tenía una sesión, sigue abierta.',
      todo: 'Inténtelo de nuevo en un momento.',
    },
    upstream_timeout: {
      title: 'Esta página tarda demasiado',
      happened: 'El servicio detrás de ella no respondió a tiempo.',
      todo: `Inténtelo de nuevo en un momento. ${TELL_SUPPORT}`,
    },
  },
  loginFailures: {
    state: {
      title: 'No se pudo iniciar sesión',
      happened:
        'Su navegador no devolvió lo que este sitio le dio al empezar el acceso. Quizá bloquee las cookies, o el acceso duró demasiado o se terminó en otra pestaña.',
      todo: 'Permita las cookies de este sitio e inicie sesión de nuevo.',
    },
    denied: {
      title: 'No se inició la sesión',
      happened: 'El acceso se canceló, o el servicio de acceso no le deja entrar aquí.',
      todo: 'Inicie sesión de nuevo o pida acceso a los responsables de este sitio.',
    },
    busy: {
      title: 'El servicio de acceso tiene un problema',
      happened: 'No pudo terminar su acceso por ahora.',
      todo: `Espere un momento e inicie sesión de nuevo. ${TELL_SUPPORT}`,
    },
    question: {
      title: 'El acceso no ha terminado',
      happened: 'El servicio de acceso necesita antes algo más de usted.',
      todo: 'Inicie sesión de nuevo y responda a lo que pregunta.',
    },
    clock: {
      title: 'No se pudo iniciar sesión',
      happened:
        'Según el reloj de este sitio, la respuesta del servicio de acceso ha caducado o aún no es válida. Quizá uno de los relojes esté mal.',
      todo: `Inicie sesión de nuevo. ${TELL_SUPPORT}`,
    },
    loggedOut: {
      title: 'Se cerró su sesión otra vez',
      happened: 'Su sesión se cerró en otro lugar mientras usted accedía.',
      todo: 'Inicie sesión de nuevo para continuar.',
    },
  },
  ways: { login: 'Iniciar sesión', retry: 'Intentar de nuevo', home: 'Ir a la página de inicio' },
  requestId: 'Número de solicitud',
  onward: { title: 'Un momento', way: 'Continuar' },
  framedLogin: {
    title: 'Inicie sesión',
    todo: 'El acceso se abre en una pestaña propia. Cuando termine, recargue esta página.',
    way: 'Iniciar sesión en otra pestaña',
  },
  start: {
    title: 'Sus sesiones',
    anonymous: 'No ha iniciado sesión',
    todo: 'Inicie sesión para continuar. Puede ver y cerrar sus sesiones en cualquier momento.',
    hello: 'Hola, {name}',
    account: 'Mis sesiones',
  },
  account: {
    title: 'Su cuenta',
    sessions: 'Dónde tiene sesiones abiertas',
    lastUsed: 'último uso {time}',
    since: 'desde {time}',
    current: 'Esta sesión',
    end: 'Cerrar',
    endOne: 'Cerrar la sesión {device}, {address}',
    endOthers: 'Cerrar todas las demás sesiones',
    back: 'Volver a la página de inicio',
    notices: {
      ended: 'La sesión se ha cerrado.',
      gone: 'Esa sesión ya había terminado.',
      others: 'Todas las demás sesiones se han cerrado.',
    },
  },
  admin: {
    title: 'Sesiones de personas',
    find: 'Nombre de usuario, correo electrónico o sujeto',
    hint: 'Escríbalo completo, como lo conoce el servicio de inicio de sesión.',
    search: 'Buscar',
    nobody:
      'No se conoce a nadie así. Un nombre de usuario se conoce mientras se conserve una de sus sesiones.',
    several: '¿De quién se trata?',
    sessions: 'Sesiones abiertas',
    noSessions: 'No hay sesiones abiertas.',
    next: 'Página siguiente',
    events: 'Sucesos recientes',
    noEvents: 'No hay nada registrado.',
    endAll: 'Cerrar todas las sesiones',
    confirmOne: '¿Cerrar esta sesión de {name}?',
    confirmAll: '¿Cerrar todas las sesiones de {name}?',
    confirm: 'Cerrar ahora',
    cancel: 'Dejarlo como está',
    event: {
      login: 'Inicio de sesión',
      session_ended: 'Sesión terminada',
      refresh_failed: 'Renovación fallida',
      reuse_suspected: 'Sospecha de robo de token',
      provider_logout: 'Comunicado al servicio de inicio de sesión',
      logout_token_refused: 'Mensaje de cierre rechazado',
    },
    endReason: {
      logout: 'cierre de sesión',
      backchannel_logout: 'cierre de sesión en el servicio de inicio de sesión',
      frontchannel_logout: 'cierre de sesión en el navegador mediante el servicio',
      ended_by_user: 'cerrada en la página de la cuenta',
      ended_by_admin: 'cerrada por la administración',
      replaced: 'sustituida por un nuevo inicio de sesión',
      session_limit: 'demasiadas sesiones de una persona',
      idle_timeout: 'sin usar demasiado tiempo',
      refresh_expired: 'caducada en el servicio de inicio de sesión',
      absolute_timeout: 'duración máxima alcanzada',
      grant_ended: 'rechazada por el servicio de inicio de sesión',
      subject_changed: 'el servicio de inicio de sesión nombró a otra persona',
    },
    logoutOutcome: {
      ended: 'cerrada también allí',
      already_over: 'ya había terminado allí',
      revoked: 'acceso retirado allí',
      spared: 'se dejó allí: continúa otra sesión',
      refused: 'rechazado allí',
      expired: 'tarde: caducó por sí sola',
      postponed: 'aún no: el servicio de inicio de sesión no responde',
    },
    actor: {
      user: 'la persona',
      provider: 'servicio de inicio de sesión',
      gateway: 'pasarela',
      admin: 'administración',
      operator: 'operación',
    },
    notices: {
      ended: 'La sesión ha terminado.',
      gone: 'Ya había terminado.',
      all: 'Sesiones terminadas: {count}',
    },
  },
  person: {
    name: 'Nombre',
    userName: 'Nombre de usuario',
    email: 'Correo electrónico',
    roles: 'Roles',
    noRoles: 'ninguno',
    ends: 'Fin de la sesión',
    endsIfUnused: '{idle} si no se usa, {latest} como muy tarde',
  },
  device: '{browser} en {system}',
  unknownDevice: 'Dispositivo desconocido',
  unknownAddress: 'dirección desconocida',
  logOut: 'Cerrar sesión',
  logOutFailed:
    'No se pudo cerrar la sesión y quizá siga abierta. Inténtelo de nuevo en un momento.',
  logInAgain: 'Iniciar sesión de nuevo',
  loggedOut: {
    title: 'Ha cerrado la sesión',
    happened: 'Su sesión ha terminado. Ya puede cerrar esta página.',
  },
  over: {
    title: 'Su sesión ha terminado',
    happened:
      'No se usó durante un tiempo o se cerró en otro lugar. Inicie sesión de nuevo para continuar.',
  },
  warning: {
    extendable: 'Su sesión está a punto de terminar.',
    final: 'Su sesión está a punto de terminar y no se puede prolongar.',
    stay: 'Mantener la sesión',
  },
};
