import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { AUTO_DELETE_EXPIRES } from '../../../proxy/rules/queue-declare.ts';
import { MEANING_CHANGES } from '../../../proxy/rules/rule.ts';

const document = readFileSync(new URL('../../../docs/proxy.md', import.meta.url), 'utf8');

describe('docs/proxy.md', () => {
  it('lists exactly the changes of meaning that are counted', () => {
    const section = document.split('## What is rewritten\n')[1]?.split('\n## ')[0] ?? '';
    const table = section.split('| change |')[1] ?? '';
    expect([...table.matchAll(/^\| `([\w-]+)` \|/gm)].map((row) => row[1])).toEqual([...MEANING_CHANGES]);
  });

  it('names the lifetime that auto-delete queues get', () => {
    expect(document).toContain(`x-expires=${AUTO_DELETE_EXPIRES}`);
  });
});
