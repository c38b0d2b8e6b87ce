// A sample application behind the gateway: it says who is asking. It must be reachable through the gateway only.
import { createServer } from 'node:http';

createServer((request, response) => {
  const [, claims] = (request.headers.authorization ?? '').split('.');
  const who = claims ? JSON.parse(Buffer.from(claims, 'base64url')).preferred_username : 'nobody';
  response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
  response.end(`<p>Hello ${encodeURIComponent(who)}. <a href="/account">Your sessions</a></p>`);
}).listen(8080);
