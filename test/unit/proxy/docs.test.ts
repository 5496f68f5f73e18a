import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { PROXY_ERRORS } from '../../../proxy/errors.ts';
import { Ledger } from '../../../proxy/ledger.ts';
import { createProxyMetrics } from '../../../proxy/metrics.ts';
import { AUTO_DELETE_EXPIRES } from '../../../proxy/rules/queue-declare.ts';
import { MEANING_CHANGES } from '../../../proxy/rules/rule.ts';
import { Stats } from '../../../proxy/stats.ts';

const document = readFileSync(new URL('../../../docs/proxy.md', import.meta.url), 'utf8');

/** First two cells of every row of the table under a heading. */
function rows(heading: string): [string, string][] {
  const section = document.split(`## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return [...section.matchAll(/^\| `([^`]+)` \| (\w+) \|/gm)].map((row) => [row[1]!, row[2]!]);
}

describe('docs/proxy.md', () => {
  it('lists exactly the error codes that there are, with their kinds', () => {
    expect(rows('Error codes')).toEqual(Object.entries(PROXY_ERRORS));
  });

  it('lists exactly the metrics that there are, with their types', async () => {
    const text = await createProxyMetrics(new Stats(), new Ledger({ mode: 'transparent', limit: 1 })).text();
    const served = [...text.matchAll(/^# TYPE (quorumbridge_\w+) (\w+)$/gm)].map((line) => [
      line[1],
      line[2],
    ]);
    expect(rows('Metrics')).toEqual(served);
  });

  it('lists exactly the changes of meaning that are counted', () => {
    const section = document.split('## What is rewritten\n')[1]?.split('\n## ')[0] ?? '';
    const table = section.split('| change |')[1] ?? '';
    expect([...table.matchAll(/^\| `([\w-]+)` \|/gm)].map((row) => row[1])).toEqual([...MEANING_CHANGES]);
  });

  it('names the lifetime that auto-delete queues get', () => {
    expect(document).toContain(`x-expires=${AUTO_DELETE_EXPIRES}`);
  });
});
