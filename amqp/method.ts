import { FRAME_END, FRAME_HEADER_SIZE, FRAME_METHOD, METHOD, REPLY, REPLY_NAME } from './constants.ts';
import { WireError } from './error.ts';
import { withUint16, withUint32, writeUint32 } from './splice.ts';
import { readUint32, tableEnd } from './table.ts';

/** The first octet of a method's arguments in a frame: behind the frame header and the two ids. */
export const ARGUMENTS = 11;

const utf8 = new TextDecoder('utf-8', { fatal: false });

/** Where the parts of a method lie in its frame: one with a name, flag bits and, last, a table of arguments. */
export interface MethodSpans {
  /** The queue's or exchange's name, without its length octet; ends exclusive. */
  readonly nameStart: number;
  readonly nameEnd: number;
  /** The octet that holds the flag bits. */
  readonly flagsAt: number;
  /** The length field of the arguments table. */
  readonly tableStart: number;
}

/** Flag bits of queue.declare (AMQP 0-9-1 section 1.7.2.1), the first bit lowest. */
export const QUEUE_DECLARE = { passive: 1, durable: 2, exclusive: 4, autoDelete: 8, noWait: 16 } as const;

/** Flag bits of exchange.declare (section 1.6.2.1); auto-delete and internal are RabbitMQ's use of reserved bits. */
export const EXCHANGE_DECLARE = { passive: 1, durable: 2, autoDelete: 4, internal: 8, noWait: 16 } as const;

/**
 * The parts of a complete queue.declare frame: reserved short, name, flags, arguments.
 * @throws WireError 502 when an argument reaches beyond the frame or octets are left over
 */
export function readQueueDeclare(frame: Uint8Array): MethodSpans {
  return readSpans(frame, 1);
}

/**
 * The parts of a complete exchange.declare frame: reserved short, name, type, flags, arguments.
 * @throws WireError 502 when an argument reaches beyond the frame or octets are left over
 */
export function readExchangeDeclare(frame: Uint8Array): MethodSpans {
  return readSpans(frame, 2);
}

/**
 * The parts of a complete basic.consume frame: reserved short, queue, consumer tag, flags, arguments.
 * @throws WireError 502 when an argument reaches beyond the frame or octets are left over
 */
export function readBasicConsume(frame: Uint8Array): MethodSpans {
  return readSpans(frame, 2);
}

/** Flag bits of basic.consume (section 1.8.2.3). */
export const BASIC_CONSUME = { noLocal: 1, noAck: 2, exclusive: 4, noWait: 8 } as const;

/**
 * Where the consumer tag lies in a complete basic.cancel, basic.cancel-ok or basic.consume-ok frame; for the former, the
 * octet behind it holds no-wait as its lowest bit.
 * @throws WireError 502 when it is cut off
 */
export function readConsumerTag(frame: Uint8Array): { tagStart: number; tagEnd: number } {
  return { tagStart: ARGUMENTS + 1, tagEnd: skipShortstr(frame, ARGUMENTS, frame.length - 1) };
}

/**
 * The prefetch count of a complete basic.qos frame, and where its flag octet lies: bit 1 is global (section 1.8.2.1).
 * @throws WireError 502 when it is cut off or octets are left over
 */
export function readBasicQos(frame: Uint8Array): { prefetchCount: number; flagsAt: number } {
  const flagsAt = ARGUMENTS + 6;
  if (frame.length !== flagsAt + 2) throw new WireError(REPLY.syntaxError, 'basic.qos of a wrong length');
  return { prefetchCount: (frame[ARGUMENTS + 4]! << 8) | frame[ARGUMENTS + 5]!, flagsAt };
}

