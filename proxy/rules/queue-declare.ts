import { QUEUE_DECLARE, readQueueDeclare } from '../../amqp/method.ts';
import { int32Value, longstrValue, withBits, withEntry, withoutEntry } from '../../amqp/splice.ts';
import { asciiValue, findEntry } from '../../amqp/table.ts';
import { isReservedName } from './names.ts';

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
 * queue.declare of a named queue, as RabbitMQ 4.0 to 4.3 accepts it with the same meaning: durable, a quorum queue, not
 * auto-delete, without the arguments that quorum queues refuse. Exclusive queues stay classic: they work everywhere.
 * Passive declares compare nothing, and streams, server-named and amq.* queues are none of this rule's business.
 *
 * @param frame a complete queue.declare frame
 * @returns the same array when nothing changes, else a new frame
 * @throws WireError 502 when the method or its arguments are malformed
 */
export function rewriteQueueDeclare(frame: Uint8Array): Uint8Array {
  const { nameStart, nameEnd, flagsAt, tableStart } = readQueueDeclare(frame);
  const flags = frame[flagsAt]!;
  const limit = frame.length - 1;
  const type = findEntry(frame, tableStart, limit, 'x-queue-type');
  if ((flags & QUEUE_DECLARE.passive) !== 0 || isReservedName(frame, nameStart, nameEnd)) return frame;
  if ((flags & QUEUE_DECLARE.exclusive) !== 0) return without(frame, tableStart, ILLEGAL_ON_CLASSIC);
  if (nameStart === nameEnd) return frame;
  if (type !== undefined && !['', 'classic', 'quorum'].includes(asciiValue(frame, type) ?? '?')) return frame;

  let edited = withBits(frame, flagsAt, QUEUE_DECLARE.durable, true);
  edited = withBits(edited, flagsAt, QUEUE_DECLARE.autoDelete, false);
  edited = without(edited, tableStart, ILLEGAL_ON_QUORUM);
  const overflow = findEntry(edited, tableStart, edited.length - 1, 'x-overflow');
  // Quorum queues take reject-publish-dlx for drop-head and lose messages; refusing them is what was meant.
  if (overflow !== undefined && asciiValue(edited, overflow) === 'reject-publish-dlx') {
    edited = withEntry(edited, tableStart, 'x-overflow', REJECT_PUBLISH);
  }
  edited = withEntry(edited, tableStart, 'x-queue-type', QUORUM);
  const autoDelete = (flags & QUEUE_DECLARE.autoDelete) !== 0;
  if (autoDelete && findEntry(edited, tableStart, edited.length - 1, 'x-expires') === undefined) {
    edited = withEntry(edited, tableStart, 'x-expires', int32Value(AUTO_DELETE_EXPIRES));
  }
  return edited;
}

function without(frame: Uint8Array, tableStart: number, keys: readonly string[]): Uint8Array {
  return keys.reduce((edited, key) => withoutEntry(edited, tableStart, key), frame);
}
