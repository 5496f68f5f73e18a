import { FRAME_END, FRAME_HEARTBEAT, METHOD, REPLY } from './constants.ts';
import { WireError } from './error.ts';
import { ARGUMENTS, cutUtf8, encodeMethod, readChannelMax, readFrameMax, skipShortstr } from './method.ts';
import { withLongstr, withShortstr, writeUint32 } from './splice.ts';
import { findEntry, readUint32, tableEnd } from './table.ts';
import { encodeShortstr, encodeTable, type FieldTable } from './values.ts';

/**
 * Both sides of a connection's handshake (AMQP 0-9-1 section 1.4) and the small frames of a peer that opens and closes
 * channels. Frames that are read are complete, type to end octet; nothing that is returned refers to them.
 */

const utf8 = new TextDecoder('utf-8', { fatal: false });
const toUtf8 = new TextEncoder();
const NO_ARGUMENTS = new Uint8Array(0);

/** What a client answers to connection.start (section 1.4.2.2). */
export interface StartOk {
  /** The SASL mechanism, such as PLAIN. */
  readonly mechanism: string;
  /** The SASL response: it holds the password. */
  readonly response: Uint8Array;
  readonly locale: string;
  /** Whether the client says that it is capable of this, such as `authentication_failure_close`. */
  has(capability: string): boolean;
}

/**
 * A client's connection.start-ok.
 * @throws WireError 502 when an argument reaches beyond the frame, octets are left over or its properties are malformed
 */
export function readStartOk(frame: Uint8Array): StartOk {
  const limit = frame.length - 1;
  const mechanismAt = tableEnd(frame, ARGUMENTS, limit);
  const responseAt = skipShortstr(frame, mechanismAt, limit);
  const localeAt = longstrEnd(frame, responseAt, limit);
  const end = skipShortstr(frame, localeAt, limit);
  if (end !== limit)
    throw new WireError(REPLY.syntaxError, `${limit - end} octets behind connection.start-ok`);
  const capabilities = capabilitiesOf(frame, limit);
  return {
    mechanism: utf8.decode(frame.subarray(mechanismAt + 1, responseAt)),
    response: new Uint8Array(frame.subarray(responseAt + 4, localeAt)),
    locale: utf8.decode(frame.subarray(localeAt + 1, end)),
    has: (capability) => isTrue(capabilities, capability),
  };
}

const NO_TABLE = new Uint8Array(4);

/** A copy of the table `capabilities` in the client's properties, walked once so that reading it can't fail. */
function capabilitiesOf(frame: Uint8Array, limit: number): Uint8Array {
  const entry = findEntry(frame, ARGUMENTS, limit, 'capabilities');
  if (entry === undefined || entry.tag !== 0x46) return NO_TABLE;
  const table = new Uint8Array(frame.subarray(entry.valueStart, entry.end));
  isTrue(table, '');
  return table;
}

function isTrue(table: Uint8Array, key: string): boolean {
  const entry = findEntry(table, 0, table.length, key);
  return entry !== undefined && entry.tag === 0x74 && table[entry.valueStart] !== 0;
}

/** The SASL mechanisms that a broker's connection.start offers, in its order. @throws WireError 502 when it is cut off */
export function readMechanisms(start: Uint8Array): string[] {
  const limit = start.length - 1;
  const at = tableEnd(start, ARGUMENTS + 2, limit); // behind the version's two octets
  const text = utf8.decode(start.subarray(at + 4, longstrEnd(start, at, limit)));
  return text.split(' ').filter((name) => name !== '');
}

/**
 * connection.start with other mechanisms; every other octet stays.
 * @param names ASCII, none with a space
 * @throws WireError 502 when it is cut off
 */
export function withMechanisms(start: Uint8Array, names: readonly string[]): Uint8Array {
  const at = tableEnd(start, ARGUMENTS + 2, start.length - 1);
  return withLongstr(start, at, toUtf8.encode(names.join(' ')));
}

/**
 * connection.start-ok with another login; every other octet stays.
 * @param mechanism ASCII, at most 255 octets
 * @throws WireError 502 when an argument reaches beyond the frame
 */
export function withLogin(startOk: Uint8Array, mechanism: string, response: Uint8Array): Uint8Array {
  const mechanismAt = tableEnd(startOk, ARGUMENTS, startOk.length - 1);
  const renamed = withShortstr(startOk, mechanismAt, mechanism);
  return withLongstr(renamed, mechanismAt + 1 + mechanism.length, response);
}

function longstrEnd(frame: Uint8Array, at: number, limit: number): number {
  if (limit - at < 4) throw new WireError(REPLY.syntaxError, 'long string without a length');
  const end = at + 4 + readUint32(frame, at);
  if (end > limit) throw new WireError(REPLY.syntaxError, 'long string cut off');
  return end;
}

/**
 * connection.start-ok.
 * @param properties the client's properties; whole numbers as bigint
 * @throws RangeError when the mechanism, the locale or a key has more than 255 octets
 */
