import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const CLOSE = 0x8;

/** Answers a WebSocket handshake and sends every frame back (RFC 6455), unmasked; ends after a close frame. */
export function echoWebSocket(request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const accept = createHash('sha1')
    .update(`${request.headers['sec-websocket-key'] ?? ''}${GUID}`)
    .digest('base64');
  const protocol = request.headers['sec-websocket-protocol']?.split(',')[0];
  socket.write(
    [
      'HTTP/1.1 101 Switching Protocols',
      'Upgrade: websocket',
      'Connection: Upgrade',
      `Sec-WebSocket-Accept: ${accept}`,
      ...(protocol === undefined ? [] : [`Sec-WebSocket-Protocol: ${protocol}`]),
      '',
      '',
    ].join('\r\n'),
  );
  let pending = head;
  const take = (): void => {
    for (let frame = frameOf(pending); frame !== null; frame = frameOf(pending)) {
      pending = pending.subarray(frame.size);
      const more = socket.write(frame.answer);
      if (frame.opcode === CLOSE) return void socket.end();
      if (!more) {
        socket.pause();
        socket.once('drain', () => socket.resume());
      }
    }
  };
  socket.on('error', () => socket.destroy());
  socket.on('end', () => socket.end());
  socket.on('data', (piece: Buffer) => {
    pending = Buffer.concat([pending, piece]);
    take();
  });
  take();
}

/** How many bytes the length takes where the first one has this value (RFC 6455 §5.2). */
const EXTENDED_BYTES: Readonly<Record<number, number>> = { 126: 2, 127: 8 };

/** The first whole frame of these bytes with its echo, or null while it is not whole. */
function frameOf(bytes: Buffer): { size: number; opcode: number; answer: Buffer } | null {
  if (bytes.length < 2) return null;
  const short = bytes.readUInt8(1) & 0x7f;
  const extended = EXTENDED_BYTES[short] ?? 0;
  const start = 2 + extended + 4;
  if (bytes.length < start) return null;
  let length = short;
  if (extended === 2) length = bytes.readUInt16BE(2);
  if (extended === 8) length = Number(bytes.readBigUInt64BE(2));
  if (bytes.length < start + length) return null;
  const mask = bytes.subarray(start - 4, start);
  const payload = Buffer.from(bytes.subarray(start, start + length));
  for (let i = 0; i < length; i += 1) payload[i] = (payload[i] ?? 0) ^ (mask[i % 4] ?? 0);
  const head = Buffer.from(bytes.subarray(0, 2 + extended));
  head[1] = short;
  return {
    size: start + length,
    opcode: bytes.readUInt8(0) & 0x0f,
    answer: Buffer.concat([head, payload]),
  };
}
