import type { Redis } from 'ioredis';
import { REDIS_TIMEOUTS } from './timeouts.js';

export interface Channel {
  /** Whether the channel is listened to, as far as is known. */
  isOpen(): boolean;
  close(): void;
}

/**
 * Listens to a channel, on a new connection when one breaks. What is published meanwhile is not heard: messages only
 * tell sooner what the feed of changes in PostgreSQL tells anyway.
 */
export function openChannel({
  name,
  connect,
  onMessage,
  onError,
}: {
  name: string;
  /** A connection of its own, which does not reconnect by itself. */
  connect: () => Redis;
  onMessage: (message: string) => void;
  onError: (error: unknown) => void;
}): Channel {
  let closed = false;
  let subscribed = false;
  let timer: NodeJS.Timeout | undefined;
  let connection: Redis | undefined;

  const open = (): void => {
    const listening = connect();
    connection = listening;
    listening.on('error', onError);
    listening.on('message', (_: string, message: string) => onMessage(message));
    listening.once('end', () => {
      subscribed = false;
      if (!closed) timer = setTimeout(open, REDIS_TIMEOUTS.reconnectMs).unref();
    });
    listening.once('ready', () => {
      listening.subscribe(name).then(
        () => {
          subscribed = true;
        },
        () => listening.disconnect(),
      );
    });
  };
  open();
  return {
    isOpen: () => subscribed,
    close() {
      closed = true;
      clearTimeout(timer);
      connection?.disconnect();
    },
  };
}
