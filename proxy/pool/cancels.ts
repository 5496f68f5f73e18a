import { FRAME_HEADER_SIZE, FRAME_METHOD, FRAME_OVERHEAD, METHOD } from '../../amqp/constants.ts';
import { readUint32 } from '../../amqp/table.ts';

/**
 * Whole frames without the broker's basic.cancel among them: a client that doesn't have the capability
 * `consumer_cancel_notify` isn't told (RabbitMQ's extension), and the connection that it shares does have it.
 * @returns the same octets when there is none
 */
export function withoutCancels(octets: Uint8Array): Uint8Array {
  const kept: Uint8Array[] = [];
  let from = 0;
  for (let at = 0, end = 0; at < octets.length; at = end) {
    end = at + readUint32(octets, at + 3) + FRAME_OVERHEAD;
    if (octets[at] !== FRAME_METHOD || readUint32(octets, at + FRAME_HEADER_SIZE) !== METHOD.basicCancel)
      continue;
    kept.push(octets.subarray(from, at));
    from = end;
  }
  if (from === 0) return octets;
  kept.push(octets.subarray(from));
  return Buffer.concat(kept);
}
