import { FRAME_HEADER_SIZE, METHOD, REPLY } from './constants.ts';
import { WireError } from './error.ts';
import { ARGUMENTS, skipShortstr } from './method.ts';
import { readUint32, skipValue, tableEnd } from './table.ts';

/**
 * What a client's methods and content headers have to look like (AMQP 0-9-1 sections 1.4 to 1.9, with RabbitMQ's own), as
 * RabbitMQ decodes them (rabbit_framing_amqp_0_9_1 and rabbit_binary_parser, 3.10 to 4.3): what it can't decode ends a
 * connection for all who share it. Values are not judged.
 */

/** Whether a broker answers a method. */
export type Answered = 'always' | 'unless-no-wait' | 'never';

export interface MethodForm {
  /** Such as `queue.declare`. */
  readonly name: string;
  readonly answered: Answered;
  /** The method that answers, class * 65536 + method; 0 for none. Of basic.get: get-ok, and get-empty answers too. */
  readonly answer: number;
}

interface Form extends MethodForm {
  /**
   * The arguments in their order, a letter each: w, l, q numbers of 2, 4 and 8 octets; s a short string in UTF-8, S a
   * long string; b an octet of bits; t a table.
   */
  readonly args: string;
  /** The bit of no-wait in the octet of bits, 0 where there is none. */
  readonly noWait: number;
}

const M = METHOD;

/** Method, name, arguments, what answers, the bit of no-wait. */
const TABLE: readonly (readonly [number, string, string, number, number])[] = [
  [M.connectionStartOk, 'connection.start-ok', 'tsSs', 0, 0],
  [M.connectionSecureOk, 'connection.secure-ok', 'S', 0, 0],
  [M.connectionTuneOk, 'connection.tune-ok', 'wlw', 0, 0],
  [M.connectionOpen, 'connection.open', 'ssb', M.connectionOpenOk, 0],
  [M.connectionClose, 'connection.close', 'wsww', M.connectionCloseOk, 0],
  [M.connectionCloseOk, 'connection.close-ok', '', 0, 0],
  [M.connectionUpdateSecret, 'connection.update-secret', 'Ss', M.connectionUpdateSecretOk, 0],
  [M.channelOpen, 'channel.open', 's', M.channelOpenOk, 0],
  [M.channelFlow, 'channel.flow', 'b', M.channelFlowOk, 0],
  [M.channelClose, 'channel.close', 'wsww', M.channelCloseOk, 0],
  [M.channelCloseOk, 'channel.close-ok', '', 0, 0],
  [M.accessRequest, 'access.request', 'sb', M.accessRequestOk, 0],
  [M.exchangeDeclare, 'exchange.declare', 'wssbt', M.exchangeDeclareOk, 16],
  [M.exchangeDelete, 'exchange.delete', 'wsb', M.exchangeDeleteOk, 2],
  [M.exchangeBind, 'exchange.bind', 'wsssbt', M.exchangeBindOk, 1],
  [M.exchangeUnbind, 'exchange.unbind', 'wsssbt', M.exchangeUnbindOk, 1],
  [M.queueDeclare, 'queue.declare', 'wsbt', M.queueDeclareOk, 16],
  [M.queueBind, 'queue.bind', 'wsssbt', M.queueBindOk, 1],
  [M.queuePurge, 'queue.purge', 'wsb', M.queuePurgeOk, 1],
  [M.queueDelete, 'queue.delete', 'wsb', M.queueDeleteOk, 4],
  [M.queueUnbind, 'queue.unbind', 'wssst', M.queueUnbindOk, 0],
  [M.basicQos, 'basic.qos', 'lwb', M.basicQosOk, 0],
  [M.basicConsume, 'basic.consume', 'wssbt', M.basicConsumeOk, 8],
  [M.basicCancel, 'basic.cancel', 'sb', M.basicCancelOk, 1],
  [M.basicPublish, 'basic.publish', '', 0, 0], // see checkPublish
  [M.basicGet, 'basic.get', 'wsb', M.basicGetOk, 0],
  [M.basicAck, 'basic.ack', 'qb', 0, 0],
  [M.basicReject, 'basic.reject', 'qb', 0, 0],
  [M.basicRecoverAsync, 'basic.recover-async', 'b', 0, 0],
  [M.basicRecover, 'basic.recover', 'b', M.basicRecoverOk, 0],
  [M.basicNack, 'basic.nack', 'qb', 0, 0],
  [M.confirmSelect, 'confirm.select', 'b', M.confirmSelectOk, 1],
  [M.txSelect, 'tx.select', '', M.txSelectOk, 0],
  [M.txCommit, 'tx.commit', '', M.txCommitOk, 0],
  [M.txRollback, 'tx.rollback', '', M.txRollbackOk, 0],
];

