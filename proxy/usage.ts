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
import { asciiValue, entries, type EntrySpan, hasKey, integerValue } from '../amqp/table.ts';
import { isReservedName } from './rules/names.ts';

/**
 * What clients of the 3.x era do that RabbitMQ 4 refuses or takes otherwise, as far as the wire shows it: what they may
 * be seen to use. proxy/verdicts.ts says what becomes of each, and docs/report.md lists them (a test holds them together).
 */
export const USAGES = [
  'transient-queue',
  'transient-queue-server-named',
  'auto-delete-queue',
  'durable-classic-queue',
  'exclusive-named-queue',
  'quorum-refused',
  'quorum-without-delivery-limit',
  'negative-delivery-limit',
  'empty-queue-type',
  'queue-master-locator',
  'queue-version-1',
  'queue-mode',
  'ha-policy-argument',
  'max-priority',
  'overflow-reject-publish-dlx',
  'consumer-timeout',
  'consumer-timeout-refused',
  'transient-exchange',
  'global-qos',
  'exclusive-consumer',
  'cancel-on-ha-failover',
  'conditional-delete',
  'small-frame-max',
] as const;

export type Usage = (typeof USAGES)[number];

/** The least frame_max that RabbitMQ 4.1 and later accept, in octets. */
const LEAST_FRAME_MAX = 8192;

/** Arguments that quorum queues refuse on every version (406). */
const REFUSED_BY_QUORUM = ['x-max-priority', 'x-queue-mode', 'x-queue-version', 'x-queue-master-locator'];

const NONE: readonly Usage[] = [];

/**
 * The usages in a client's method, as the client sent it; none in methods that no rule looks at. Never throws: octets
 * that can't be read show nothing, for an onlooker must not cost a client its connection.
 *
 * @param method class * 65536 + method
 * @param frame the complete frame
 */
export function usagesOf(method: number, frame: Uint8Array): readonly Usage[] {
  try {
    switch (method) {
      case METHOD.queueDeclare:
        return ofQueueDeclare(frame, readQueueDeclare(frame));
      case METHOD.exchangeDeclare:
        return ofExchangeDeclare(frame, readExchangeDeclare(frame));
      case METHOD.basicQos: {
        const { prefetchCount, flagsAt } = readBasicQos(frame);
        return (frame[flagsAt]! & 1) !== 0 && prefetchCount > 0 ? ['global-qos'] : NONE;
      }
      case METHOD.basicConsume:
        return ofBasicConsume(frame, readBasicConsume(frame));
      case METHOD.queueDelete: {
        const flags = frame[readQueueDelete(frame).flagsAt]!;
        return (flags & (QUEUE_DELETE.ifUnused | QUEUE_DELETE.ifEmpty)) !== 0 ? ['conditional-delete'] : NONE;
      }
      default:
        return NONE;
    }
  } catch {
    return NONE;
  }
}

/** The usages in a handshake. @param frameMax octets that the client asked for; 0 is no limit */
export function usagesOfHandshake(frameMax: number): readonly Usage[] {
  return frameMax > 0 && frameMax < LEAST_FRAME_MAX ? ['small-frame-max'] : NONE;
}

function ofQueueDeclare(frame: Uint8Array, spans: MethodSpans): readonly Usage[] {
  const { nameStart, nameEnd, flagsAt, tableStart } = spans;
  const flags = frame[flagsAt]!;
  if ((flags & QUEUE_DECLARE.passive) !== 0 || isReservedName(frame, nameStart, nameEnd)) return NONE;
  const table = entries(frame, tableStart, frame.length - 1);
  const find = (key: string): EntrySpan | undefined => table.find((entry) => hasKey(frame, entry, key));
  const typeEntry = find('x-queue-type');
  const type = typeEntry === undefined ? 'classic' : asciiValue(frame, typeEntry);
  const nameless = nameStart === nameEnd;
  if (type === 'quorum') return ofQuorumQueue(frame, flags, nameless, find);
  // Streams, and types that no broker knows: nothing differs.
  if (type !== 'classic' && type !== '') return NONE;
  return [...ofClassicFlags(flags, nameless), ...ofClassicArguments(frame, type, find)];
}

