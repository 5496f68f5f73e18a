import { readBasicConsume } from '../../amqp/method.ts';
import { withoutEntry } from '../../amqp/splice.ts';

/**
 * basic.consume without x-cancel-on-ha-failover, which RabbitMQ 3.10 refuses on quorum queues (406) and 4.x ignores:
 * there are no mirrors left whose failover could be told.
 *
 * @param frame a complete basic.consume frame
 * @returns the same array when nothing changes, else a new frame
 * @throws WireError 502 when the method or its arguments are malformed
 */
export function rewriteBasicConsume(frame: Uint8Array): Uint8Array {
  return withoutEntry(frame, readBasicConsume(frame).tableStart, 'x-cancel-on-ha-failover');
}