const FORMS: ReadonlyMap<number, Form> = new Map(
  TABLE.map(([method, name, args, answer, noWait]) => [
    method,
    {
      name,
      answered: answer === 0 ? 'never' : noWait === 0 ? 'always' : 'unless-no-wait',
      answer,
      args,
      noWait,
    },
  ]),
);

/** The method (class * 65536 + method), where it is one that clients may send. */
export function clientMethod(method: number): MethodForm | undefined {
  return FORMS.get(method);
}

/** Tables and arrays within each other: a broker takes more, but nobody's stack is endless. */
const MAX_DEPTH = 100;

/**
 * Checks the arguments of a client's method in a whole frame, `start` to `end` (exclusive).
 * @param method class * 65536 + method
 * @throws WireError 502 when an argument reaches beyond the frame, octets are left over, a short string is no UTF-8 or a
 *   table is malformed; 503 when clients may not send the method
 */
export function checkMethod(method: number, octets: Uint8Array, start: number, end: number): void {
  switch (method) {
    case METHOD.basicPublish:
      checkPublish(octets, start, end);
      break;
    case METHOD.basicAck:
    case METHOD.basicNack:
    case METHOD.basicReject:
      if (end - start !== ARGUMENTS + 10) throw wrongLength(method);
      break;
    default:
      checkForm(method, octets, start, end);
  }
}

/** basic.publish: reserved short, exchange, routing key, bits. RabbitMQ takes any octets for the two names. */
function checkPublish(octets: Uint8Array, start: number, end: number): void {
  if (publishBits(octets, start) + 2 !== end) throw wrongLength(METHOD.basicPublish);
}

function wrongLength(method: number): WireError {
  return new WireError(REPLY.syntaxError, `${FORMS.get(method)!.name} of a wrong length`, method);
}

/** Where a basic.publish has its bits by its names' lengths; behind its end, or NaN, where it is cut off. */
function publishBits(octets: Uint8Array, start: number): number {
  const exchange = start + ARGUMENTS + 2;
  const key = exchange + 1 + octets[exchange]!;
  return key + 1 + (octets[key] ?? 0);
}

/** Whether a basic.publish that {@link checkMethod} has let pass has the bit immediate set. */
export function isImmediate(octets: Uint8Array, start: number): boolean {
  return (octets[publishBits(octets, start)]! & 2) !== 0;
}

function checkForm(method: number, octets: Uint8Array, start: number, end: number): void {
  const form = FORMS.get(method);
  if (form === undefined) {
    const ids = `${method >>> 16}.${method & 0xffff}`;
    throw new WireError(REPLY.commandInvalid, `method ${ids} is not one of a client`, method);
  }
  try {
    const limit = end - 1;
    let at = start + ARGUMENTS;
    for (let i = 0; i < form.args.length; i++) at = checkArgument(form.args[i]!, octets, at, limit);
    if (at > limit) throw malformed('arguments cut off');
    if (at < limit) throw malformed(`${limit - at} octets behind the arguments`);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw new WireError(error.replyCode, `${form.name}: ${error.message}`, method);
  }
}

/** @returns the position behind the argument: beyond `limit` for a number that is cut off */
function checkArgument(kind: string, octets: Uint8Array, at: number, limit: number): number {
  const end = argumentEnd(kind, octets, at, limit);
  if (kind === 't') checkTable(octets, at, limit, 0);
  else if (kind === 's') checkUtf8(octets, at + 1, end);
  return end;
}

/** @throws WireError 502 where the length of an argument can't be read or reaches beyond `limit` */
function argumentEnd(kind: string, octets: Uint8Array, at: number, limit: number): number {
  switch (kind) {
    case 'b':
      return at + 1;
    case 'w':
      return at + 2;
    case 'l':
      return at + 4;
    case 'q':
      return at + 8;
    case 's':
      return skipShortstr(octets, at, limit);
    default:
      return tableEnd(octets, at, limit); // a long string has its length where a table has it
  }
}

/**
 * Whether a method wants no answer.
 * @param method class * 65536 + method, of a frame that {@link checkMethod} has let pass
 */
