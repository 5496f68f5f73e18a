import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LIBRARIES } from '../../../cli/report/fixes.ts';
import { judge } from '../../../cli/report/judge.ts';
import { asText } from '../../../cli/report/text.ts';
import { USAGES } from '../../../proxy/usage.ts';
import { fixOf, TARGETS, titleOf, verdictOn } from '../../../proxy/verdicts.ts';
import { entry, exchangeDeclare, longstr, queueDeclare } from '../../support/amqp-frames.ts';
import { ledgerDocument } from '../../support/ledgers.ts';

const document = readFileSync(new URL('../../../docs/report.md', import.meta.url), 'utf8');

function section(heading: string): string {
  return document.split(`## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
}

/** The first cells of the rows of the table below a heading, or of the table that begins with this cell. */
function firstCells(heading: string, first: string): string[] {
  const table = section(heading).split(`| ${first} |`)[1]?.split('\n\n')[0] ?? '';
  return [...table.matchAll(/^\| `([^`]+)` \|/gm)].map((row) => row[1]!);
}

/** The clients of the document's example. */
const ledger = ledgerDocument({
  clients: [
    {
      user: 'nova',
      virtualHost: '/nova',
      product: 'py-amqp',
      version: '5.1.1',
      connectionName: 'nova-compute:7:0b7e6a1c-93c2-4b3c-8f0a-2f6f1f4d5e6a',
      at: 60,
      says: [
        queueDeclare({
          name: 'reply_5a1c0f6e2b7d4c3f9e8a7b6c5d4e3f2a',
          entries: [entry('x-expires', { tag: 'I', value: 1_800_000 })],
        }),
        exchangeDeclare({ name: 'nova' }),
      ],
    },
    {
      user: 'shop',
      product: 'amqplib',
      version: '0.10.3',
      platform: 'Node.JS v18.20.4',
      address: '10.0.0.9',
      at: 3600,
      frameMax: 4096,
      leaves: true,
      says: [queueDeclare({ name: 'orders', flags: 2 })],
    },
    {
      user: 'billing',
      product: 'RabbitMQ',
      version: '5.20.0',
      platform: 'Java',
      address: '10.0.0.7',
      at: 7200,
      says: [
        queueDeclare({
          name: 'bills',
          flags: 2,
          entries: [
            entry('x-queue-type', longstr('quorum')),
            entry('x-delivery-limit', { tag: 'I', value: 50 }),
          ],
        }),
      ],
    },
  ],
});

const report = judge([{ name: 'http://127.0.0.1:15695/clients', ledger }], {
  target: '4.3',
  now: Date.parse('2026-11-28T14:00:00Z'),
});

/** Every field of a value with its path; what is keyed by usages is one of them. */
function pathsOf(value: unknown, path = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => pathsOf(item, `${path}[]`));
  if (typeof value !== 'object' || value === null) return [path];
  const own = /\.(?:rewrites|changes|usages)$/.test(path) ? [path] : [];
  return [
    ...own,
    ...Object.entries(value).flatMap(([key, item]) => {
      const name = path.endsWith('.usages') ? '*' : key;
      return pathsOf(item, path === '' ? name : `${path}.${name}`);
    }),
  ];
}

describe('docs/report.md', () => {
  it('shows what the report prints', () => {
    expect(document).toContain(`\`\`\`text\n${asText(report).trimEnd()}\n\`\`\`\n`);
  });

  it('explains every field of /clients, in their order, and no other', () => {
    expect(firstCells('Clients', 'field')).toEqual([...new Set(pathsOf(ledger))]);
  });

  it('explains every field of --json', () => {
    const top = Object.entries(report).map(([name, value]) => (Array.isArray(value) ? `${name}[]` : name));
    const rows = firstCells('Before the upgrade', 'field of `--json`');
    expect(rows).toEqual([...top.slice(0, 4), 'clients[].findings[]', 'limits[]']);
    const explained = (row: string): string =>
      section('Before the upgrade').split(`| \`${row}\` |`)[1]?.split('\n')[0] ?? '';
    for (const name of Object.keys(report.clients[0]!.findings[0]!))
      expect(explained('clients[].findings[]')).toContain(`\`${name}\``);
    for (const name of Object.keys(report.sources[0]!))
      expect(explained('sources[]')).toContain(`\`${name}\``);
    for (const name of Object.keys(report.summary)) expect(explained('summary')).toContain(`\`${name}\``);
    const asOnClients = ['user', 'vhost', 'connectionName', 'product', 'version', 'platform', 'findings'];
    for (const name of Object.keys(report.clients[0]!).filter((name) => !asOnClients.includes(name)))
      expect(explained('clients[]')).toContain(`\`${name}\``);
  });

  it('lists exactly the usages that are looked for, with their verdicts and fixes', () => {
    const table = section('What is looked for')
      .split('\n')
      .filter((line) => line.startsWith('| `'));
    expect(table).toEqual(
      USAGES.map((usage) => {
        const effects = TARGETS.map((target) => verdictOn(usage, target).effect);
        return `| ${[`\`${usage}\``, titleOf(usage), ...effects, fixOf(usage)].join(' | ')} |`;
      }),
    );
    expect(section('What is looked for')).toContain(`| usage | a client that … | ${TARGETS.join(' | ')} |`);
  });

  it('names the libraries whose words are known', () => {
    expect(section('Libraries')).toContain(`${LIBRARIES.join(', ')}.`);
  });

  it('quotes the lines that a ledger says', () => {
    for (const words of ['need the proxy; the last rewrite was at', 'did before', '(the start of the proxy)'])
      expect(section('Behind the upgrade')).toContain(words);
  });
});
