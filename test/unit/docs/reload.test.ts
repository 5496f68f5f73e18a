import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { proxyOptions } from '../../../proxy/options.ts';
import { FILES, needRestart } from '../../../proxy/reload/scope.ts';

const text = readFileSync(new URL('../../../docs/reload.md', import.meta.url), 'utf8');

const flag = (property: keyof typeof proxyOptions): string => `--${proxyOptions[property].name}`;

const flagsIn = (markdown: string): Set<string> =>
  new Set([...markdown.matchAll(/`(--[a-z-]+)`/g)].map(([, name]) => name!));

it('names every option that needs a restart, and no other', () => {
  const [, named = ''] = /\*\*need a restart\*\*:(.*?)\. A reload/s.exec(text) ?? [];
  expect(flagsIn(named)).toEqual(new Set(needRestart('pool').map(flag)));
  expect(needRestart('pool')).toEqual(expect.arrayContaining([...needRestart('transparent')]));
});

it('names every file that is watched', () => {
  const [, named = ''] = /the files that (.*?) name are/s.exec(text) ?? [];
  expect(flagsIn(named)).toEqual(new Set(FILES.map(flag)));
});

it('has no option that there is not', () => {
  const known = Object.values(proxyOptions).map(({ name }) => `--${name}`);
  const named = [...text.matchAll(/(?<![\w-])--[a-z][a-z-]*[a-z]/g)].map(([name]) => name);
  const unknown = named.filter((name) => !known.some((each) => each === name || each.startsWith(name)));
  expect(unknown.filter((name) => !['--set', '--help'].includes(name))).toEqual([]);
});
