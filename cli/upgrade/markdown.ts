import type { OutcomeGroup } from '../../reconciler/broker/report.ts';
import { escaped } from '../report/markdown.ts';
import type { Upgrade } from './read.ts';
import { changeText, countsText, holdingText, kindText, lostText, namesText, titleOf } from './text.ts';

/** An upgrade's report for a ticket: Markdown with tables, as GitHub and GitLab read it. */
export function asMarkdown(upgrade: Upgrade): string {
  const { timeline, report, why } = upgrade;
  const lines = [
    `# ${escaped(titleOf(upgrade))}`,
    '',
    ...timeline.map(({ at, what }) => `- ${at}: ${what}`),
    '',
    ...(report === null ? [escaped(`There is no report: ${why}.`)] : reportLines(report)),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

function reportLines(report: NonNullable<Upgrade['report']>): string[] {
  const { definitions, lost } = report;
  const more = lost.queues - lost.holding.length;
  return [
    `**${lostText(report)}**`,
    '',
    ...lost.holding.map((queue) => `- ${escaped(holdingText(queue))}`),
    ...(more > 0 ? [`- and ${more} more queues`] : []),
    ...(lost.holding.length > 0 ? [''] : []),
    `## Definitions: ${countsText(definitions.counts)}`,
    '',
    ...definitions.kinds.map(({ kind, ...counts }) => `- ${kindText(kind)}: ${countsText(counts)}`),
    ...(definitions.groups.length > 0
      ? ['', '| what | which | how and why |', '|---|---|---|', ...definitions.groups.map(groupRow)]
      : []),
    ...(definitions.groupsLeftOut > 0 ? ['', `And ${definitions.groupsLeftOut} more groups.`] : []),
  ];
}

function groupRow(group: OutcomeGroup): string {
  const { kind, result, why, changes, count } = group;
  const how = result === 'changed' ? changes.map(changeText) : [why];
  const cells = [[`${count} of ${kindText(kind)} ${result}`], namesText(group), how];
  return `| ${cells.map((cell) => cell.map(escaped).join('<br>')).join(' | ')} |`;
}
