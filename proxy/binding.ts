import { METHOD } from '../amqp/constants.ts';
import { ARGUMENTS, methodOf, skipShortstr } from '../amqp/method.ts';
import { latin1 } from './latin1.ts';

/** What a queue.bind or queue.unbind is about, in octets as on the wire, an octet a character. */
export interface Binding {
  readonly queue: string;
  /** The arguments of the queue.unbind that takes it back: the same for equal bindings. */
  readonly unbind: string;
}

/**
 * The binding of a complete queue.bind or queue.unbind frame: reserved short, queue, exchange, routing key, the former's
 * flags, arguments.
 * @param declared the queue that an empty name means; as with RabbitMQ, its name is an empty routing key, too, then
 * @returns undefined where the name is empty and it isn't known what was declared last
 * @throws WireError 502 when an argument reaches beyond the frame
 */
export function readBinding(frame: Uint8Array, declared: string | undefined): Binding | undefined {
  const limit = frame.length - 1;
  const nameAt = ARGUMENTS + 2;
  const exchangeAt = skipShortstr(frame, nameAt, limit);
  const keyAt = skipShortstr(frame, exchangeAt, limit);
  const keyEnd = skipShortstr(frame, keyAt, limit);
  const named = exchangeAt > nameAt + 1;
  const queue = named ? latin1(frame, nameAt + 1, exchangeAt) : declared;
  if (queue === undefined) return undefined;
  const key = named || keyEnd > keyAt + 1 ? latin1(frame, keyAt, keyEnd) : shortstr(queue);
  const table = latin1(frame, methodOf(frame) === METHOD.queueBind ? keyEnd + 1 : keyEnd, limit);
  return { queue, unbind: `\0\0${shortstr(queue)}${latin1(frame, exchangeAt, keyAt)}${key}${table}` };
}

function shortstr(text: string): string {
  return String.fromCharCode(text.length) + text;
}
