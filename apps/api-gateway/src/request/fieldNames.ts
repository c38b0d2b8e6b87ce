/** Connection-specific fields, which end at this hop (RFC 9110 §7.6.1); `Expect` is answered here. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
  'host',
  'http2-settings',
]);

/**
 * What only the gateway tells an upstream: who asks, from where, and for which path. `Proxy` is among them since CGI
 * makes `HTTP_PROXY` of it, which HTTP clients take for their proxy (CVE-2016-5385).
 */
const GATEWAYS_OWN =
  /^(x-auth-.*|x-forwarded(-.*)?|forwarded|x-real-ip|x-original-.*|x-rewrite-url|proxy)$/;

/** Fields whose values applications, frameworks and other proxies take for an identity, an address or a method. */
const IDENTITY = new Set([
  // Another method than the one that was judged.
  'x-http-method-override',
  'x-http-method',
  'x-method-override',
  // Another host or scheme.
  'front-end-https',
  'x-backend-host',
  'x-host',
  'x-http-host-override',
  'x-scheme',
  'x-url-scheme',
  // Another address of the client: CDNs, load balancers, application servers.
  'cf-connecting-ip',
  'cf-connecting-ipv6',
  'cf-pseudo-ipv4',
  'ali-cdn-real-ip',
  'cdn-src-ip',
  'client-ip',
  'do-connecting-ip',
  'fastly-client-ip',
  'fly-client-ip',
  'forwarded-for',
  'incap-client-ip',
  'proxy-client-ip',
  'remote-addr',
  'remote-host',
  'remote-ip',
  'true-client-ip',
  'x-appengine-user-ip',
  'x-azure-clientip',
  'x-azure-socketip',
  'x-client-ip',
  'x-clientip',
  'x-cluster-client-ip',
  'x-coming-from',
  'x-nf-client-connection-ip',
  'x-originating-ip',
  'x-proxyuser-ip',
  'x-real-port',
  'x-source-ip',
  'x-true-ip',
  // Somebody else: names that are in general use.
  'auth-user',
  'authenticated-user',
  'authuser',
  'eppn',
  'logon-user',
  'remote-email',
  'remote-group',
  'remote-groups',
  'remote-ident',
  'remote-name',
  'remote-user',
  'x-auth',
  'x-email',
  'x-groups',
  'x-roles',
  'x-user',
  'x-user-email',
  'x-user-groups',
  'x-user-id',
  'x-user-name',
  'x-user-role',
  'x-user-roles',
  'x-userid',
  'x-userinfo',
  'x-username',
  // Loki's and Mimir's tenant.
  'x-scope-orgid',
  // oauth2-proxy, Google's API gateways, Istio, SiteMinder without its dash.
  'gap-auth',
  'smuser',
  'x-apigateway-api-userinfo',
  'x-endpoint-api-userinfo',
  'x-jwt-payload',
  // Kong's consumer.
  'x-anonymous-consumer',
  'x-credential-identifier',
  'x-credential-username',
  // Rack's, which lead to files of the server (CVE-2025-61780).
  'x-accel-mapping',
  'x-sendfile-type',
  // Next.js' requests to itself, which skip its middleware (CVE-2025-29927).
  'x-middleware-subrequest',
  'x-middleware-subrequest-id',
]);

/**
 * Families of such fields: client certificates (RFC 9440 and others), Kubernetes' impersonation, Grafana's and Gitea's
 * auth proxy, Kong, Pomerium, Authentik, Vouch, Tailscale, SiteMinder, Shibboleth, mod_auth_openidc, IBM's and Oracle's
 * access managers, WebLogic, the identity-aware proxies of the large clouds, Cloudflare Access, and Envoy's own.
 */
const IDENTITY_FAMILY =
  /^(?:(?:x-)?client-cert|(?:x-)?ssl-|x-tls-|x-client-(?:dn|verify)|x-arr-|impersonate-|x-remote-|x-webauth-|x-consumer-|x-authenticated-|x-pomerium-|x-authentik-|x-vouch-|x-sso-|x-proxy-|tailscale-|sm-|shib-|oidc-|iv-|oam-|osso-|wl-proxy-|x-goog-(?:authenticated-user-|iap-)|x-amzn-(?:oidc-|mtls-)|x-ms-(?:client-principal|token-)|cf-access-|x-appengine-|x-envoy-|x-vercel-)/;

/** A field's name as CGI and WSGI servers compare it: they read `_` as `-`, some of them any other character too. */
export const fieldKey = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '-');

/** Whether a field ends at the gateway whatever a route says. `key`: what `fieldKey` makes of its name. */
export const endsHere = (key: string): boolean => HOP_BY_HOP.has(key) || GATEWAYS_OWN.test(key);

/** Whether a field of an answer ends at the gateway: of the connection, or said for the whole host. */
export const endsHereInAnswers = (key: string): boolean =>
  HOP_BY_HOP.has(key) || SAID_FOR_THE_HOST.has(key);

/** Whether applications are known to take a field of this name for an identity, an address or a method. */
export const isTakenForIdentity = (key: string): boolean =>
  IDENTITY.has(key) || IDENTITY_FAMILY.test(key);

/**
 * What holds for every upstream behind this host, or for the gateway's own cookies and pages: no single upstream may
 * say it. `NEL` would report the addresses of requests to the gateway, with their codes.
 */
const SAID_FOR_THE_HOST = new Set([
  'alt-svc',
  'clear-site-data',
  'expect-ct',
  'nel',
  'public-key-pins',
  'public-key-pins-report-only',
  'strict-transport-security',
  'x-request-id',
]);
