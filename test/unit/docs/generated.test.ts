// What docs/ says of options, metrics and errors is made of the code, and is what the code says now.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import packageJson from '../../../package.json' with { type: 'json' };
import { documents, madeIn, remade, tables } from '../../support/docs.ts';
import { registeredMetrics } from '../../support/docs/metrics.ts';
import { LABELS, NOTES } from '../../support/docs/metric-texts.ts';
import { COMMANDS } from '../../support/docs/options.ts';
import { HOME } from '../../support/processes.ts';

const made = tables();
const docs = documents();
const metrics = Object.values(registeredMetrics()).flat();

describe('the documents', () => {
  it.each([...docs].filter(([, text]) => madeIn(text).length > 0))(
    '%s says what the code says: `npm run docs` changes nothing',
    (_, text) => {
      expect(text).toBe(remade(text, made));
    },
  );

  it('have each table once, and no marker without its end', () => {
    expect([...docs.values()].flatMap(madeIn).sort()).toEqual([...made.keys()].sort());
    for (const text of docs.values()) {
      const markers = text.match(/^<!-- (?:made: .+|end) -->$/gm) ?? [];
      expect(markers).toHaveLength(2 * madeIn(text).length);
    }
  });

  it('have the options of every command that there is, below a heading of its own', () => {
    const main = readFileSync(join(HOME, 'cli/main.ts'), 'utf8');
    const there = [...main.matchAll(/^ {2}(\w+): \(\) => import/gm)].map(([, name]) => name!);
    expect(COMMANDS.map(({ name }) => name).sort()).toEqual(there.sort());
    const sections = [...docs.get('docs/configuration.md')!.matchAll(/^## quorumbridge (\w+)$/gm)];
    expect(sections.map(([, name]) => name)).toEqual(COMMANDS.map(({ name }) => name));
  });

  it('say nothing of labels and metrics that there are not', () => {
    const names = metrics.map(({ name }) => name);
    expect(Object.keys(NOTES).filter((name) => !names.includes(name))).toEqual([]);
    const labels = metrics.flatMap(({ name, labels }) =>
      [...labels.keys()].flatMap((label) => [label, `${name} ${label}`]),
    );
    expect(Object.keys(LABELS).filter((label) => !labels.includes(label))).toEqual([]);
  });

  it('are made by a script that there is', () => {
    expect(packageJson.scripts.docs).toBe('node test/support/run.mjs test/support/docs.ts');
  });
});

describe('what is made', () => {
  it('stands between its markers, with the text around it left as it is', () => {
    const before = 'a\n<!-- made: t -->\nold\n<!-- end -->\nb\n';
    expect(remade(before, new Map([['t', 'new $& $1']]))).toBe(
      'a\n<!-- made: t -->\nnew $& $1\n<!-- end -->\nb\n',
    );
  });

  it('is refused under a name that nothing has', () => {
    const text = '<!-- made: nothing -->\n<!-- end -->';
    expect(() => remade(text, new Map([['t', '']]))).toThrow('nothing of the name nothing is made: t');
  });

  it('is tables whose rows have as many cells as their heads', () => {
    for (const table of made.values()) {
      const [head, ...rows] = table.split('\n').map((line) => line.split(' |').length);
      expect(rows.slice(1).filter((cells) => cells !== head)).toEqual([]);
      expect(rows.length).toBeGreaterThan(1);
    }
  });

  it('has a sentence for each metric', () => {
    expect(metrics.length).toBeGreaterThan(60);
    expect(metrics.filter(({ help }) => !/^[A-Z].*[^\s]$/.test(help))).toEqual([]);
    expect(new Set(metrics.map(({ name }) => name)).size).toBe(metrics.length);
  });
});
