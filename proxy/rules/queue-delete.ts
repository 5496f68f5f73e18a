import { METHOD, REPLY } from '../../amqp/constants.ts';
import {
  encodeClose,
  encodeMethod,
  encodePassiveDeclare,
  QUEUE_DELETE,
  readQueueDelete,
} from '../../amqp/method.ts';
import { withBits } from '../../amqp/splice.ts';
import type { Answer, Trial } from './rule.ts';

const CONDITIONS = QUEUE_DELETE.ifUnused | QUEUE_DELETE.ifEmpty;

/**
 * queue.delete without if-unused and if-empty: RabbitMQ ends the connection (540) when a quorum queue is deleted with
 * them, whether or not they hold. Only to be sent when {@link deleteTrial} has found that they do.
 *
 * @param frame a complete queue.delete frame
 * @returns the same array when nothing changes, else a new frame
 * @throws WireError 502 when the method is malformed
 */
export function rewriteQueueDelete(frame: Uint8Array): Uint8Array {
  return withBits(frame, readQueueDelete(frame).flagsAt, CONDITIONS, false);
}

/**
 * The conditions, as the counts of a passive declare have them. Where one doesn't hold, the client gets the channel
 * exception that classic queues give. A queue that is used or filled between question and delete is deleted.
 */
export const deleteTrial: Trial = {
  mandatory: true,
  isAsked: (frame) => {
    const { nameStart, nameEnd } = readQueueDelete(frame);
    return nameStart !== nameEnd;
  },
  question: ({ frame }, channel) => {
    const { nameStart, nameEnd } = readQueueDelete(frame);
    return encodePassiveDeclare(channel, frame.subarray(nameStart, nameEnd));
  },
  settle: ({ frame, edited, virtualHost }, answer) => {
    const { nameStart, nameEnd, flagsAt } = readQueueDelete(frame);
    // A missing queue is deleted without more ado; an exclusive one of another connection is refused without flags too.
    const broken = answer.refusal === undefined ? brokenCondition(frame[flagsAt]!, answer) : undefined;
    if (broken === undefined) return { send: edited };
    const channel = (frame[1]! << 8) | frame[2]!;
    const name = new TextDecoder().decode(frame.subarray(nameStart, nameEnd));
    const text = `queue '${name}' in vhost '${virtualHost}' ${broken}`;
    return {
      send: encodeMethod(channel, METHOD.exchangeDeclare, UNEQUAL_EXCHANGE),
      refusal: encodeClose(REPLY.preconditionFailed, text, METHOD.queueDelete, channel),
    };
  },
};

function brokenCondition(flags: number, { messages, consumers }: Answer): string | undefined {
  if ((flags & QUEUE_DELETE.ifUnused) !== 0 && consumers > 0) return 'in use';
  if ((flags & QUEUE_DELETE.ifEmpty) !== 0 && messages > 0) return 'not empty';
  return undefined;
}

/**
 * Arguments of an exchange.declare that every broker refuses with a channel exception: amq.direct as a fanout. The
 * exception has to be the broker's, so that it and the client close the channel with each other as ever.
 */
const UNEQUAL_EXCHANGE = new TextEncoder().encode('\0\0\x0aamq.direct\x06fanout\x02\0\0\0\0');
