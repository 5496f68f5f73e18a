import { EXCHANGE_DECLARE, readExchangeDeclare } from '../../amqp/method.ts';
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
  isShared: () => true,
  settle: (frame, refusal) =>
    refusal.includes("inequivalent arg 'durable' for exchange") ? frame : undefined,
};
