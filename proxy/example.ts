import { METHOD } from '../amqp/constants.ts';
import {
  BASIC_CONSUME,
  EXCHANGE_DECLARE,
  type MethodSpans,
  QUEUE_DECLARE,
  QUEUE_DELETE,
  readBasicConsume,
  readBasicQos,
  readExchangeDeclare,
  readQueueDeclare,
  readQueueDelete,
} from '../amqp/method.ts';
import { entries, type EntrySpan, integerValue } from '../amqp/table.ts';
import { nameOf } from './rules/names.ts';

/** Characters that are kept of an example, arguments that it has, and octets of each text among them. */
const EXAMPLE_MAX = 200;
const ARGUMENTS_MAX = 8;
const VALUE_MAX = 40;

const utf8 = new TextDecoder('utf-8', { fatal: false });

/**
 * What a client's method asks for, in one line that a person can find the client's code by, such as
 * `queue 'reply_1' (transient, x-expires=1800000)`. Empty where it can't be read. Never throws.
 *
 * @param method class * 65536 + method
 * @param frame the complete frame
 */
export function exampleOf(method: number, frame: Uint8Array): string {
  try {
    const text = describe(method, frame);
    if (text.length <= EXAMPLE_MAX) return text;
    // A copy: what is cut from a string by itself keeps the whole of it in memory.
    return utf8.decode(new TextEncoder().encode(`${text.slice(0, EXAMPLE_MAX - 1)}…`));
  } catch {
    return '';
  }
}

function describe(method: number, frame: Uint8Array): string {
  switch (method) {
    case METHOD.queueDeclare: {
      const spans = readQueueDeclare(frame);
      const { durable, exclusive, autoDelete } = QUEUE_DECLARE;
      const lifetime = named(frame[spans.flagsAt]!, [
        [exclusive, 'exclusive'],
        [autoDelete, 'auto-delete'],
      ]);
      const transient = (frame[spans.flagsAt]! & (durable | exclusive)) === 0 ? ['transient'] : [];
      return called('queue', frame, spans, [...transient, ...lifetime, ...argumentsOf(frame, spans)]);
    }
    case METHOD.exchangeDeclare: {
      const spans = readExchangeDeclare(frame);
      const { durable, autoDelete, internal } = EXCHANGE_DECLARE;
      const lifetime = named(frame[spans.flagsAt]!, [
        [autoDelete, 'auto-delete'],
        [internal, 'internal'],
      ]);
      const transient = (frame[spans.flagsAt]! & durable) === 0 ? ['transient'] : [];
      const type = nameOf(frame, spans.nameEnd + 1, spans.flagsAt);
      return called('exchange', frame, spans, [
        type,
        ...transient,
        ...lifetime,
        ...argumentsOf(frame, spans),
      ]);
    }
    case METHOD.basicQos:
      return `a prefetch of ${readBasicQos(frame).prefetchCount} for a whole channel`;
    case METHOD.basicConsume: {
      const spans = readBasicConsume(frame);
      const exclusive = named(frame[spans.flagsAt]!, [[BASIC_CONSUME.exclusive, 'exclusive']]);
      return called('a consumer of queue', frame, spans, [...exclusive, ...argumentsOf(frame, spans)]);
    }
    case METHOD.queueDelete: {
      const spans = readQueueDelete(frame);
      const conditions = named(frame[spans.flagsAt]!, [
        [QUEUE_DELETE.ifUnused, 'if-unused'],
        [QUEUE_DELETE.ifEmpty, 'if-empty'],
      ]);
      return called('delete of queue', frame, spans, conditions);
    }
    default:
      return '';
  }
}

function called(
  what: string,
  frame: Uint8Array,
  { nameStart, nameEnd }: Pick<MethodSpans, 'nameStart' | 'nameEnd'>,
  facts: readonly string[],
): string {
  const name = nameStart === nameEnd ? 'without a name' : `'${nameOf(frame, nameStart, nameEnd)}'`;
  return facts.length === 0 ? `${what} ${name}` : `${what} ${name} (${facts.join(', ')})`;
}

function named(flags: number, names: readonly (readonly [bit: number, name: string])[]): string[] {
  return names.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
}

function argumentsOf(frame: Uint8Array, { tableStart }: MethodSpans): string[] {
  const all = entries(frame, tableStart, frame.length - 1);
  const shown = all.slice(0, ARGUMENTS_MAX).map((entry) => {
    return `${nameOf(frame, entry.keyStart, entry.keyEnd)}=${valueOf(frame, entry)}`;
  });
  return all.length > ARGUMENTS_MAX ? [...shown, '…'] : shown;
}

function valueOf(frame: Uint8Array, entry: EntrySpan): string {
  if (entry.tag === 0x74) return frame[entry.valueStart] === 0 ? 'false' : 'true';
  if (entry.tag !== 0x53) return integerValue(frame, entry)?.toString() ?? '…';
  const start = entry.valueStart + 4;
  const text = utf8.decode(frame.subarray(start, Math.min(entry.end, start + VALUE_MAX)));
  return entry.end - start > VALUE_MAX ? `${text}…` : text;
}
