import type { Finding, Report, ReportClient } from './judge.ts';
import { KNOWN, nameOf, printable, sourceLine, totals, whereabouts } from './text.ts';

const HEADS = { breaks: 'Will break', changes: 'Changes in meaning', fine: 'Fine' } as const;

/** The report for a ticket: Markdown with tables, as GitHub and GitLab read it. */
export function asMarkdown(report: Report): string {
  const lines = [
    `# What breaks on RabbitMQ ${report.target} without the proxy`,
    '',
    `**${totals(report)}**`,
    '',
    ...report.sources.map((source) => `- Seen by ${escaped(sourceLine(source))}`),
    ...report.clients.flatMap((client) => ['', ...clientLines(client, report.target)]),
    '',
    '## What this report cannot know',
    '',
    ...report.limits.map((limit) => `- ${escaped(limit)}`),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

function clientLines(client: ReportClient, target: string): string[] {
  const head = [
    `## ${HEADS[client.effect]}: ${escaped(nameOf(client))}`,
    '',
    `${escaped(whereabouts(client))}.`,
  ];
  if (client.findings.length === 0)
    return [...head, '', 'Nothing that RabbitMQ 4 refuses or takes otherwise.'];
  return [
    ...head,
    '',
    `| effect | what it does | seen | on ${target} | fix |`,
    '|---|---|---|---|---|',
    ...client.findings.map((finding) => findingRow(finding, client)),
  ];
}

function findingRow(finding: Finding, { library }: ReportClient): string {
  const { usage, title, effect, count, lastSeen, example, what, source, fix, libraryFix } = finding;
  const seen = example === '' ? `${count}×, last ${lastSeen}` : `${count}×, last ${lastSeen}: ${example}`;
  const words = libraryFix === null ? '' : ` ${library}: ${libraryFix}.`;
  const cells = [title, seen, `${what}${KNOWN[source]}`, `${fix}.${words}`].map(escaped);
  return `| ${effect} | \`${usage}\`: ${cells.join(' | ')} |`;
}

/** Text that stays text: neither Markdown nor HTML, no link and no mention, whatever a client calls itself. */
export function escaped(text: string): string {
  const quoted = printable(text).replaceAll(/[\\`*_{}[\]#|~!]/g, String.raw`\$&`);
  return quoted
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('@', '&#64;');
}
