// The methods of a client that sends every bit itself, as frames; the declares are in amqp-frames.ts.
import { frame, method, shortstr } from './amqp-frames.ts';

const RESERVED = Buffer.alloc(2);
const NO_TABLE = Buffer.alloc(4);

export function channelOpen(channel: number): Buffer {
  return method(channel, 20, 10, shortstr(''));
}

export function channelClose(channel: number): Buffer {
  return method(channel, 20, 40, Buffer.concat([Buffer.of(0, 200), shortstr('bye'), Buffer.alloc(4)]));
}

export function channelCloseOk(channel: number): Buffer {
  return method(channel, 20, 41);
}

export function connectionClose(): Buffer {
  return method(0, 10, 50, Buffer.concat([Buffer.of(0, 200), shortstr('bye'), Buffer.alloc(4)]));
}

export function queueBind(channel: number, queue: string, exchange: string, key: string): Buffer {
  const names = [queue, exchange, key].map(shortstr);
  return method(channel, 50, 20, Buffer.concat([RESERVED, ...names, Buffer.of(0), NO_TABLE]));
}

export function queueUnbind(channel: number, queue: string, exchange: string, key: string): Buffer {
  const names = [queue, exchange, key].map(shortstr);
  return method(channel, 50, 50, Buffer.concat([RESERVED, ...names, NO_TABLE]));
}

export function queuePurge(channel: number, queue: string): Buffer {
  return method(channel, 50, 30, Buffer.concat([RESERVED, shortstr(queue), Buffer.of(0)]));
}

/** `flags`: if-unused 1, if-empty 2, no-wait 4. */
export function queueDelete(channel: number, queue: string, flags = 0): Buffer {
  return method(channel, 50, 40, Buffer.concat([RESERVED, shortstr(queue), Buffer.of(flags)]));
}

/** basic.qos of `count` messages. */
export function prefetch(channel: number, count: number, global: boolean): Buffer {
  const args = Buffer.alloc(7);
  args.writeUInt16BE(count, 4);
  args.writeUInt8(global ? 1 : 0, 6);
  return method(channel, 60, 10, args);
}

export function basicCancel(channel: number, tag: string, { noWait = false } = {}): Buffer {
  return method(channel, 60, 30, Buffer.concat([shortstr(tag), Buffer.of(noWait ? 1 : 0)]));
}

/** basic.publish with its content in three frames, or two where the body is empty. */
export function basicPublish(
  channel: number,
  key: string,
  body: string,
  {
    exchange = '',
    priority,
    size,
  }: {
    exchange?: string;
    priority?: number | undefined;
    /** What the header says of the body, where that is not what it has. */
    size?: number;
  } = {},
): Buffer {
  const octets = Buffer.from(body);
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60, 0);
  header.writeBigUInt64BE(BigInt(size ?? octets.length), 4);
  if (priority !== undefined) header.writeUInt16BE(1 << 11, 12);
  return Buffer.concat([
    method(channel, 60, 40, Buffer.concat([RESERVED, shortstr(exchange), shortstr(key), Buffer.of(0)])),
    frame(2, channel, priority === undefined ? header : Buffer.concat([header, Buffer.of(priority)])),
    ...(octets.length === 0 ? [] : [frame(3, channel, octets)]),
  ]);
}

export function basicGet(channel: number, queue: string, noAck = true): Buffer {
  return method(channel, 60, 70, Buffer.concat([RESERVED, shortstr(queue), Buffer.of(noAck ? 1 : 0)]));
}

function deliveryTag(tag: number, flags: number): Buffer {
  const args = Buffer.alloc(9);
  args.writeBigUInt64BE(BigInt(tag));
  args.writeUInt8(flags, 8);
  return args;
}

export function basicAck(channel: number, tag: number): Buffer {
  return method(channel, 60, 80, deliveryTag(tag, 0));
}

/** basic.reject that puts the message back. */
export function basicReject(channel: number, tag: number): Buffer {
  return method(channel, 60, 90, deliveryTag(tag, 1));
}

/** basic.nack that puts the message back. */
export function basicNack(channel: number, tag: number): Buffer {
  return method(channel, 60, 120, deliveryTag(tag, 2));
}

/** basic.recover that puts all unacknowledged messages back. */
export function basicRecover(channel: number): Buffer {
  return method(channel, 60, 110, Buffer.of(1));
}

export function confirmSelect(channel: number): Buffer {
  return method(channel, 85, 10, Buffer.of(0));
}
