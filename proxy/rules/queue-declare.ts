import { randomBytes } from 'node:crypto';
import { REPLY } from '../../amqp/constants.ts';
import { QUEUE_DECLARE, readQueueDeclare, withChannel } from '../../amqp/method.ts';
import { longstrValue, withBits, withEntry, withoutEntry, withShortstr } from '../../amqp/splice.ts';
import { asciiValue, type EntrySpan, findEntry } from '../../amqp/table.ts';
import { encodeField } from '../../amqp/values.ts';
import type { QueueTreatment } from '../policy/policy.ts';
import { isAtLeast } from '../version.ts';
import { isReservedName, nameOf } from './names.ts';
import type { RuleContext, Trial, Tried } from './rule.ts';

/**
 * How long a queue that was auto-delete outlives its last use, in milliseconds. Quorum queues can't be auto-delete; this
 * is the lifetime that oslo.messaging gives its own transient queues.
 */
export const AUTO_DELETE_EXPIRES = 1_800_000;

/** How often and for how long the name of an exclusive queue is waited for, in milliseconds. */
const LOCK_RETRY = 20;
const LOCK_TIMEOUT = 1000;

/** Arguments that a quorum queue refuses with 406 (measured on RabbitMQ 3.10, 4.0 and 4.3). */
const ILLEGAL_ON_QUORUM = ['x-max-priority', 'x-queue-mode', 'x-queue-version', 'x-queue-master-locator'];

/**
 * Arguments that RabbitMQ 4.3 refuses on a classic queue too: the first with 541 and the connection's end, the others
 * with 406 (of x-queue-version 1 alone). Older brokers don't look at the last.
 */
const ILLEGAL_ON_CLASSIC = ['x-queue-master-locator', 'x-queue-version', 'x-consumer-timeout'];

/** Arguments of quorum queues that classic queues refuse with 406. */
const QUORUM_ONLY = [
  'x-delivery-limit',
  'x-quorum-initial-group-size',
  'x-max-in-memory-length',
  'x-max-in-memory-bytes',
];

const latin1 = new TextDecoder('latin1');

/** What the rewrite decides, and what only 4.3 compares. */
const DECIDED = ['durable', 'auto_delete', 'x-queue-type', 'x-consumer-timeout'];

/** What a queue may have from the proxy or from a client of today, and clients of the 3.x era don't give. */
const UNKNOWN_BEFORE = ['x-expires', ...QUORUM_ONLY, 'x-queue-leader-locator', 'x-dead-letter-strategy'];

const QUORUM = longstrValue('quorum');
const CLASSIC = longstrValue('classic');
const REJECT_PUBLISH = longstrValue('reject-publish');

/**
 * queue.declare as RabbitMQ 4.0 to 4.3 accepts it with the same meaning: durable, a quorum queue, not auto-delete, without
 * the arguments that quorum queues refuse; or what the policy says for its name. Exclusive queues stay classic: they work
 * everywhere. Passive declares compare nothing, and streams and amq.* queues are none of this rule's business, nor are
 * brokers before 3.8, which have no quorum queues.
 *
 * A queue without a name gets one of the proxy's own: quorum queues can't be named by the broker, and the client takes the
 * name that declare-ok tells.
 *
 * @param frame a complete queue.declare frame
 * @returns the same array when nothing changes, else a new frame
 * @throws WireError 502 when the method or its arguments are malformed
 */
export function rewriteQueueDeclare(frame: Uint8Array, context: RuleContext): Uint8Array {
  const { nameStart, nameEnd, flagsAt, tableStart } = readQueueDeclare(frame);
  const flags = frame[flagsAt]!;
  const type = queueType(frame, tableStart);
  if ((flags & QUEUE_DECLARE.passive) !== 0) {
    context.step('left alone: a passive declare compares nothing');
    return frame;
  }
  if (isReservedName(frame, nameStart, nameEnd)) {
    context.step("left alone: names that begin with amq. are the broker's");
    return frame;
  }
  if (!isAtLeast(context.broker, 3, 8)) {
    context.step('left alone: RabbitMQ before 3.8 has no quorum queues');
    return frame;
  }
  if ((flags & QUEUE_DECLARE.exclusive) !== 0) {
    context.step(
      'still exclusive and classic: that works on every version, and a quorum queue is never exclusive',
    );
    return forClassic(frame, tableStart, context);
  }
  if (type === undefined) {
    context.step("left alone: a stream, or a type that RabbitMQ doesn't know");
    return frame;
  }
  if (nameStart === nameEnd && type === 'quorum') {
    context.step('left alone: a quorum queue without a name, which RabbitMQ 3 refuses as well');
    return frame;
  }
  const treatment = context.policy.queue(nameOf(frame, nameStart, nameEnd));
  if (treatment.action === 'leave') {
    context.step('left alone: the rule for its name says so');
    return frame;
  }
  let edited = without(frame, tableStart, treatment.remove);
  for (const [key, value] of treatment.set) edited = withEntry(edited, tableStart, key, value);
  if (edited !== frame) context.step('arguments are set or removed as the rule says');
  return treatment.action === 'quorum'
    ? asQuorum(edited, type, treatment, context)
    : asDurableClassic(edited, treatment, context);
}

