import { once } from 'node:events';
import type { Socket } from 'node:net';
import { frame, method, shortstr } from '../test/support/amqp-frames.ts';

/** What all peers of the benchmarks propose. */
export const FRAME_MAX = 131_072;

/** A message as its frames: the method, the header without properties, and the body in as many frames as it needs. */
export function message(start: Buffer, channel: number, size: number): Buffer {
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

/** How many such messages make a chunk to write. */
export function messagesInChunk(one: Buffer): number {
  return Math.max(1, Math.floor(65_536 / one.length));
}

/** Writes a message `count` times, as fast as it is taken. */
export async function send(socket: Socket, one: Buffer, count: number): Promise<void> {
  const chunk = Buffer.concat(Array<Buffer>(messagesInChunk(one)).fill(one));
  for (let left = count * one.length; left > 0; left -= chunk.length) {
    if (!socket.write(chunk.subarray(0, left))) await once(socket, 'drain');
  }
}
