import type { Finding, Report, ReportClient } from './judge.ts';

const HEADS = { breaks: 'WILL BREAK', changes: 'CHANGES MEANING', fine: 'FINE' } as const;

/** How a verdict is known, where it was not measured. */
export const KNOWN = {
  measured: '',
  documented: ' (from documentation)',
  inferred: ' (not measured: as the versions beside it)',
} as const;

/** Control characters, which terminals obey, and those that turn the direction of text. */
// oxlint-disable-next-line no-control-regex -- they are what is looked for
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** A client's text as it can be shown: names come from the wire and may hold anything. */
export function printable(text: string): string {
  return text.replaceAll(UNPRINTABLE, '\u{fffd}');
}

/** The report for a terminal. */
export function asText(report: Report): string {
  const lines = [
    `What breaks on RabbitMQ ${report.target} without the proxy`,
    '',
    ...report.sources.map((source) => `  seen by ${sourceLine(source)}`),
    '',
    totals(report),
    ...report.clients.flatMap((client) => ['', ...clientLines(client, report.target)]),
    '',
    'What this report cannot know:',
    ...report.limits.map((limit) => `  - ${printable(limit)}`),
  ];
  return lines.map((line) => `${line.trimEnd()}\n`).join('');
}

/** Where one ledger came from, in one line. */
export function sourceLine({ name, mode, brokerVersion, startedAt }: Report['sources'][number]): string {
  const broker = brokerVersion === null ? '' : ` in front of RabbitMQ ${printable(brokerVersion)}`;
  return `${printable(name)}: mode ${mode}${broker}, since ${startedAt}`;
}

/** How many clients there are of each kind, in one sentence. */
export function totals({ summary: { clients, breaks, changes, fine } }: Report): string {
  if (clients === 0) return 'No client was seen, so nothing is known.';
  const some = clients === 1 ? '1 client' : `${clients} clients`;
  return `${some}: ${breaks} will break, ${changes} will change in meaning, ${fine} fine.`;
}

/** Who a client is, in one line. */
export function nameOf(client: ReportClient): string {
  const { product, version, library, user, vhost, connectionName } = client;
  const software = [
    product ?? 'a client that does not say what it is',
    ...(version === null ? [] : [version]),
  ];
  const using = library === null || library === product ? '' : `, ${library}`;
  const name = connectionName === null ? '' : `, named ${connectionName}`;
  const account = user === null ? 'user unknown' : `user ${user}`;
  return printable(`${software.join(' ')}${using}, ${account}, virtual host ${vhost}${name}`);
}

/** Where from and when a client was seen, in one line. */
export function whereabouts({ addresses, connections, lastSeen }: ReportClient): string {
  const shown = addresses.slice(0, 5).map(printable).join(', ');
  const more = addresses.length > 5 ? ` and ${addresses.length - 5} more addresses` : '';
  return `From ${shown}${more}; ${connections.now} connected now, ${connections.total} in all; last seen ${lastSeen}`;
}

function clientLines(client: ReportClient, target: string): string[] {
  const findings = client.findings.flatMap((finding) => findingLines(finding, client, target));
  return [
    `${HEADS[client.effect]}: ${nameOf(client)}`,
    `  ${whereabouts(client)}`,
    ...(findings.length === 0 ? ['  Nothing that RabbitMQ 4 refuses or takes otherwise.'] : findings),
  ];
}

function findingLines(finding: Finding, { library }: ReportClient, target: string): string[] {
  const { usage, title, effect, count, lastSeen, example, what, source, fix, libraryFix } = finding;
  const line = (label: string, text: string): string => `           ${label.padEnd(9)}${printable(text)}`;
  return [
    `  ${effect.padEnd(9)}${usage}: ${title} (${count}×, last ${lastSeen})`,
    ...(example === '' ? [] : [line('seen:', example)]),
    line(`on ${target}:`, `${what}${KNOWN[source]}`),
    line('fix:', fix),
    ...(libraryFix === null ? [] : [line('', `${library}: ${libraryFix}`)]),
  ];
}
