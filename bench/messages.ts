import type { Socket } from 'node:net';
import { frame, method, shortstr } from '../test/support/amqp-frames.ts';

/** What all peers of the benchmarks propose. */
export const FRAME_MAX = 131_072;

/** The queue that is published to and consumed from. */
export const QUEUE = 'bench';

/** What the consumer calls itself. */
export const CONSUMER = 'c';

/** Octets that a peer writes at a time: as much as a busy client's socket takes. */
const CHUNK = 256 * 1024;

/** Octets on their way to a consumer at most, as with a prefetch: proxies that hold what can't be sent have bounds. */
export const WINDOW = 4 * 1024 * 1024;

/** A message as its frames: the method, the header without properties, and the body in as many frames as it needs. */
function message(start: Buffer, channel: number, size: number): Buffer {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60, 0);
  header.writeBigUInt64BE(BigInt(size), 4);
  const frames = [start, frame(2, channel, header)];
  for (let left = size; left > 0; left -= FRAME_MAX - 8) {
    frames.push(frame(3, channel, Buffer.alloc(Math.min(left, FRAME_MAX - 8), 0x61)));
  }
  return Buffer.concat(frames);
}

/** basic.publish of `size` octets to the default exchange. */
export function publish(channel: number, key: string, size: number): Buffer {
  const args = Buffer.concat([Buffer.alloc(2), shortstr(''), shortstr(key), Buffer.of(0)]);
  return message(method(channel, 60, 40, args), channel, size);
}

/** basic.deliver of `size` octets, with the delivery tag 0, to {@link CONSUMER}. */
export function delivery(channel: number, size: number): Buffer {
  const args = Buffer.concat([shortstr(CONSUMER), Buffer.alloc(9), shortstr(''), shortstr(QUEUE)]);
  return message(method(channel, 60, 60, args), channel, size);
}

/** Where the delivery tag is in {@link delivery}. */
export const TAG_AT = 11 + 1 + CONSUMER.length;

/** As many such messages as make a chunk to write. */
export function chunkOf(one: Buffer): Buffer {
  const count = Math.max(1, Math.floor(CHUNK / one.length));
  return Buffer.concat(Array<Buffer>(count).fill(one));
}

/** Messages of {@link delivery} that are sent ahead of the consumer's credit. */
export function windowOf(one: Buffer): number {
  return Math.max(2, Math.floor(WINDOW / one.length));
}

/** Writes and waits until the socket's buffer has taken all of it. */
export function written(socket: Socket, octets: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.write(octets, (error) => (error ? reject(error) : resolve()));
  });
}
