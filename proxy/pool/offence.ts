import { METHOD, REPLY } from '../../amqp/constants.ts';
import { isImmediate } from '../../amqp/grammar.ts';
import {
  ARGUMENTS,
  EXCHANGE_DECLARE,
  QUEUE_DECLARE,
  readBasicConsume,
  readExchangeDeclare,
  readQueueDeclare,
} from '../../amqp/method.ts';
import { readUint32 } from '../../amqp/table.ts';
import { latin1 } from '../latin1.ts';

/** What a broker closes the whole connection for. */
export interface Offence {
  readonly replyCode: number;
  readonly text: string;
}

/** What has to be known of the channel that a method is sent on. */
interface ChannelView {
  /** @param tag an octet a character */
  hasConsumer(tag: string): boolean;
}

/** Exchange types that every broker has. Others are plugins': whether the broker has them shows when it is asked. */
const EXCHANGE_TYPES: ReadonlySet<string> = new Set(['direct', 'fanout', 'topic', 'headers']);

/**
 * Why RabbitMQ would end the client's connection for this method, where the method alone shows it: on a connection that
 * is shared, that would end others' channels. The texts are RabbitMQ's (rabbit_channel of 3.10 to 4.3).
 *
 * @param octets a whole frame from `start` to `end`, whose arguments have been found to be well-formed
 */
export function offenceOf(
  method: number,
  octets: Uint8Array,
  start: number,
  end: number,
  channel: ChannelView,
): Offence | undefined {
  switch (method) {
    case METHOD.basicPublish:
      return isImmediate(octets, start) ? notImplemented('immediate=true') : undefined;
    case METHOD.basicConsume: {
      const frame = octets.subarray(start, end);
      const { nameEnd, flagsAt } = readBasicConsume(frame);
      const tag = latin1(frame, nameEnd + 1, flagsAt);
      if (tag === '' || !channel.hasConsumer(tag)) return undefined;
      return { replyCode: REPLY.notAllowed, text: `attempt to reuse consumer tag '${tag}'` };
    }
    case METHOD.basicQos: {
      const size = readUint32(octets, start + ARGUMENTS);
      return size === 0 ? undefined : notImplemented(`prefetch_size!=0 (${size})`);
    }
    case METHOD.channelFlow:
      return (octets[start + ARGUMENTS]! & 1) === 0 ? notImplemented('active=false') : undefined;
    case METHOD.basicRecover:
    case METHOD.basicRecoverAsync:
      return (octets[start + ARGUMENTS]! & 1) === 0 ? notImplemented('requeue=false') : undefined;
    default:
      return undefined;
  }
}

function notImplemented(text: string): Offence {
  return { replyCode: REPLY.notImplemented, text };
}

/**
 * Why the client needs a connection of its own at the broker from this method on, or undefined: what it asks for belongs
 * to the connection, or the broker may end the connection for it and only the broker knows.
 */
export function needsOwnConnection(
  method: number,
  octets: Uint8Array,
  start: number,
  end: number,
): string | undefined {
  if (method === METHOD.queueDeclare) {
    const { passive, exclusive, durable } = QUEUE_DECLARE;
    const { flagsAt } = readQueueDeclare(octets.subarray(start, end));
    const flags = octets[start + flagsAt]!;
    if ((flags & passive) !== 0) return undefined;
    if ((flags & exclusive) !== 0) return 'an exclusive queue belongs to a connection';
    // 541 from 4.3 on; where the rules leave such a queue as it is, it comes here.
    return (flags & durable) === 0 ? 'a broker may end the connection for a transient queue' : undefined;
  }
  if (method === METHOD.exchangeDeclare) {
    const frame = octets.subarray(start, end);
    const { nameEnd, flagsAt } = readExchangeDeclare(frame);
    const type = latin1(frame, nameEnd + 1, flagsAt);
    if ((frame[flagsAt]! & EXCHANGE_DECLARE.passive) !== 0 || EXCHANGE_TYPES.has(type)) return undefined;
    return `a broker may end the connection for the exchange type ${JSON.stringify(type)}`; // RabbitMQ 3.10 does (503)
  }
  return undefined;
}
