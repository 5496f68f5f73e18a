import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  ANNOTATION,
  FINALIZER,
  PAUSE_LABEL,
  SKIP_PRESTOP_LABEL,
  UPGRADE_ANNOTATION,
  UPGRADE_PHASES,
} from '../../../common/contract.ts';
import { RABBITMQ_CRD, type Schema } from '../../../common/crd.ts';
import { CONDITION_REASONS } from '../../../reconciler/conditions.ts';
import { EVENTS } from '../../../reconciler/tellings.ts';
import { CONDITION_TYPES } from '../../../reconciler/types.ts';

const HOME = new URL('../../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, HOME), 'utf8');
const doc = read('docs/upgrade.md');

/** All sources of the reconciler but the two tables that are checked. */
const sources = readdirSync(new URL('reconciler/', HOME), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !['conditions.ts', 'tellings.ts'].includes(file))
  .map((file) => read(`reconciler/${file}`))
  .join('\n');

function sectionOf(heading: string): string {
  return doc.split(/^#+ /m).find((part) => part.startsWith(`${heading}\n`)) ?? '';
}

/** The tables below a heading, without their first two lines, as rows of cells without backquotes. */
function tables(heading: string): string[][][] {
  const found: string[][][] = [];
  const lines = sectionOf(heading).split('\n');
  for (const [index, line] of lines.entries()) {
    if (!line.startsWith('|')) continue;
    if (!lines[index - 1]?.startsWith('|')) found.push([]);
    const cells = line.split('|').slice(1, -1);
    found.at(-1)!.push(cells.map((cell) => cell.replaceAll('`', '').trim()));
  }
  return found.map((rows) => rows.slice(2));
}

const reasons = CONDITION_TYPES.flatMap((type) =>
  Object.entries(CONDITION_REASONS[type]).map(([reason, text]) => ({ type, reason, text })),
);

describe('docs/upgrade.md', () => {
  it('lists every reason of every condition with its words, and no other', () => {
    const listed = tables('Conditions')[0]!.map(([type, reason, , text]) => ({ type, reason, text }));
    expect(listed).toEqual(reasons);
  });

  it('has the status that the code gives with a reason', () => {
    const table = tables('Conditions')[0]!.map(([type, reason, status]) => `${type} ${reason} ${status}`);
    const written = { true: 'True', false: 'False', "'Unknown'": 'Unknown' } as Record<string, string>;
    const given = [...sources.matchAll(/condition\(\s*'(\w+)',\s*(true|false|'Unknown'),\s*'(\w+)'/g)].map(
      ([, type, status, reason]) => `${type} ${reason} ${written[status!]}`,
    );
    expect(given.length).toBeGreaterThan(30);
    expect(table).toEqual(expect.arrayContaining([...new Set(given)]));
  });

  it('lists every Event with its type and its words, and no other', () => {
    const expected = Object.entries(EVENTS).map(([reason, { type, about }]) => [reason, type, about]);
    expect(tables('Events')[0]).toEqual(expected);
  });

  it('explains every reason for which an upgrade waits, and no other', () => {
    const gates = tables('Gates')[0]!.map(([reason]) => reason);
    expect(gates).toEqual(Object.keys(CONDITION_REASONS.UpgradeAllowed).slice(1));
  });

  it('lists the annotations and labels of upgrades', () => {
    const [annotations, labels] = tables('Annotations and labels');
    expect(annotations!.map(([key]) => key)).toEqual([
      ANNOTATION.targetVersion,
      ANNOTATION.clientsReconfigured,
      ...Object.values(UPGRADE_ANNOTATION),
    ]);
    expect(labels!.map(([key]) => key)).toEqual([PAUSE_LABEL, SKIP_PRESTOP_LABEL]);
    expect(doc).toContain(FINALIZER);
  });

  it('lists the phases in their order', () => {
    const listed = tables('Phases')[0]!.map(([phase]) => phase);
    expect(['', ...listed]).toEqual(UPGRADE_PHASES);
  });

  it('lists the fields of status and of an upgrade, those inside of it too', () => {
    const root: Schema = RABBITMQ_CRD.spec.versions[0].schema.openAPIV3Schema;
    const status = root.properties!['status']!.properties!;
    const [fields, inner] = tables('Status');
    expect(new Set(fields!.map(([field]) => field))).toEqual(new Set(Object.keys(status)));
    const upgrade = status['upgrade']!.properties!;
    expect(new Set(inner!.map(([field]) => field))).toEqual(new Set(Object.keys(upgrade)));
    expect(Object.keys(status['lastUpgrade']!.properties!)).toEqual(Object.keys(upgrade));
    for (const field of ['backup', 'definitions']) {
      const row = inner!.find(([name]) => name === field)!;
      for (const name of Object.keys(upgrade[field]!.properties!)) expect(row[1]).toContain(name);
    }
  });

  it('has links that lead somewhere', () => {
    const anchors = (text: string): string[] =>
      [...text.matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
        title!
          .toLowerCase()
          .replaceAll(/[^\w\- ]/g, '')
          .replaceAll(' ', '-'),
      );
    const links = [...doc.matchAll(/\]\(([^)#]*)(?:#([^)]*))?\)/g)];
    expect(links.length).toBeGreaterThan(20);
    const broken = links.filter(([, file, anchor]) => {
      const path = file === '' ? 'docs/upgrade.md' : `docs/${file}`;
      return (
        !existsSync(new URL(path, HOME)) || (anchor !== undefined && !anchors(read(path)).includes(anchor))
      );
    });
    expect(broken.map(([link]) => link)).toEqual([]);
  });

  it('names files of tests that are there', () => {
    const files = [...sectionOf('What the origin tests').matchAll(/`(test\/[\w./-]+\.ts)`/g)];
    expect(files.length).toBeGreaterThan(10);
    for (const [, file] of files) expect(read(file!)).toContain('describe');
  });
});

describe('the code', () => {
  it.each(reasons)('has a use for the reason $reason of $type', ({ type, reason }) => {
    // Reasons that are chosen by a function of their own stand alone, as those of the gates and of ProxyRemovable.
    expect(sources).toMatch(
      new RegExp(
        `'${type}',[^;]{0,40}'${reason}'|reason: '${reason}'|no\\(\\s*'${reason}'|PHASE = '${reason}'`,
      ),
    );
  });

  it.each(Object.keys(EVENTS))('has a use for the Event %s', (reason) => {
    expect(sources).toMatch(
      new RegExp(`telling\\((?:[^;]{0,60}\\s)?'${reason}'|\\? '${reason}'|: '${reason}'`),
    );
  });
});