function readSpans(frame: Uint8Array, shortstrs: number): MethodSpans {
  const limit = frame.length - 1;
  const nameStart = ARGUMENTS + 3;
  const nameEnd = skipShortstr(frame, ARGUMENTS + 2, limit);
  const flagsAt = shortstrs === 1 ? nameEnd : skipShortstr(frame, nameEnd, limit);
  const tableStart = flagsAt + 1;
  const end = tableEnd(frame, tableStart, limit);
  if (end !== limit) throw new WireError(REPLY.syntaxError, `${limit - end} octets behind the arguments`);
  return { nameStart, nameEnd, flagsAt, tableStart };
}

/** The end of the short string whose length octet is at `at`. @throws WireError 502 when it reaches beyond `limit` */
export function skipShortstr(frame: Uint8Array, at: number, limit: number): number {
  const end = at + 1 + (at < limit ? frame[at]! : 0);
  if (end > limit) throw new WireError(REPLY.syntaxError, 'short string cut off');
  return end;
}

/** channel_max of a complete connection.tune or connection.tune-ok frame; 0 is no limit. */
export function readChannelMax(frame: Uint8Array): number {
  if (frame.length - 1 < ARGUMENTS + 8) throw new WireError(REPLY.syntaxError, 'connection.tune cut off');
  return (frame[ARGUMENTS]! << 8) | frame[ARGUMENTS + 1]!;
}

/** A complete connection.tune or connection.tune-ok frame with another channel_max. */
export function withChannelMax(tune: Uint8Array, channelMax: number): Uint8Array {
  return withUint16(tune, ARGUMENTS, channelMax);
}

/** The channel of a complete frame. */
export function channelOf(frame: Uint8Array): number {
  return (frame[1]! << 8) | frame[2]!;
}

/** The method of a complete frame: class * 65536 + method, 0 where it isn't a method frame. */
export function methodOf(frame: Uint8Array): number {
  return frame[0] === FRAME_METHOD ? readUint32(frame, FRAME_HEADER_SIZE) : 0;
}

/** A complete frame on another channel. */
export function withChannel(frame: Uint8Array, channel: number): Uint8Array {
  return withUint16(frame, 1, channel);
}

/** Flag bits of queue.delete (section 1.7.2.9). */
export const QUEUE_DELETE = { ifUnused: 1, ifEmpty: 2, noWait: 4 } as const;

/**
 * Where the queue's name and the flags lie in a complete queue.delete frame.
 * @throws WireError 502 when an argument reaches beyond the frame or octets are left over
 */
export function readQueueDelete(frame: Uint8Array): Omit<MethodSpans, 'tableStart'> {
  const flagsAt = skipShortstr(frame, ARGUMENTS + 2, frame.length - 1);
  if (flagsAt + 2 !== frame.length) throw new WireError(REPLY.syntaxError, 'queue.delete of a wrong length');
  return { nameStart: ARGUMENTS + 3, nameEnd: flagsAt, flagsAt };
}

/** Messages ready and consumers, as a complete queue.declare-ok frame tells them. @throws WireError 502 when cut off */
export function readQueueDeclareOk(frame: Uint8Array): { messages: number; consumers: number } {
  const at = skipShortstr(frame, ARGUMENTS, frame.length - 1);
  if (at + 8 !== frame.length - 1)
    throw new WireError(REPLY.syntaxError, 'queue.declare-ok of a wrong length');
  return { messages: readUint32(frame, at), consumers: readUint32(frame, at + 4) };
}

/** The virtual host of a complete connection.open frame. @throws WireError 502 when it is cut off */
export function readVirtualHost(frame: Uint8Array): string {
  const end = skipShortstr(frame, ARGUMENTS, frame.length - 1);
  return utf8.decode(frame.subarray(ARGUMENTS + 1, end));
}

/** A basic.cancel, to be answered, of the consumer with this tag, in octets as on the wire. */
export function encodeBasicCancel(channel: number, tag: Uint8Array): Uint8Array {
  const args = new Uint8Array(1 + tag.length + 1);
  args[0] = tag.length;
  args.set(tag, 1);
  return encodeMethod(channel, METHOD.basicCancel, args);
}

