// Loaded before the gateway: gives its public server one more path, which answers what /auth/verify answers without
// looking anything up, on the same listener and in the same process.
import http from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import process from 'node:process';

const headers = JSON.parse(process.env.BENCH_BASELINE_HEADERS ?? '{}');
const createServer = http.createServer;
http.createServer = (...args) => {
  const listener = args.at(-1);
  return typeof listener !== 'function'
    ? createServer(...args)
    : createServer(...args.slice(0, -1), (request, response) => {
        if (request.url === '/baseline')
          response.writeHead(200, { ...headers, 'Content-Length': '0' }).end();
        else listener(request, response);
      });
};
syncBuiltinESMExports();
