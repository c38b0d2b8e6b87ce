import type { Redis } from 'ioredis';
import { REDIS_TIMEOUTS } from './timeouts.js';

export interface Channel {
  /** The moment since which every message has been heard; null while that is not sure. */
  heardSince(): number | null;
  close(): void;
}

/** Where Redis tells a connection with tracking, in protocol 2, that everything was flushed. */
const FLUSHES = '__redis__:invalidate';

/**
 * Listens to a channel and knows whether it hears. Redis answers a PING behind all messages of before, so an answer
 * proves that whatever was published until the PING was sent has arrived. Without one for `heardForMs`, or with a new
 * connection, something may have been missed: what was known from before is void then, as it is when Redis is flushed.
 */
export function openChannel({ name, connect, onMessage, onError }: {
  name: string;
  /** A connection of its own, of protocol 2, that neither reconnects by itself nor stays when nothing is answered. */
  connect: () => Redis;
  onMessage: (message: string) => void;
  onError: (error: unknown) => void;
}): Channel {
  const { heartbeatMs, heardForMs, reconnectMs } = REDIS_TIMEOUTS;
  let since: number | null = null;
  // Sent, not answered: what is published while the answer is on its way is not covered by it.
  let provenAt = -Infinity;
  let closed = false;
  let timer: NodeJS.Timeout | undefined;
  let connection: Redis | undefined;
  const heardSince = (): number | null => (performance.now() - provenAt < heardForMs ? since : null);

  const beat = (listening: Redis): void => {
    const sentAt = performance.now();
    listening.ping().then(() => {
      // Still open for as long as the answer took: a gap may have closed meanwhile.
      if (heardSince() === null) since = Date.now();
      provenAt = sentAt;
      if (listening === connection) timer = setTimeout(() => beat(listening), heartbeatMs).unref();
    }, onError);
  };
  const listen = async (listening: Redis): Promise<void> => {
    // Without tracking (a proxy, an ACL) a flush is no news, which costs nothing but freshness.
    await listening.client('ID').then((id) => listening.client('TRACKING', 'ON', 'REDIRECT', id)).catch(() => undefined);
    await listening.subscribe(name, FLUSHES);
  };
  const open = (): void => {
    if (closed) return;
    const listening = connect();
    connection = listening;
    listening.on('error', onError);
    listening.on('message', (channel: string, message: string) => {
      if (channel === name) onMessage(message);
      else if (since !== null) since = Date.now();
    });
    listening.once('end', () => {
      if (listening !== connection) return;
      connection = undefined;
      [since, provenAt] = [null, -Infinity];
      clearTimeout(timer);
      if (!closed) timer = setTimeout(open, reconnectMs).unref();
    });
    listening.once('ready', () => void listen(listening).then(() => beat(listening), () => listening.disconnect()));
  };
  open();
  return {
    heardSince,
    close() {
      closed = true;
      clearTimeout(timer);
      connection?.disconnect();
    },
  };
}
