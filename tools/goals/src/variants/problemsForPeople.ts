import { type IncomingMessage, Server } from 'node:http';

// People get what programs get, and a callback whose login is gone is refused, whoever is logged in.
const emit = Reflect.get(Server.prototype, 'emit') as (...args: unknown[]) => boolean;
Server.prototype.emit = function (this: Server, ...args: unknown[]): boolean {
  if (args[0] === 'request') worsen(args[1] as IncomingMessage);
  return Reflect.apply(emit, this, args);
};

function worsen(request: IncomingMessage): void {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
  const isProtected = pathname.startsWith('/api') || pathname === '/account' || pathname === '/';
  if (!isProtected && pathname !== '/auth/login') {
    request.headers['sec-fetch-mode'] = 'cors';
    request.headers.accept = 'application/json';
  }
  const state = searchParams.get('state') ?? '';
  const knowsLogin = (request.headers.cookie ?? '').includes('login-') && state !== '';
  if (pathname !== '/auth/callback' || (knowsLogin && !searchParams.has('error'))) return;
  delete request.headers.cookie;
  request.url = `${request.url ?? ''}&state=again`;
}
await import('../../../../apps/api-gateway/src/main.js');