/** @param frame with the arguments as the policy has them @param type as the client gave it */
function asQuorum(
  frame: Uint8Array,
  type: string,
  treatment: QueueTreatment,
  context: RuleContext,
): Uint8Array {
  const { nameStart, nameEnd, flagsAt, tableStart } = readQueueDeclare(frame);
  const autoDelete = (frame[flagsAt]! & QUEUE_DECLARE.autoDelete) !== 0;
  const nameless = nameStart === nameEnd;
  const lasting = (frame[flagsAt]! & QUEUE_DECLARE.durable) !== 0;
  let edited = withBits(frame, flagsAt, QUEUE_DECLARE.durable, true);
  if (!lasting) context.step('durable: quorum queues are, and 4.3 refuses transient queues (541)');
  edited = withBits(edited, flagsAt, QUEUE_DECLARE.autoDelete, false);
  edited = legalArguments(edited, tableStart, context);
  edited = withEntry(edited, tableStart, 'x-queue-type', QUORUM);
  if (type !== 'quorum') {
    context.step(
      'x-queue-type=quorum: the replicated type that RabbitMQ 4 has in the place of mirrored queues',
    );
    if (isAtLeast(context.broker, 4, 0) && find(edited, tableStart, 'x-delivery-limit') === undefined)
      context.change('delivery-limit');
  }
  if (autoDelete) {
    context.change('auto-delete');
    context.step('not auto-delete: quorum queues refuse it; the proxy deletes it behind its last consumer');
  }
  const passing = autoDelete || (nameless && !lasting);
  const expires = treatment.expires ?? (passing ? AUTO_DELETE_EXPIRES : 'none');
  edited = withExpiry(edited, tableStart, expires, context);
  if (!nameless) return edited;
  context.change('server-named');
  context.step("a name of the proxy's own: quorum queues can't be named by the broker");
  return withShortstr(edited, nameStart - 1, newQueueName());
}

/** @param frame with the arguments as the policy has them */
function asDurableClassic(frame: Uint8Array, treatment: QueueTreatment, context: RuleContext): Uint8Array {
  const { flagsAt, tableStart } = readQueueDeclare(frame);
  let edited = withBits(frame, flagsAt, QUEUE_DECLARE.durable, true);
  if (edited !== frame) context.step('durable: 4.3 refuses transient queues (541)');
  const classic = withEntry(edited, tableStart, 'x-queue-type', CLASSIC);
  if (classic !== edited)
    context.step('x-queue-type=classic, as the rule says, whatever the virtual host has as its default');
  edited = without(classic, tableStart, QUORUM_ONLY);
  if (edited !== classic) context.step('without arguments that classic queues refuse (406)');
  edited = forClassic(edited, tableStart, context);
  return withExpiry(edited, tableStart, treatment.expires ?? 'none', context);
}

/** The frame without what classic queues can't have any more; 4.0 is the last that was seen to take it. */
function forClassic(frame: Uint8Array, tableStart: number, context: RuleContext): Uint8Array {
  if (!isAtLeast(context.broker, 4, 1)) return frame;
  const edited = without(frame, tableStart, ILLEGAL_ON_CLASSIC);
  if (edited !== frame)
    context.step('without x-queue-master-locator, x-queue-version and x-consumer-timeout: 4.3 refuses them');
  return edited;
}

function withExpiry(
  frame: Uint8Array,
  tableStart: number,
  expires: number | 'none',
  context: RuleContext,
): Uint8Array {
  if (expires === 'none' || find(frame, tableStart, 'x-expires') !== undefined) return frame;
  context.step('x-expires: without a use for so long it goes, whatever happens to its clients');
  return withEntry(frame, tableStart, 'x-expires', encodeField(BigInt(expires)));
}

/**
 * A queue that was declared without the proxy, or by a client that asked for another lifetime: a passive declare, which
 * compares nothing, so that it is used as it is. Only where the broker names something that the rewrite decides.
 */
const existingTrial: Trial = {
  asks: 'edited',
  remembered: true,
  needed: false,
  question: (tried, channel) => asked(tried, channel, true),
  compare: (tried, channel) => asked(tried, channel, false),
  settle: ({ frame, edited }, { refusal }) => {
    const { flagsAt } = readQueueDeclare(frame);
    const property = /inequivalent arg '([^']+)' for queue/.exec(refusal?.replyText ?? '')?.[1] ?? '';
    if (refusal === undefined || !isForgiven(frame, edited, property)) return { send: edited };
    return { send: withBits(frame, flagsAt, QUEUE_DECLARE.passive, true), existing: refusal.replyText };
  },
};

