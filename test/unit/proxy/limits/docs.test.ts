import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LIMITS } from '../../../../proxy/limits/limit.ts';
import { limitOptions } from '../../../../proxy/limits/options.ts';

const document = readFileSync(new URL('../../../../docs/limits.md', import.meta.url), 'utf8');

/** The options in the first column of the table below a heading. */
function options(heading: string): string[] {
  const section = document.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  const cells = [...section.matchAll(/^\| (`--[^|]*) \|/gm)].map((row) => row[1]!);
  return cells.flatMap((cell) => [...cell.matchAll(/`--([\w-]+)`/g)].map((match) => match[1]!));
}

describe('docs/limits.md', () => {
  it('has each limit once', () => {
    expect(options('Limits').toSorted()).toEqual(LIMITS.toSorted());
  });

  it('has each option once', () => {
    const documented = [...options('Limits'), ...options('Who may come')];
    const others = ['limits'];
    const names = Object.values(limitOptions).map(({ name }) => name as string);
    expect([...documented, ...others].toSorted()).toEqual([...names, 'max-connections'].toSorted());
    expect(document).toContain('`--limits=alarm`');
  });
});
