import { randomBytes } from 'node:crypto';
import { QUEUE_DECLARE, readQueueDeclare, withChannel } from '../../amqp/method.ts';
import {
  int32Value,
  longstrValue,
  withBits,
  withEntry,
  withoutEntry,
  withShortstr,
} from '../../amqp/splice.ts';
import { asciiValue, type EntrySpan, findEntry } from '../../amqp/table.ts';
import { isReservedName } from './names.ts';
import type { Report, Trial } from './rule.ts';

/**
 * How long a queue that was auto-delete outlives its last use, in milliseconds. Quorum queues can't be auto-delete; this
 * is the lifetime that oslo.messaging gives its own transient queues.
 */
export const AUTO_DELETE_EXPIRES = 1_800_000;

/** Arguments that a quorum queue refuses with 406 (measured on RabbitMQ 3.10, 4.0 and 4.3). */
const ILLEGAL_ON_QUORUM = ['x-max-priority', 'x-queue-mode', 'x-queue-version', 'x-queue-master-locator'];

/** Arguments that RabbitMQ 4.3 refuses on a classic queue too: the first with 541 and the connection's end. */
const ILLEGAL_ON_CLASSIC = ['x-queue-master-locator', 'x-queue-version'];

const QUORUM = longstrValue('quorum');
const REJECT_PUBLISH = longstrValue('reject-publish');

/**
 * queue.declare as RabbitMQ 4.0 to 4.3 accepts it with the same meaning: durable, a quorum queue, not auto-delete, without
 * the arguments that quorum queues refuse. Exclusive queues stay classic: they work everywhere. Passive declares compare
 * nothing, and streams and amq.* queues are none of this rule's business.
 *
 * A transient queue without a name, which 4.3 refuses too, gets a name of the proxy's own: quorum queues can't be named
 * by the broker, and the client takes the name that declare-ok tells. A durable one is left to the broker, which accepts
 * it as a classic queue.
 *
 * @param frame a complete queue.declare frame
 * @returns the same array when nothing changes, else a new frame
 * @throws WireError 502 when the method or its arguments are malformed
 */
export function rewriteQueueDeclare(frame: Uint8Array, report: Report): Uint8Array {
  const { nameStart, nameEnd, flagsAt, tableStart } = readQueueDeclare(frame);
  const flags = frame[flagsAt]!;
  const type = queueType(frame, tableStart);
  if ((flags & QUEUE_DECLARE.passive) !== 0 || isReservedName(frame, nameStart, nameEnd)) return frame;
  if ((flags & QUEUE_DECLARE.exclusive) !== 0) return without(frame, tableStart, ILLEGAL_ON_CLASSIC);
  if (type === undefined) return frame;
  const nameless = nameStart === nameEnd;
  // A nameless durable queue works as it is, and a nameless quorum queue is refused by 3.x as well.
  if (nameless && ((flags & QUEUE_DECLARE.durable) !== 0 || type === 'quorum')) return frame;

  let edited = withBits(frame, flagsAt, QUEUE_DECLARE.durable, true);
  edited = withBits(edited, flagsAt, QUEUE_DECLARE.autoDelete, false);
  edited = legalArguments(edited, tableStart, report);
  edited = withEntry(edited, tableStart, 'x-queue-type', QUORUM);
  const autoDelete = (flags & QUEUE_DECLARE.autoDelete) !== 0;
  if (autoDelete) report('auto-delete');
  if (nameless) report('server-named');
  if ((autoDelete || nameless) && find(edited, tableStart, 'x-expires') === undefined) {
    edited = withEntry(edited, tableStart, 'x-expires', int32Value(AUTO_DELETE_EXPIRES));
  }
  return nameless ? withShortstr(edited, nameStart - 1, newQueueName()) : edited;
}

/**
 * A queue that was declared without the proxy, or by a client that asked for another lifetime: a passive declare, which
 * compares nothing, so that it is used as it is. Only where the broker names something that the rewrite decides.
 */
export const queueTrial: Trial = {
  mandatory: false,
  isAsked: (frame) => {
    const { nameStart, nameEnd, flagsAt } = readQueueDeclare(frame);
    return nameStart !== nameEnd && (frame[flagsAt]! & QUEUE_DECLARE.exclusive) === 0;
  },
  question: ({ edited }, channel) => {
    const { flagsAt } = readQueueDeclare(edited);
    return withBits(withChannel(edited, channel), flagsAt, QUEUE_DECLARE.noWait, false);
  },
  settle: ({ frame, edited }, { refusal }) => {
    const { flagsAt, tableStart } = readQueueDeclare(frame);
    const property = /inequivalent arg '([^']+)' for queue/.exec(refusal?.replyText ?? '')?.[1] ?? '';
    const decided = ['durable', 'auto_delete', 'x-queue-type'].includes(property);
    const added = property === 'x-expires' && find(frame, tableStart, 'x-expires') === undefined;
    if (refusal === undefined || (!decided && !added)) return { send: edited };
    return { send: withBits(frame, flagsAt, QUEUE_DECLARE.passive, true), existing: refusal.replyText };
  },
};

/** The type where this rule concerns it, '' for none; undefined: a stream, or something that brokers refuse. */
function queueType(frame: Uint8Array, tableStart: number): '' | 'classic' | 'quorum' | undefined {
  const entry = find(frame, tableStart, 'x-queue-type');
  const type = entry === undefined ? '' : asciiValue(frame, entry);
  return type === '' || type === 'classic' || type === 'quorum' ? type : undefined;
}

/** The frame without what quorum queues refuse. */
function legalArguments(frame: Uint8Array, tableStart: number, report: Report): Uint8Array {
  if (find(frame, tableStart, 'x-max-priority') !== undefined) report('priority');
  const edited = without(frame, tableStart, ILLEGAL_ON_QUORUM);
  const overflow = find(edited, tableStart, 'x-overflow');
  if (overflow === undefined || asciiValue(edited, overflow) !== 'reject-publish-dlx') return edited;
  // Quorum queues take reject-publish-dlx for drop-head and lose messages; refusing them is what was meant.
  report('overflow-dead-letter');
  return withEntry(edited, tableStart, 'x-overflow', REJECT_PUBLISH);
}

function find(frame: Uint8Array, tableStart: number, key: string): EntrySpan | undefined {
  return findEntry(frame, tableStart, frame.length - 1, key);
}

function without(frame: Uint8Array, tableStart: number, keys: readonly string[]): Uint8Array {
  return keys.reduce((edited, key) => withoutEntry(edited, tableStart, key), frame);
}

/** Like the broker's amq.gen-*, a prefix that clients must not use: 128 random bits. */
function newQueueName(): string {
  return `quorumbridge.gen-${randomBytes(16).toString('base64url')}`;
}