/**
 * The name of an exclusive queue whose connection has just ended: RabbitMQ 4 frees it late, some 60 ms behind a graceful
 * close and some tries behind a lost connection. 3.x has it free at once, but hears of a lost connection from the proxy,
 * behind a client that is quick to come back. It is waited for.
 */
const lockTrial: Trial = {
  asks: 'always',
  remembered: true,
  needed: false,
  question: (tried, channel) => asked(tried, channel, true),
  settle: ({ edited, waited }, { refusal }) =>
    refusal?.replyCode === REPLY.resourceLocked && waited < LOCK_TIMEOUT
      ? { againIn: LOCK_RETRY }
      : { send: edited },
};

/** The trial of a queue.declare, none for what has no name of its own or is not created by it. */
export function queueTrial(frame: Uint8Array): Trial | undefined {
  const { nameStart, nameEnd, flagsAt } = readQueueDeclare(frame);
  const flags = frame[flagsAt]!;
  if (nameStart === nameEnd || (flags & QUEUE_DECLARE.passive) !== 0) return undefined;
  if ((flags & QUEUE_DECLARE.exclusive) === 0) return existingTrial;
  return isReservedName(frame, nameStart, nameEnd) ? undefined : lockTrial;
}

/** The declare on the proxy's channel; it must be answered. */
function asked({ edited }: Tried, channel: number, passive: boolean): Uint8Array {
  const { flagsAt } = readQueueDeclare(edited);
  const answered = withBits(withChannel(edited, channel), flagsAt, QUEUE_DECLARE.noWait, false);
  return withBits(answered, flagsAt, QUEUE_DECLARE.passive, passive);
}

/** Whether a declare asked for an auto-delete queue and became one of a quorum queue, which is not. */
export function hasLostAutoDelete(frame: Uint8Array, edited: Uint8Array): boolean {
  const before = frame[readQueueDeclare(frame).flagsAt]!;
  const after = edited[readQueueDeclare(edited).flagsAt]!;
  return (before & ~after & QUEUE_DECLARE.autoDelete) !== 0;
}

/** The type where this rule concerns it, '' for none; undefined: a stream, or something that brokers refuse. */
function queueType(frame: Uint8Array, tableStart: number): '' | 'classic' | 'quorum' | undefined {
  const entry = find(frame, tableStart, 'x-queue-type');
  const type = entry === undefined ? '' : asciiValue(frame, entry);
  return type === '' || type === 'classic' || type === 'quorum' ? type : undefined;
}

/** The frame without what quorum queues refuse. */
function legalArguments(frame: Uint8Array, tableStart: number, context: RuleContext): Uint8Array {
  if (find(frame, tableStart, 'x-max-priority') !== undefined) context.change('priority');
  const edited = without(frame, tableStart, ILLEGAL_ON_QUORUM);
  if (edited !== frame) context.step('without arguments that quorum queues refuse (406)');
  const overflow = find(edited, tableStart, 'x-overflow');
  if (overflow === undefined || asciiValue(edited, overflow) !== 'reject-publish-dlx') return edited;
  context.change('overflow-dead-letter');
  context.step(
    'x-overflow=reject-publish: quorum queues take reject-publish-dlx for drop-head and lose messages',
  );
  return withEntry(edited, tableStart, 'x-overflow', REJECT_PUBLISH);
}

/** Whether a declare creates a queue, and one that is to stay without consumers. */
export function declaresLasting(frame: Uint8Array): boolean {
  const flags = frame[readQueueDeclare(frame).flagsAt]!;
  return (flags & (QUEUE_DECLARE.passive | QUEUE_DECLARE.autoDelete)) === 0;
}

/** Whether a difference from what exists is none of the client's doing, so that it is given what exists. */
function isForgiven(frame: Uint8Array, edited: Uint8Array, property: string): boolean {
  if (DECIDED.includes(property) || isEdited(frame, edited, property)) return true;
  return (
    UNKNOWN_BEFORE.includes(property) &&
    find(frame, readQueueDeclare(frame).tableStart, property) === undefined
  );
}

/** Whether the rewrite added, took or changed this argument: an expiry, or what the policy sets and removes. */
function isEdited(frame: Uint8Array, edited: Uint8Array, key: string): boolean {
  const [before, after] = [frame, edited].map((one) => {
    const entry = find(one, readQueueDeclare(one).tableStart, key);
    return entry === undefined ? '' : latin1.decode(one.subarray(entry.keyEnd, entry.end));
  });
  return before !== after;
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
