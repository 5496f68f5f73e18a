import { METHOD, REPLY } from '../../amqp/constants.ts';
import { BASIC_CONSUME, channelOf, encodePassiveDeclare, readBasicConsume } from '../../amqp/method.ts';
import { withoutEntry } from '../../amqp/splice.ts';
import { isAtLeast } from '../version.ts';
import { isReservedName, nameOf } from './names.ts';
import { type ChannelRefusal, refuseOnChannel } from './refusal.ts';
import type { RuleContext, Trial } from './rule.ts';

/**
 * How often and for how long, in milliseconds, it is asked whether a queue still has consumers: RabbitMQ 4 counts them
 * some milliseconds longer than they live.
 */
const LATE_RETRY = 20;
const LATE_TIMEOUT = 500;

/**
 * basic.consume without x-cancel-on-ha-failover, which RabbitMQ 3.10 refuses on quorum queues (406) and 4.x ignores:
 * there are no mirrors left whose failover could be told.
 *
 * @param frame a complete basic.consume frame
 * @returns the same array when nothing changes, else a new frame
 * @throws WireError 502 when the method or its arguments are malformed
 */
export function rewriteBasicConsume(frame: Uint8Array, context: RuleContext): Uint8Array {
  const { tableStart } = readBasicConsume(frame);
  if (isAtLeast(context.broker, 4, 0)) return frame;
  const edited = withoutEntry(frame, tableStart, 'x-cancel-on-ha-failover');
  if (edited !== frame)
    context.step('without x-cancel-on-ha-failover: RabbitMQ 3 refuses it on quorum queues (406)');
  return edited;
}

/**
 * An exclusive consumer, which quorum queues take without keeping others away: refused, as classic queues do, where the
 * queue has consumers already. The queue's name is in the frame.
 */
const exclusiveTrial: Trial = {
  asks: 'always',
  remembered: false,
  needed: false,
  question: ({ frame }, channel) => {
    const { nameStart, nameEnd } = readBasicConsume(frame);
    return encodePassiveDeclare(channel, frame.subarray(nameStart, nameEnd));
  },
  settle: ({ frame, edited, virtualHost, waited }, { consumers }) => {
    if (consumers === 0) return { send: edited };
    return waited < LATE_TIMEOUT ? { againIn: LATE_RETRY } : refuseConsume(frame, virtualHost);
  },
};

/** The trial of a basic.consume: exclusive ones, of queues that clients have named. */
export function consumeTrial(frame: Uint8Array): Trial | undefined {
  const { nameStart, nameEnd, flagsAt } = readBasicConsume(frame);
  const exclusive = (frame[flagsAt]! & BASIC_CONSUME.exclusive) !== 0;
  return exclusive && nameStart !== nameEnd && !isReservedName(frame, nameStart, nameEnd)
    ? exclusiveTrial
    : undefined;
}

/** What a classic queue says to a consumer where there is an exclusive one, or to an exclusive one where there are others. */
export function refuseConsume(frame: Uint8Array, virtualHost: string): ChannelRefusal {
  const { nameStart, nameEnd } = readBasicConsume(frame);
  const text = `queue '${nameOf(frame, nameStart, nameEnd)}' in vhost '${virtualHost}' in exclusive use`;
  return refuseOnChannel(channelOf(frame), REPLY.accessRefused, text, METHOD.basicConsume);
}
