import type { IncomingMessage } from 'node:http';
import type { Gateway } from '../gateway.js';
import { hopsOf, unbelievedPeer } from '../request/forwarded.js';
import { noteRemoteAddress } from '../request/remoteAddress.js';

/**
 * Makes the function that remembers whose address a request to the gateway's own routes has. It warns once
 * of a peer that names others although it is not trusted: a reverse proxy that TRUSTED_PROXIES lacks makes
 * one address of all people.
 */
export function clientNoter({
  config,
  log,
}: Pick<Gateway, 'config' | 'log'>): (request: Request, incoming: IncomingMessage) => void {
  let warned = false;
  return (request, incoming) => {
    noteRemoteAddress(request, hopsOf(incoming, config.trustedProxies)[0]);
    const peer = warned ? null : unbelievedPeer(incoming, config.trustedProxies);
    if (peer === null) return;
    warned = true;
    log.warn(
      { event: 'proxy', address: peer },
      'X-Forwarded-For is not believed, as TRUSTED_PROXIES does not name the address that sends it: if that is a reverse proxy, all people behind it count as one address',
    );
  };
}
