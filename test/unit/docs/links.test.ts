import { existsSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';
import { documents } from '../../support/docs.ts';
import { HOME } from '../../support/processes.ts';

const docs = documents();

/** A text without its blocks of code. */
const prose = (text: string): string => text.replaceAll(/^( *)```[^]*?^\1```$/gm, '');

/** The anchors of a document, as its readers make them of its headings. */
function anchorsOf(text: string): string[] {
  return [...prose(text).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, '')
      .replaceAll(' ', '-'),
  );
}

const anchors = new Map([...docs].map(([path, text]) => [path, anchorsOf(text)]));

describe.each([...docs])('%s', (path, text) => {
  const links = [...prose(text).matchAll(/\]\(([^()\s]+)\)/g)].map(([, target]) => target!);
  const local = links.filter((target) => !/^\w+:/.test(target));

  it('links to files and headings that there are', () => {
    const broken = local.filter((target) => {
      const [file, anchor] = target.split('#') as [string, string?];
      const found = file === '' ? path : normalize(join(dirname(path), file));
      if (!existsSync(join(HOME, found))) return true;
      return anchor !== undefined && anchors.get(found)?.includes(anchor) !== true;
    });
    expect(broken).toEqual([]);
  });

  it('has no heading twice', () => {
    const all = anchors.get(path)!;
    expect(all.filter((anchor, at) => all.indexOf(anchor) !== at)).toEqual([]);
  });
});

it('every document is linked to from the README', () => {
  const readme = docs.get('README.md')!;
  const linked = [...readme.matchAll(/\]\((docs\/[\w-]+\.md)/g)].map(([, target]) => target!);
  const all = [...docs.keys()].filter((path) => path.startsWith('docs/'));
  expect(all.filter((path) => !linked.includes(path))).toEqual([]);
});
