import { UsageError } from '../common/errors.ts';
import { flag, seconds, text } from '../common/options.ts';
import type { OptionTable } from '../common/options.ts';
import { targetOf, TARGETS } from '../proxy/verdicts.ts';
import type { CommandSpec } from './command.ts';

function target(value: string): (typeof TARGETS)[number] {
  const found = targetOf(value);
  if (found === undefined) throw new Error(`expected one of ${TARGETS.join(', ')}`);
  return found;
}

/** Options of `quorumbridge report`. */
export const reportOptions = {
  target: {
    name: 'target',
    argument: 'VERSION',
    env: 'QUORUMBRIDGE_TARGET',
    description: `The RabbitMQ that the clients are to talk to: ${TARGETS.join(', ')}.`,
    required: true,
    parse: target,
  },
  from: {
    name: 'from',
    argument: 'SOURCE',
    env: 'QUORUMBRIDGE_FROM',
    description:
      "A proxy's ledger: the URL or HOST:PORT of its admin port, a file with what /clients answered, or - for standard input.",
    repeatable: true,
    default: ['http://127.0.0.1:15695/clients'],
    parse: text(),
  },
  json: {
    name: 'json',
    env: 'QUORUMBRIDGE_JSON',
    description: 'Print the report as JSON.',
    parse: flag(),
  },
  markdown: {
    name: 'markdown',
    env: 'QUORUMBRIDGE_MARKDOWN',
    description: 'Print the report as Markdown, for a ticket.',
    parse: flag(),
  },
  since: {
    name: 'since',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_SINCE',
    description:
      'Leave out what was last seen longer ago, such as 24h, unless a connection that needs the proxy is still open.',
    hiddenDefault: 'all since the start of the proxy',
    parse: seconds({ min: 1 }),
  },
  timeout: {
    name: 'timeout',
    argument: 'SECONDS',
    env: 'QUORUMBRIDGE_TIMEOUT',
    description: 'How long a proxy may take to answer.',
    default: 10,
    parse: seconds({ min: 0.1, max: 3600 }),
  },
} as const satisfies OptionTable;

export const command: CommandSpec<typeof reportOptions> = {
  name: 'report',
  summary:
    'Say which clients break on a version of RabbitMQ, and how to fix each: by what proxies have seen.',
  options: reportOptions,
  examples: [
    { purpose: 'by the proxy on this machine', command: 'quorumbridge report --target=4.3' },
    {
      purpose: 'by the proxies of a cluster, as a ticket',
      command:
        'quorumbridge report --target=4.3 --from=10.0.0.5:15695 --from=10.0.0.6:15695 --markdown > ticket.md',
    },
    {
      purpose: 'in CI: exit code 1 when something will break',
      command: 'curl -fsS http://127.0.0.1:15695/clients | quorumbridge report --target=4.3 --from=- --json',
    },
  ],
  async run({ target, from, json, markdown, since, timeout }, io) {
    if (json && markdown) throw new UsageError('options --json and --markdown: give one of them');
    const { readSources } = await import('./report/source.ts');
    const { judge } = await import('./report/judge.ts');
    const sources = await readSources(from, { stdin: io.stdin, timeoutMs: timeout * 1000 });
    const report = judge(sources, { target, now: Date.now(), since });
    if (json) io.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    else if (markdown) io.stdout.write((await import('./report/markdown.ts')).asMarkdown(report));
    else io.stdout.write((await import('./report/text.ts')).asText(report));
    return report.summary.breaks > 0 ? 1 : 0;
  },
};
