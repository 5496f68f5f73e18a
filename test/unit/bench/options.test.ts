import { describe, expect, it } from 'vitest';
import { CASES } from '../../../bench/cases.ts';
import { type BenchSettings, HELP, readBenchOptions, TARGETS } from '../../../bench/options.ts';

const NAMES = CASES.map(({ name }) => name);
const COMMAND = 'other=run {listen} {upstream}';

const settings = (...args: string[]): BenchSettings => {
  const read = readBenchOptions(args);
  if (read === 'help' || read instanceof Error) throw new Error(`not read: ${String(read)}`);
  return read;
};

describe('the command line of npm run bench', () => {
  it('measures everything unless it is told otherwise', () => {
    expect(settings()).toEqual({
      cases: NAMES,
      targets: ['direct', 'haproxy', 'transparent', 'pool'],
      commands: [],
      rounds: 7,
      quick: false,
      json: undefined,
    });
  });

  it('leaves out what takes long when it is to be quick, with fewer rounds', () => {
    const { cases, rounds, quick } = settings('--quick');
    expect(cases).toEqual(CASES.filter((one) => one.quick !== undefined).map(({ name }) => name));
    expect(cases.length).toBeLessThan(NAMES.length);
    expect([rounds, quick]).toEqual([2, true]);
  });

  it('measures the cases and targets that are named, in their own order', () => {
    const named = settings(
      '--case',
      'publish-1k',
      '--case=publish-16',
      '--target=pool',
      '--target',
      'direct',
    );
    expect(named.cases).toEqual(['publish-16', 'publish-1k']);
    expect(named.targets).toEqual(['direct', 'pool']);
    expect(settings('--rounds=50', '--json=f.json')).toMatchObject({ rounds: 50, json: 'f.json' });
  });

  it('takes other proxies by their commands', () => {
    const { commands, targets } = settings(COMMAND);
    expect(commands).toEqual([{ name: 'other', command: 'run {listen} {upstream}' }]);
    expect(targets).toEqual([...TARGETS, 'other']);
    expect(settings(COMMAND, '--target=other').targets).toEqual(['other']);
  });

  it.each([
    [['--case=publish'], `option --case: "publish" is none of ${NAMES.join(', ')}`],
    [['--quick', '--case=quorum'], 'option --case: "quorum" is none of publish-16, '],
    [['--target=nginx'], 'option --target: "nginx" is none of direct, haproxy, transparent, pool'],
    [['--rounds=0'], 'option --rounds: "0" is no whole number from 1 to 50'],
    [['--rounds=51'], 'option --rounds: "51" is no whole number from 1 to 50'],
    [['--rounds=1.5'], 'option --rounds: "1.5" is no whole number from 1 to 50'],
    [['--json='], 'option --json: the name of a file is missing'],
    [['publish-16'], '"publish-16" is no NAME=COMMAND'],
    [['Other=run {listen} {upstream}'], '"Other=run {listen} {upstream}" is no NAME=COMMAND'],
    [['pool=run {listen} {upstream}'], 'pool is a target already'],
    [['other=run {listen}'], 'the command lacks {upstream}'],
    [['other=run {upstream}'], 'the command lacks {listen}'],
    [[COMMAND, COMMAND], '"other" is the name of two commands'],
    [['--round=3'], "Unknown option '--round'"],
  ])('refuses %j, and says why', (args, why) => {
    const read = readBenchOptions(args);
    expect(read).toBeInstanceOf(Error);
    expect((read as Error).message).toContain(why);
  });

  it('has a help that names every case and target', () => {
    expect(readBenchOptions(['--help'])).toBe('help');
    const words = new Set(HELP.split(/[\s,]+/));
    expect([...NAMES, ...TARGETS].filter((name) => !words.has(name))).toEqual([]);
  });
});
