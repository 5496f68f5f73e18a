import { readBasicQos } from '../../amqp/method.ts';
import { withBits } from '../../amqp/splice.ts';
import { isAtLeast } from '../version.ts';
import type { RuleContext } from './rule.ts';

const GLOBAL = 1;

/**
 * basic.qos for a whole channel (global) becomes one for each of its consumers: RabbitMQ 3.10 and 4.0 end the connection
 * (540) when such a channel consumes from a quorum queue. 4.3 takes it for one per consumer itself and is left to. A count
 * of 0 is no limit either way and stays as it is.
 *
 * @param frame a complete basic.qos frame
 * @returns the same array when nothing changes, else a new frame
 * @throws WireError 502 when the method is malformed
 */
export function rewriteBasicQos(frame: Uint8Array, context: RuleContext): Uint8Array {
  const { prefetchCount, flagsAt } = readBasicQos(frame);
  if ((frame[flagsAt]! & GLOBAL) === 0 || prefetchCount === 0) {
    context.step('left alone: only a limit for a whole channel (global) is refused');
    return frame;
  }
  context.change('global-prefetch');
  if (isAtLeast(context.broker, 4, 3)) {
    context.step('left alone: 4.3 takes a limit for a whole channel for one of each consumer itself');
    return frame;
  }
  context.step(
    'not global: brokers before 4.3 end the connection (540) when such a channel consumes from a quorum queue',
  );
  return withBits(frame, flagsAt, GLOBAL, false);
}
