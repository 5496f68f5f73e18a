import type { OutcomeGroup } from '../../reconciler/broker/report.ts';
import type { HoldingQueue } from '../../reconciler/types.ts';
import { printable } from '../report/text.ts';
import type { Upgrade } from './read.ts';

type Report = NonNullable<Upgrade['report']>;
type Change = OutcomeGroup['changes'][number];

/** An upgrade's report for a terminal. */
export function asText(upgrade: Upgrade): string {
  const { timeline, report, why } = upgrade;
  const lines = [
    titleOf(upgrade),
    '',
    ...timeline.map(({ at, what }) => `  ${at}  ${what}`),
    '',
    ...(report === null ? [`There is no report: ${why}.`] : reportLines(report)),
  ];
  return lines.map((line) => `${printable(line)}\n`).join('');
}

/** Which upgrade of what, in one line. */
export function titleOf({ sequence, namespace, name, from, to, reason, phase }: Upgrade): string {
  const state = phase === '' ? 'finished' : `in phase ${phase}`;
  return `Upgrade ${sequence} of RabbitMq ${namespace}/${name} from ${from} to ${to} (${reason}), ${state}`;
}

/** How many messages went, in one sentence. */
export function lostText({ lost: { messages, queues } }: Report): string {
  if (queues === 0) return 'No messages were lost with the old storage.';
  return `${plural(messages, 'message')} in ${plural(queues, 'queue')}: lost with the old storage.`;
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

export function holdingText({ vhost, name, messages }: HoldingQueue): string {
  return `${name} in ${vhost}: ${messages ?? 'nobody knows how many'}`;
}

/** How many objects came to what, in one line; only what there is. */
export function countsText(counts: Report['definitions']['counts']): string {
  const said = Object.entries(counts).filter(([key, count]) => key !== 'kind' && count !== 0);
  return said.length === 0 ? 'none' : said.map(([result, count]) => `${count} ${result}`).join(', ');
}

/** `topic permissions` */
export function kindText(kind: string): string {
  return kind.replaceAll('_', ' ');
}

/** `arguments.x-max-priority: 10 to none (quorum queues refuse it)` */
export function changeText({ field, from, to, why }: Change): string {
  const shown = (value: Change['from']): string => (value === undefined ? 'none' : JSON.stringify(value));
  return `${field}: ${shown(from)} to ${shown(to)} (${why})`;
}

/** The objects of a group, by virtual host, and how many are not named. */
export function namesText({ objects, count }: OutcomeGroup): string[] {
  const named = objects.reduce((sum, { names }) => sum + names.length, 0);
  return [
    ...objects.map(({ vhost, names }) =>
      vhost === undefined ? listText(names) : `in virtual host ${vhost}: ${listText(names)}`,
    ),
    ...(count > named ? [`and ${count - named} more`] : []),
  ];
}

/** Names with commas in between, and in quotes where that would be misread. */
function listText(names: readonly string[]): string {
  return names.map((name) => (/[\s,"]/.test(name) ? JSON.stringify(name) : name)).join(', ');
}

function reportLines(report: Report): string[] {
  const { definitions, lost } = report;
  const more = lost.queues - lost.holding.length;
  return [
    lostText(report),
    ...lost.holding.map((queue) => `  ${holdingText(queue)}`),
    ...(more > 0 ? [`  and ${more} more queues`] : []),
    '',
    `Definitions: ${countsText(definitions.counts)}`,
    ...definitions.kinds.map(({ kind, ...counts }) => `  ${kindText(kind)}: ${countsText(counts)}`),
    ...definitions.groups.flatMap((group) => ['', ...groupLines(group)]),
    ...(definitions.groupsLeftOut > 0 ? ['', `And ${definitions.groupsLeftOut} more groups.`] : []),
  ];
}

function groupLines(group: OutcomeGroup): string[] {
  const { kind, result, why, changes, count } = group;
  return [
    `${result.toUpperCase()}: ${count} of ${kindText(kind)}${why === '' ? '' : `: ${why}`}`,
    ...(result === 'changed' ? changes.map((change) => `  ${changeText(change)}`) : []),
    ...namesText(group).map((line) => `    ${line}`),
  ];
}
