import { METHOD } from '../../amqp/constants.ts';
import { encodeClose, encodeMethod } from '../../amqp/method.ts';

/**
 * Arguments of an exchange.declare that every broker refuses with a channel exception: amq.direct as a fanout. The
 * exception has to be the broker's, so that it and the client close the channel with each other as ever.
 */
const UNEQUAL_EXCHANGE = new TextEncoder().encode('\0\0\x0aamq.direct\x06fanout\x02\0\0\0\0');

/** What is sent in the place of a method that the proxy refuses, and the channel.close that the client gets for it. */
export interface ChannelRefusal {
  readonly send: Uint8Array;
  readonly refusal: Uint8Array;
}

/**
 * A channel exception of the proxy's own.
 * @param method class * 65536 + method of the refused one
 */
export function refuseOnChannel(
  channel: number,
  replyCode: number,
  text: string,
  method: number,
): ChannelRefusal {
  return {
    send: encodeMethod(channel, METHOD.exchangeDeclare, UNEQUAL_EXCHANGE),
    refusal: encodeClose(replyCode, text, method, channel),
  };
}
