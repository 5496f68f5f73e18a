import { EXCHANGE_DECLARE, readExchangeDeclare, withChannel } from '../../amqp/method.ts';
import { withBits } from '../../amqp/splice.ts';
import { isReservedName } from './names.ts';
import type { Trial } from './rule.ts';

/**
 * exchange.declare of a named exchange becomes durable: a transient exchange would take the bindings of durable queues
 * along at a restart. Auto-delete and internal stay; passive declares and amq.* are left alone.
 *
 * @param frame a complete exchange.declare frame
 * @returns the same array when nothing changes, else a new frame
 * @throws WireError 502 when the method or its arguments are malformed
 */
export function rewriteExchangeDeclare(frame: Uint8Array): Uint8Array {
  const { nameStart, nameEnd, flagsAt } = readExchangeDeclare(frame);
  const passive = (frame[flagsAt]! & EXCHANGE_DECLARE.passive) !== 0;
  if (passive || nameStart === nameEnd || isReservedName(frame, nameStart, nameEnd)) return frame;
  return withBits(frame, flagsAt, EXCHANGE_DECLARE.durable, true);
}

/**
 * A transient exchange that was declared without the proxy: the client's own declare, which asks for one. Everything else
 * is compared as ever.
 */
export const exchangeTrial: Trial = {
  mandatory: false,
  isAsked: () => true,
  question: ({ edited }, channel) => {
    const { flagsAt } = readExchangeDeclare(edited);
    return withBits(withChannel(edited, channel), flagsAt, EXCHANGE_DECLARE.noWait, false);
  },
  settle: ({ frame, edited }, { refusal }) => {
    const isTransient = refusal?.replyText.includes("inequivalent arg 'durable' for exchange");
    return isTransient ? { send: frame, existing: refusal!.replyText } : { send: edited };
  },
};