export function isNoWait(method: number, octets: Uint8Array, start: number, end: number): boolean {
  const form = FORMS.get(method);
  if (form === undefined || form.noWait === 0) return false;
  let at = start + ARGUMENTS;
  for (let i = 0; form.args[i] !== 'b'; i++) at = argumentEnd(form.args[i]!, octets, at, end - 1);
  return (octets[at]! & form.noWait) !== 0;
}

/** The properties of class basic (section 1.8.1), the highest bit's first: as arguments, and o an octet. */
const PROPERTIES = 'sstoossssqssss';

/** Octets of a content header frame before its properties. */
const PROPERTIES_AT = FRAME_HEADER_SIZE + 14;

/**
 * The body size in octets of a whole content header frame that begins at `start`, for a basic.publish (section 4.2.6.1).
 * @throws WireError 502 when it is cut off, its properties are malformed or don't end with it, or the size is above 2^53;
 *   505 for another class than basic and a weight that isn't 0
 */
export function readBodySize(octets: Uint8Array, start: number): number {
  const at = start + FRAME_HEADER_SIZE;
  const limit = at + readUint32(octets, start + 3);
  if (limit - at < 14) throw malformed('content header cut off');
  if (octets[at] !== 0 || octets[at + 1] !== 60 || octets[at + 2] !== 0 || octets[at + 3] !== 0) {
    throw new WireError(REPLY.unexpectedFrame, 'content header that is not of class 60 and weight 0');
  }
  const size = readUint32(octets, at + 4) * 0x1_0000_0000 + readUint32(octets, at + 8);
  if (size > Number.MAX_SAFE_INTEGER) throw malformed('body size above 2^53');
  checkProperties(octets, start + PROPERTIES_AT, limit);
  return size;
}

function checkProperties(octets: Uint8Array, start: number, limit: number): void {
  const flags = (octets[start - 2]! << 8) | octets[start - 1]!; // the lowest two mean nothing to RabbitMQ
  let at = start;
  for (let left = flags & 0xfffc; left !== 0;) {
    const i = Math.clz32(left) - 16;
    left &= ~(0x8000 >> i);
    const kind = PROPERTIES[i]!;
    if (kind === 't') at = checkTable(octets, at, limit, 0);
    else at = kind === 'o' ? at + 1 : argumentEnd(kind, octets, at, limit); // short strings may be any octets
  }
  if (at !== limit) throw malformed('properties that do not end with their frame');
}

/** @returns the position behind the table whose length is at `at` */
function checkTable(octets: Uint8Array, tableStart: number, limit: number, depth: number): number {
  const end = tableEnd(octets, tableStart, limit);
  for (let at = tableStart + 4; at < end;) {
    const tagAt = at + 1 + octets[at]!;
    if (tagAt >= end) throw malformed('field name longer than its table');
    at = checkValue(octets, tagAt, end, depth);
  }
  return end;
}

/** @returns the position behind the value whose type tag is at `tagAt` */
function checkValue(octets: Uint8Array, tagAt: number, limit: number, depth: number): number {
  const tag = octets[tagAt]!;
  const start = tagAt + 1;
  const end = skipValue(octets, tag, start, limit);
  switch (tag) {
    case 0x46: // F
      checkTable(octets, start, end, deeper(depth));
      break;
    case 0x41: // A
      for (let at = start + 4; at < end;) at = checkValue(octets, at, end, deeper(depth));
      break;
    case 0x64: // d; Erlang has no infinity and no NaN
      if ((octets[start]! & 0x7f) === 0x7f && octets[start + 1]! >= 0xf0)
        throw malformed('not a finite number');
      break;
    case 0x66: // f
      if ((octets[start]! & 0x7f) === 0x7f && octets[start + 1]! >= 0x80)
        throw malformed('not a finite number');
      break;
    default:
  }
  return end;
}

function deeper(depth: number): number {
  if (depth < MAX_DEPTH) return depth + 1;
  throw malformed(`tables and arrays ${MAX_DEPTH + 1} deep`);
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

function checkUtf8(octets: Uint8Array, start: number, end: number): void {
  let at = start;
  while (at < end && octets[at]! < 0x80) at++;
  if (at === end) return;
  try {
    utf8.decode(octets.subarray(at, end));
  } catch {
    throw malformed('short string that is not UTF-8');
  }
}

function malformed(text: string): WireError {
  return new WireError(REPLY.syntaxError, text);
}
