// One Express route for good bearer tokens, guarded by @session-gateway/guard or by keycloak-connect: PEER says which.
import process from 'node:process';
import express from 'express';

const { PEER, PEER_PORT, PEER_REALM, PEER_AUTH_SERVER, PEER_CLIENT_ID } = process.env;
const app = express();
app.disable('x-powered-by');
app.get('/open', (_request, response) => response.status(200).end());
app.use(await (PEER === 'guard' ? guarded() : keycloakConnect()));
app.listen(Number(PEER_PORT), '127.0.0.1', () => process.send?.('listening'));

async function guarded() {
  const built = (name) => new URL(`../../../../../dist/libs/guard/${name}`, import.meta.url).href;
  const { createGuard } = await import(built('index.js'));
  const { expressGuard } = await import(built('express.js'));
  const { protect } = expressGuard(
    createGuard({ issuer: `${PEER_AUTH_SERVER}/realms/${PEER_REALM}`, audience: PEER_CLIENT_ID }),
  );
  return routeWith(express.Router(), protect('realm:user'));
}

async function keycloakConnect() {
  const { default: Keycloak } = await import('keycloak-connect');
  const keycloak = new Keycloak(
    {},
    {
      realm: PEER_REALM,
      'auth-server-url': PEER_AUTH_SERVER,
      'ssl-required': 'none',
      resource: PEER_CLIENT_ID,
      'bearer-only': true,
      'verify-token-audience': true,
      'confidential-port': 0,
    },
  );
  const router = express.Router();
  router.use(keycloak.middleware());
  return routeWith(router, keycloak.protect('realm:user'));
}

function routeWith(router, protect) {
  router.get('/protected', protect, (_request, response) => response.status(200).end());
  return router;
}