function ofClassicFlags(flags: number, nameless: boolean): Usage[] {
  if ((flags & QUEUE_DECLARE.exclusive) !== 0) return nameless ? [] : ['exclusive-named-queue'];
  const found: Usage[] = [];
  const durable = (flags & QUEUE_DECLARE.durable) !== 0;
  const autoDelete = (flags & QUEUE_DECLARE.autoDelete) !== 0;
  if (!durable) found.push(nameless ? 'transient-queue-server-named' : 'transient-queue');
  if (autoDelete) found.push('auto-delete-queue');
  else if (durable) found.push('durable-classic-queue');
  return found;
}

type Find = (key: string) => EntrySpan | undefined;

function ofClassicArguments(frame: Uint8Array, type: string, find: Find): Usage[] {
  const found: Usage[] = [];
  const version = find('x-queue-version');
  const overflow = find('x-overflow');
  if (type === '') found.push('empty-queue-type');
  if (find('x-queue-master-locator') !== undefined) found.push('queue-master-locator');
  if (version !== undefined && integerValue(frame, version) === 1n) found.push('queue-version-1');
  if (find('x-queue-mode') !== undefined) found.push('queue-mode');
  if (find('x-ha-policy') !== undefined) found.push('ha-policy-argument');
  if (find('x-max-priority') !== undefined) found.push('max-priority');
  if (overflow !== undefined && asciiValue(frame, overflow) === 'reject-publish-dlx')
    found.push('overflow-reject-publish-dlx');
  if (find('x-consumer-timeout') !== undefined) found.push('consumer-timeout-refused');
  return found;
}

function ofQuorumQueue(frame: Uint8Array, flags: number, nameless: boolean, find: Find): readonly Usage[] {
  const { durable, exclusive, autoDelete } = QUEUE_DECLARE;
  const legal = (flags & (durable | exclusive | autoDelete)) === durable && !nameless;
  if (!legal || REFUSED_BY_QUORUM.some((key) => find(key) !== undefined)) return ['quorum-refused'];
  const found: Usage[] = [];
  const limit = find('x-delivery-limit');
  const timeout = find('x-consumer-timeout');
  const overflow = find('x-overflow');
  if (limit === undefined) found.push('quorum-without-delivery-limit');
  else if ((integerValue(frame, limit) ?? 0n) < 0n) found.push('negative-delivery-limit');
  if (overflow !== undefined && asciiValue(frame, overflow) === 'reject-publish-dlx')
    found.push('overflow-reject-publish-dlx');
  if (find('x-ha-policy') !== undefined) found.push('ha-policy-argument');
  if (timeout !== undefined)
    found.push(integerValue(frame, timeout) === undefined ? 'consumer-timeout-refused' : 'consumer-timeout');
  return found;
}

function ofExchangeDeclare(frame: Uint8Array, spans: MethodSpans): readonly Usage[] {
  const { nameStart, nameEnd, flagsAt } = spans;
  const lasting = (frame[flagsAt]! & (EXCHANGE_DECLARE.passive | EXCHANGE_DECLARE.durable)) !== 0;
  const ours = nameStart !== nameEnd && !isReservedName(frame, nameStart, nameEnd);
  return ours && !lasting ? ['transient-exchange'] : NONE;
}

function ofBasicConsume(frame: Uint8Array, spans: MethodSpans): readonly Usage[] {
  const found: Usage[] = [];
  if ((frame[spans.flagsAt]! & BASIC_CONSUME.exclusive) !== 0) found.push('exclusive-consumer');
  const table = entries(frame, spans.tableStart, frame.length - 1);
  if (table.some((entry) => hasKey(frame, entry, 'x-cancel-on-ha-failover')))
    found.push('cancel-on-ha-failover');
  return found;
}
