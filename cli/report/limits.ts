import type { Target } from '../../proxy/verdicts.ts';
import type { Source } from './source.ts';

/** What no ledger shows, whatever it saw. */
const NEVER_SEEN =
  'A proxy does not see policies (such as ha-mode, which RabbitMQ 4 refuses), default queue types of virtual hosts, clients that go round it, AMQP 1.0, and it does not look into messages: RabbitMQ 4 takes none above 16 MiB by default, and drops what comes back to a quorum queue too often.';

/** What these ledgers can't know, a sentence each. @param now milliseconds since 1970 */
export function limitsOf(sources: readonly Source[], target: Target, now: number): string[] {
  const limits = sources.flatMap(({ name, ledger }) => {
    const seconds = Math.max(0, (now - Date.parse(ledger.startedAt)) / 1000);
    const found = [
      `${name} has watched for ${duration(seconds)}: clients that did not connect since ${ledger.startedAt} are not here.`,
    ];
    if (ledger.clients.length === 0) found.push(`${name} has seen no client at all.`);
    if (ledger.evicted > 0)
      found.push(`${name} has forgotten ${ledger.evicted} clients to make room: raise its --client-records.`);
    return found;
  });
  if (target === '4.1' || target === '4.2')
    limits.push(
      `RabbitMQ ${target} was not measured: verdicts are from its documentation, or from what 4.0 and 4.3 do.`,
    );
  return [...limits, NEVER_SEEN];
}

const UNITS = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
] as const;

/** A time in the largest unit that fits, such as `3 days`. */
export function duration(seconds: number): string {
  for (const [unit, length] of UNITS) {
    const count = Math.floor(seconds / length);
    if (count > 0) return `${count} ${unit}${count === 1 ? '' : 's'}`;
  }
  return 'less than a minute';
}
