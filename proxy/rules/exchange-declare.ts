import { EXCHANGE_DECLARE, readExchangeDeclare, withChannel } from '../../amqp/method.ts';
import { withBits } from '../../amqp/splice.ts';
import { isReservedName, nameOf } from './names.ts';
import type { RuleContext, Trial, Tried } from './rule.ts';

/**
 * exchange.declare of a named exchange becomes durable: a transient exchange would take the bindings of durable queues
 * along at a restart. Auto-delete and internal stay; passive declares, amq.* and what the policy leaves are left alone.
 *
 * @param frame a complete exchange.declare frame
 * @returns the same array when nothing changes, else a new frame
 * @throws WireError 502 when the method or its arguments are malformed
 */
export function rewriteExchangeDeclare(frame: Uint8Array, context: RuleContext): Uint8Array {
  const { nameStart, nameEnd, flagsAt } = readExchangeDeclare(frame);
  const passive = (frame[flagsAt]! & EXCHANGE_DECLARE.passive) !== 0;
  if (passive) {
    context.step('left alone: a passive declare compares nothing');
    return frame;
  }
  if (nameStart === nameEnd || isReservedName(frame, nameStart, nameEnd)) {
    context.step("left alone: the default exchange and those that begin with amq. are the broker's");
    return frame;
  }
  if (context.policy.exchange(nameOf(frame, nameStart, nameEnd)).action === 'leave') {
    context.step('left alone: the rule for its name says so');
    return frame;
  }
  const edited = withBits(frame, flagsAt, EXCHANGE_DECLARE.durable, true);
  if (edited !== frame)
    context.step('durable: a transient exchange takes the bindings of durable queues along at a restart');
  return edited;
}

/** The declare on the proxy's channel; it must be answered. */
function asked({ edited }: Tried, channel: number, passive: boolean): Uint8Array {
  const { flagsAt } = readExchangeDeclare(edited);
  const answered = withBits(withChannel(edited, channel), flagsAt, EXCHANGE_DECLARE.noWait, false);
  return withBits(answered, flagsAt, EXCHANGE_DECLARE.passive, passive);
}

/**
 * A transient exchange that was declared without the proxy: the client's own declare, which asks for one. Everything else
 * is compared as ever.
 */
export const exchangeTrial: Trial = {
  asks: 'edited',
  remembered: true,
  needed: false,
  question: (tried, channel) => asked(tried, channel, true),
  compare: (tried, channel) => asked(tried, channel, false),
  settle: ({ frame, edited }, { refusal }) => {
    const isTransient = refusal?.replyText.includes("inequivalent arg 'durable' for exchange");
    return isTransient ? { send: frame, existing: refusal!.replyText } : { send: edited };
  },
};