/** A queue.delete without conditions of the queue with this name, in octets as on the wire. */
export function encodeQueueDelete(channel: number, name: Uint8Array): Uint8Array {
  const args = new Uint8Array(2 + 1 + name.length + 1);
  args[2] = name.length;
  args.set(name, 3);
  return encodeMethod(channel, METHOD.queueDelete, args);
}

/** A passive queue.declare of the queue with this name, in octets as on the wire. */
export function encodePassiveDeclare(channel: number, name: Uint8Array): Uint8Array {
  const args = new Uint8Array(2 + 1 + name.length + 1 + 4);
  args[2] = name.length;
  args.set(name, 3);
  args[3 + name.length] = QUEUE_DECLARE.passive;
  return encodeMethod(channel, METHOD.queueDeclare, args);
}

/** frame_max in octets of a complete connection.tune or connection.tune-ok frame; 0 is no limit. */
export function readFrameMax(frame: Uint8Array): number {
  if (frame.length - 1 < ARGUMENTS + 8) throw new WireError(REPLY.syntaxError, 'connection.tune cut off');
  return readUint32(frame, ARGUMENTS + 2);
}

/** A complete connection.tune-ok frame with another frame_max, in octets. */
export function withFrameMax(tuneOk: Uint8Array, frameMax: number): Uint8Array {
  return withUint32(tuneOk, ARGUMENTS + 2, frameMax);
}

/** Reply code and text of a complete connection.close or channel.close frame. @throws WireError 502 when it is cut off */
export function readClose(frame: Uint8Array): { replyCode: number; replyText: string } {
  const limit = frame.length - 1;
  const end = skipShortstr(frame, ARGUMENTS + 2, limit);
  return {
    replyCode: (frame[ARGUMENTS]! << 8) | frame[ARGUMENTS + 1]!,
    replyText: utf8.decode(frame.subarray(ARGUMENTS + 3, end)),
  };
}

/** A method frame. @param method class * 65536 + method  @param args the encoded arguments */
export function encodeMethod(channel: number, method: number, args: Uint8Array): Uint8Array {
  // No view of its buffer: V8 moves small octets out of its heap for that, which costs several times as much.
  const frame = new Uint8Array(ARGUMENTS + args.length + 1);
  frame[0] = FRAME_METHOD;
  frame[1] = channel >>> 8;
  frame[2] = channel;
  writeUint32(frame, 3, frame.length - 8);
  writeUint32(frame, FRAME_HEADER_SIZE, method);
  frame.set(args, ARGUMENTS);
  frame[frame.length - 1] = FRAME_END;
  return frame;
}

/**
 * A connection.close frame (section 1.4.2.9), or a channel.close for another channel than 0. Its text begins with the code's name, as a broker's does, and is cut to
 * the 255 octets of a short string.
 * @param method class * 65536 + method of the method at fault, 0 for none
 */
export function encodeClose(replyCode: number, text: string, method = 0, channel = 0): Uint8Array {
  const name = REPLY_NAME[replyCode];
  const octets = cutUtf8(new TextEncoder().encode(name === undefined ? text : `${name} - ${text}`), 255);
  const args = new Uint8Array(2 + 1 + octets.length + 4);
  args[0] = replyCode >>> 8;
  args[1] = replyCode;
  args[2] = octets.length;
  args.set(octets, 3);
  writeUint32(args, args.length - 4, method);
  return encodeMethod(channel, channel === 0 ? METHOD.connectionClose : METHOD.channelClose, args);
}

/** UTF-8 cut to `max` octets at most, between two characters. */
export function cutUtf8(octets: Uint8Array, max: number): Uint8Array {
  let end = Math.min(octets.length, max);
  // 10xxxxxx is inside a character: go back to where one begins
  while (end < octets.length && (octets[end]! & 0xc0) === 0x80) end--;
  return octets.subarray(0, end);
}
