import { METHOD, REPLY } from '../../amqp/constants.ts';
import { channelOf, encodePassiveDeclare, QUEUE_DELETE, readQueueDelete } from '../../amqp/method.ts';
import { withBits } from '../../amqp/splice.ts';
import { nameOf } from './names.ts';
import { refuseOnChannel } from './refusal.ts';
import type { Answer, RuleContext, Trial } from './rule.ts';

const CONDITIONS = QUEUE_DELETE.ifUnused | QUEUE_DELETE.ifEmpty;

/**
 * queue.delete without if-unused and if-empty: RabbitMQ ends the connection (540) when a quorum queue is deleted with
 * them, whether or not they hold. Only to be sent when {@link deleteTrial} has found that they do.
 *
 * @param frame a complete queue.delete frame
 * @returns the same array when nothing changes, else a new frame
 * @throws WireError 502 when the method is malformed
 */
export function rewriteQueueDelete(frame: Uint8Array, context: RuleContext): Uint8Array {
  const { nameStart, nameEnd, flagsAt } = readQueueDelete(frame);
  // The queue that was declared last, and the broker named it: it is a classic one, which takes conditions.
  if (nameStart === nameEnd) {
    context.step('left alone: a queue that the broker has named is a classic one, which takes conditions');
    return frame;
  }
  const edited = withBits(frame, flagsAt, CONDITIONS, false);
  if (edited !== frame)
    context.step('without if-unused and if-empty, once a passive declare has shown that they hold: else 540');
  return edited;
}

/**
 * The conditions, as the counts of a passive declare have them. Where one doesn't hold, the client gets the channel
 * exception that classic queues give. A queue that is used or filled between question and delete is deleted.
 */
const conditionTrial: Trial = {
  asks: 'always',
  remembered: false,
  needed: true,
  question: ({ frame }, channel) => {
    const { nameStart, nameEnd } = readQueueDelete(frame);
    return encodePassiveDeclare(channel, frame.subarray(nameStart, nameEnd));
  },
  settle: ({ frame, edited, virtualHost }, answer) => {
    const { nameStart, nameEnd, flagsAt } = readQueueDelete(frame);
    // A missing queue is deleted without more ado; an exclusive one of another connection is refused without flags too.
    const broken = answer.refusal === undefined ? brokenCondition(frame[flagsAt]!, answer) : undefined;
    if (broken === undefined) return { send: edited };
    const text = `queue '${nameOf(frame, nameStart, nameEnd)}' in vhost '${virtualHost}' ${broken}`;
    return refuseOnChannel(channelOf(frame), REPLY.preconditionFailed, text, METHOD.queueDelete);
  },
};

/** The trial of a queue.delete with a condition and a name. */
export function deleteTrial(frame: Uint8Array): Trial | undefined {
  const { nameStart, nameEnd, flagsAt } = readQueueDelete(frame);
  return nameStart !== nameEnd && (frame[flagsAt]! & CONDITIONS) !== 0 ? conditionTrial : undefined;
}

function brokenCondition(flags: number, { messages, consumers }: Answer): string | undefined {
  if ((flags & QUEUE_DELETE.ifUnused) !== 0 && consumers > 0) return 'in use';
  if ((flags & QUEUE_DELETE.ifEmpty) !== 0 && messages > 0) return 'not empty';
  return undefined;
}
