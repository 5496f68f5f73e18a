import { readBasicQos } from '../../amqp/method.ts';
import { withBits } from '../../amqp/splice.ts';
import type { Report } from './rule.ts';

const GLOBAL = 1;

/**
 * basic.qos for a whole channel (global) becomes one for each of its consumers: RabbitMQ 3.10 and 4.0 end the connection
 * (540) when such a channel consumes from a quorum queue, and 4.3 takes it for one per consumer itself. A count of 0 is
 * no limit either way and stays as it is.
 *
 * @param frame a complete basic.qos frame
 * @returns the same array when nothing changes, else a new frame
 * @throws WireError 502 when the method is malformed
 */
export function rewriteBasicQos(frame: Uint8Array, report: Report): Uint8Array {
  const { prefetchCount, flagsAt } = readBasicQos(frame);
  if ((frame[flagsAt]! & GLOBAL) === 0 || prefetchCount === 0) return frame;
  report('global-prefetch');
  return withBits(frame, flagsAt, GLOBAL, false);
}