export function encodeStartOk(
  properties: FieldTable,
  { mechanism, response, locale }: Pick<StartOk, 'mechanism' | 'response' | 'locale'>,
): Uint8Array {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, response.length);
  const parts = [
    encodeTable(properties),
    encodeShortstr(mechanism),
    length,
    response,
    encodeShortstr(locale),
  ];
  const args = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    args.set(part, at);
    at += part.length;
  }
  return encodeMethod(0, METHOD.connectionStartOk, args);
}

/** Limits of a connection; 0 is no limit, and for the heartbeat none at all (section 1.4.2.5). */
export interface Tune {
  readonly channelMax: number;
  /** In octets. */
  readonly frameMax: number;
  /** In seconds. */
  readonly heartbeat: number;
}

/** What a connection.tune or connection.tune-ok says. @throws WireError 502 when it is cut off */
export function readTune(frame: Uint8Array): Tune {
  return {
    channelMax: readChannelMax(frame),
    frameMax: readFrameMax(frame),
    heartbeat: (frame[ARGUMENTS + 6]! << 8) | frame[ARGUMENTS + 7]!,
  };
}

export function encodeTune(tune: Tune): Uint8Array {
  return encodeMethod(0, METHOD.connectionTune, tuneArguments(tune));
}

export function encodeTuneOk(tune: Tune): Uint8Array {
  return encodeMethod(0, METHOD.connectionTuneOk, tuneArguments(tune));
}

function tuneArguments({ channelMax, frameMax, heartbeat }: Tune): Uint8Array {
  const args = new Uint8Array(8);
  args[0] = channelMax >>> 8;
  args[1] = channelMax;
  writeUint32(args, 2, frameMax);
  args[6] = heartbeat >>> 8;
  args[7] = heartbeat;
  return args;
}

/**
 * connection.open.
 * @throws WireError 502 when the name has more than 255 octets: one read from a client has them only if it was no UTF-8
 */
export function encodeOpen(virtualHost: string): Uint8Array {
  const name = toUtf8.encode(virtualHost);
  if (name.length > 255) {
    throw new WireError(REPLY.syntaxError, `virtual host of ${name.length} octets`, METHOD.connectionOpen);
  }
  const args = new Uint8Array(1 + name.length + 2);
  args[0] = name.length;
  args.set(name, 1);
  return encodeMethod(0, METHOD.connectionOpen, args);
}

/** connection.open-ok. */
export const OPEN_OK: Uint8Array = encodeMethod(0, METHOD.connectionOpenOk, new Uint8Array(1));

/** connection.close-ok. */
export const CLOSE_OK: Uint8Array = encodeMethod(0, METHOD.connectionCloseOk, NO_ARGUMENTS);

/** A heartbeat frame (section 4.2.7). */
export const HEARTBEAT: Uint8Array = Uint8Array.of(FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END);

/** connection.unblocked, RabbitMQ's. */
export const UNBLOCKED: Uint8Array = encodeMethod(0, METHOD.connectionUnblocked, NO_ARGUMENTS);

/** connection.blocked, RabbitMQ's; the reason is cut to the 255 octets of a short string. */
export function encodeBlocked(reason: string): Uint8Array {
  const octets = cutUtf8(toUtf8.encode(reason), 255);
  const args = new Uint8Array(1 + octets.length);
  args[0] = octets.length;
  args.set(octets, 1);
  return encodeMethod(0, METHOD.connectionBlocked, args);
}

/** The reason that a connection.blocked tells. @throws WireError 502 when it is cut off */
export function readBlocked(frame: Uint8Array): string {
  const end = skipShortstr(frame, ARGUMENTS, frame.length - 1);
  return utf8.decode(frame.subarray(ARGUMENTS + 1, end));
}

export function encodeChannelOpen(channel: number): Uint8Array {
  return encodeMethod(channel, METHOD.channelOpen, new Uint8Array(1));
}

export function encodeChannelOpenOk(channel: number): Uint8Array {
  return encodeMethod(channel, METHOD.channelOpenOk, new Uint8Array(4));
}

export function encodeChannelCloseOk(channel: number): Uint8Array {
  return encodeMethod(channel, METHOD.channelCloseOk, NO_ARGUMENTS);
}

export function encodeConfirmSelectOk(channel: number): Uint8Array {
  return encodeMethod(channel, METHOD.confirmSelectOk, NO_ARGUMENTS);
}

/** channel.flow: `active` false asks the peer to send no content. */
export function encodeFlow(channel: number, active: boolean): Uint8Array {
  return encodeMethod(channel, METHOD.channelFlow, Uint8Array.of(active ? 1 : 0));
}

export function encodeFlowOk(channel: number, active: boolean): Uint8Array {
  return encodeMethod(channel, METHOD.channelFlowOk, Uint8Array.of(active ? 1 : 0));
}

/**
 * basic.nack, RabbitMQ's, without requeue: as a broker refuses a publish of a channel in confirm mode.
 * @param multiple all up to the tag
 */
export function encodeNack(channel: number, deliveryTag: bigint | number, multiple: boolean): Uint8Array {
  const args = new Uint8Array(9);
  new DataView(args.buffer).setBigUint64(0, BigInt(deliveryTag));
  args[8] = multiple ? 1 : 0;
  return encodeMethod(channel, METHOD.basicNack, args);
}
