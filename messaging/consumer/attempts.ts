// How often a message has been tried. What RabbitMQ's headers say about it, measured on 3.10, 4.0 and 4.3:
//
// What was done with a delivery        3.10             4.0              4.3
// quorum queue
//   basic.reject requeue               x-delivery-count x-delivery-count x-delivery-count and x-acquired-count
//   basic.nack requeue                 x-delivery-count x-delivery-count x-acquired-count only: never reaches x-delivery-limit
//   channel or connection closed       x-delivery-count x-delivery-count x-delivery-count and x-acquired-count
//   basic.cancel, then channel closed  x-delivery-count x-delivery-count x-delivery-count and x-acquired-count
//   first delivery                     none             none             none
//   beyond the limit N                 after N + 1 deliveries, as a dead letter with reason delivery_limit in x-death
// classic queue, all of these          `redelivered` alone: no header counts, and no limit holds
// dead letter (rejected, expired)      x-death: `count` for each queue and reason, on all of them
//   of a copy that a client published  counts on        stays at 1       stays at 1
// quorum queue, back from its dead letters by a queue with a time to live
//   on arrival, x-delivery-count is    none             last arrival + 1 as it was, + 1
//   given back there, it is            from 1           from 1 again     counted on
//   classic queue                      none             none             none
// x-delivery-count that a client published
//   quorum, first delivery             0                as published     as published
//   quorum, given back                 replaced by 1    replaced by 1    as published after basic.nack
//   classic                            as published     as published     as published
//
// So a delivery is given back by basic.reject; x-delivery-count counts for what a quorum queue has redelivered, and nowhere else; and
// copies that this kit publishes carry their attempts in a header of their own, in place of what the broker had counted. Behind
// dead letters that others bring back, attempts that were given back may be forgotten on 3.x and 4.0, and none is counted twice.
import type { ConsumeMessage } from 'amqplib';
import type { Rules } from './rules.ts';

/** Attempts that were made before a message was published again. */
const ATTEMPTS_HEADER = 'x-attempt';

/** What the broker adds to messages, and what is stale in a copy. BCC is never delivered; CC would send the copy there again. */
const BROKERS_HEADERS =
  /^(?:x-death|x-(?:first|last)-death-(?:exchange|queue|reason)|x-(?:delivery|acquired)-count|CC)$/;

export interface Attempts {
  /** Of this delivery, from 1. */
  readonly attempt: number;
  /** So many of those before it may not be in what the broker holds against its limit. */
  readonly uncounted: number;
}

/** How often a delivery has been tried, by what holds for its queue. */
export function attemptsOf(
  { fields, properties }: ConsumeMessage,
  { queue, countedByBroker, countsDeaths }: Pick<Rules, 'queue' | 'countedByBroker' | 'countsDeaths'>,
): Attempts {
  const headers: Readonly<Record<string, unknown>> = properties.headers ?? {};
  const copied = whole(headers[ATTEMPTS_HEADER]);
  const deaths = deathsIn(headers['x-death'], queue);
  // Where nobody counts it has come back once or more often since its last copy: more is not to be known.
  const returns = countedByBroker ? whole(headers['x-delivery-count']) : 1;
  const counted = fields.redelivered ? returns : 0;
  const made = copied + (countsDeaths ? Math.max(deaths, counted) : deaths + counted);
  return { attempt: made + 1, uncounted: copied + deaths };
}

/** The headers of a copy of a message, without the broker's. */
export function headersOfCopy({ properties }: ConsumeMessage): Record<string, unknown> {
  const headers: Readonly<Record<string, unknown>> = properties.headers ?? {};
  const own = Object.entries(headers).filter(
    ([name]) => !BROKERS_HEADERS.test(name) && name !== ATTEMPTS_HEADER,
  );
  return Object.fromEntries(own);
}

/** The headers of a copy that is to be tried again. @param attempts made until now */
export function headersOfRetry(message: ConsumeMessage, attempts: number): Record<string, unknown> {
  return { ...headersOfCopy(message), [ATTEMPTS_HEADER]: attempts };
}

/** How often it was a dead letter of this queue after it had been tried, and came back by a topology of somebody else's. */
function deathsIn(deaths: unknown, queue: string): number {
  if (!Array.isArray(deaths)) return 0;
  let count = 0;
  for (const death of deaths as (Readonly<Record<string, unknown>> | null)[]) {
    const reason = death?.['reason'];
    if (death?.['queue'] === queue && (reason === 'rejected' || reason === 'delivery_limit'))
      count += whole(death['count']);
  }
  return count;
}

/** Headers are anybody's to write: what is no number of attempts counts as none. */
function whole(value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : 0;
}
