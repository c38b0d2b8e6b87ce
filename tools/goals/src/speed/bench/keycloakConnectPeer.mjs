// The usual way to protect a route: express, express-session in Redis by connect-redis, keycloak-connect.
import process from 'node:process';
import { RedisStore } from 'connect-redis';
import express from 'express';
import session from 'express-session';
import { Redis } from 'ioredis';
import Keycloak from 'keycloak-connect';

const {
  PEER_PORT,
  PEER_REDIS_URL,
  PEER_REALM,
  PEER_AUTH_SERVER,
  PEER_CLIENT_ID,
  PEER_CLIENT_SECRET,
} = process.env;
const store = new RedisStore({ client: new Redis(PEER_REDIS_URL) });
const keycloak = new Keycloak(
  { store },
  {
    realm: PEER_REALM,
    'auth-server-url': PEER_AUTH_SERVER,
    'ssl-required': 'none',
    resource: PEER_CLIENT_ID,
    credentials: { secret: PEER_CLIENT_SECRET },
    'confidential-port': 0,
  },
);
const app = express();
app.disable('x-powered-by');
app.use(
  session({
    store,
    secret: 'a secret for a benchmark',
    resave: false,
    saveUninitialized: false,
    name: 'peer',
  }),
);
app.use(keycloak.middleware());
app.get('/protected', keycloak.protect(), (_request, response) => response.status(200).end());
app.listen(Number(PEER_PORT), '127.0.0.1', () => process.send?.('listening'));
