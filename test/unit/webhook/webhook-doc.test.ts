import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createMetrics } from '../../../common/metrics.ts';
import { REQUEST_ERRORS } from '../../../webhook/errors.ts';
import { WebhookStats, registerMetrics } from '../../../webhook/metrics.ts';
import { RESOURCES } from '../../../webhook/owner.ts';

const doc = readFileSync(new URL('../../../docs/webhook.md', import.meta.url), 'utf8');

/** The cells of each row of the tables under a heading. */
function rows(heading: string): string[][] {
  const section = doc.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('| `') || /^\| \d/.test(line))
    .map((line) => line.split('|').slice(1, -1))
    .map((cells) => cells.map((cell) => cell.replaceAll('`', '').trim()));
}

describe('docs/webhook.md', () => {
  it('lists exactly the refusals there are, with their HTTP status', () => {
    const documented = rows('Refusals').map(([status, reason]) => [reason, Number(status)]);
    expect(Object.fromEntries(documented)).toEqual(REQUEST_ERRORS);
  });

  it('lists exactly the metrics there are, with their labels', async () => {
    const registered = new Map<string, string>();
    const note = (name: string, help: string, _read: unknown, labels: readonly string[] = []): void => {
      expect(help).not.toBe('');
      registered.set(name, labels.join(', '));
    };
    registerMetrics({ ...createMetrics(), counter: note, gauge: note }, new WebhookStats());
    expect(new Map(rows('Metrics').map(([name = '', labels = '']) => [name, labels]))).toEqual(registered);
  });

  it('names every right that the account needs', () => {
    for (const resource of RESOURCES) expect(doc).toContain(`\`${resource}\``);
  });
});
