import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { type CommandIo, type CommandSpec, exitCodes } from '../../../cli/command.ts';
import { runCommandLine } from '../../../cli/run.ts';
import { UsageError } from '../../../common/errors.ts';
import { type OptionTable, type OptionValues, flag, integer, text } from '../../../common/options.ts';

const options = {
  file: {
    name: 'file',
    short: 'f',
    argument: 'FILE',
    env: 'T_FILE',
    description: 'What to read.',
    repeatable: true,
    parse: text(),
  },
  count: {
    name: 'count',
    argument: 'N',
    env: 'T_COUNT',
    description: 'How many.',
    default: 3,
    parse: integer({ min: 1 }),
  },
  noCluster: { name: 'no-cluster', env: 'T_NO_CLUSTER', description: 'Ask nobody.', parse: flag() },
} satisfies OptionTable;

type Values = OptionValues<typeof options>;

interface Outcome {
  code: number;
  out: string;
  err: string;
  values: Values | undefined;
  origins: CommandIo['origins'] | undefined;
  loaded: string[];
}

function sink(): { stream: Writable; text: () => string } {
  let written = '';
  const stream = new Writable({
    write(chunk, _encoding, done) {
      written += String(chunk);
      done();
    },
  });
  return { stream, text: () => written };
}

async function run(
  args: readonly string[],
  { env = {}, act = () => 0 }: { env?: Record<string, string>; act?: () => number } = {},
): Promise<Outcome> {
  const out = sink();
  const err = sink();
  const outcome: Partial<Outcome> = {};
  const loaded: string[] = [];
  const command: CommandSpec<typeof options> = {
    name: 'work',
    summary: 'Do the work.',
    options,
    examples: [{ purpose: 'read one file', command: 'quorumbridge work -f a.yaml' }],
    async run(values, io) {
      Object.assign(outcome, { values, origins: io.origins });
      return act();
    },
  };
  const other: CommandSpec = {
    name: 'other',
    summary: 'Rest.',
    options: {},
    examples: [],
    run: async () => 0,
  };
  const loaders = {
    work: async () => {
      loaded.push('work');
      return { command };
    },
    other: async () => {
      loaded.push('other');
      return { command: other };
    },
  };
  const io = { stdin: Readable.from([]), stdout: out.stream, stderr: err.stream, env };
  const code = await runCommandLine(args, loaders, io);
  return {
    values: undefined,
    origins: undefined,
    ...outcome,
    code,
    out: out.text(),
    err: err.text(),
    loaded,
  };
}

describe('the command line', () => {
  it('gives a command its values and their origins, and returns its exit code', async () => {
    const outcome = await run(['work', '-f', '-', '--file=b', '--no-cluster'], {
      env: { T_COUNT: '7' },
      act: () => 1,
    });
    expect(outcome.values).toEqual({ file: ['-', 'b'], count: 7, noCluster: true });
    expect(outcome.origins).toEqual({ file: 'flag', count: 'environment', noCluster: 'flag' });
    expect(outcome).toMatchObject({ code: 1, out: '', err: '' });
  });

  it('loads only the command that is called', async () => {
    expect((await run(['work'])).loaded).toEqual(['work']);
    expect((await run(['--help'])).loaded).toEqual(['work', 'other']);
  });

  it('takes true and false for a boolean option', async () => {
    expect(
      (await run(['work', '--no-cluster=false'], { env: { T_NO_CLUSTER: '1' } })).values?.noCluster,
    ).toBe(false);
    expect((await run(['work'], { env: { T_NO_CLUSTER: '1' } })).values?.noCluster).toBe(true);
    expect((await run(['work'])).values?.noCluster).toBe(false);
  });

  it('reads the configuration file that --config or the environment names, below flags and environment', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'qb-cli-'));
    try {
      const config = join(folder, 'q.yaml');
      writeFileSync(config, 'file: [x]\ncount: 9\nno-cluster: true\n');
      const { values, origins } = await run(['work', '--config', config, '--count', '1']);
      expect(values).toEqual({ file: ['x'], count: 1, noCluster: true });
      expect(origins).toEqual({ file: 'file', count: 'flag', noCluster: 'file' });
      expect((await run(['work'], { env: { QUORUMBRIDGE_CONFIG: config } })).values?.count).toBe(9);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it.each([
    [
      ['work', '--count=0'],
      'quorumbridge work: option --count: "0" is not valid: expected a whole number of at least 1\n',
    ],
    [['work', '--cuont', '1'], "quorumbridge work: unknown option '--cuont'\n(Did you mean --count?)\n"],
    [['work', '--count'], "quorumbridge work: option '--count <N>' argument missing\n"],
    [
      ['work', 'stray'],
      "quorumbridge work: too many arguments for 'work'. Expected 0 arguments but got 1: stray.\n",
    ],
    [['wrok'], "quorumbridge: unknown command 'wrok'\n(Did you mean work?)\n"],
    [
      ['work', '--config=/no/such/file'],
      'quorumbridge work: configuration file /no/such/file cannot be read: ENOENT',
    ],
  ])('answers %j with exit code 2, what is wrong and where to look', async (args, message) => {
    const { code, err, out, values } = await run(args);
    expect(err).toContain(message);
    expect(err).toMatch(/See 'quorumbridge(?: work)? --help'\.\n$/);
    expect({ code, out, values }).toEqual({ code: 2, out: '', values: undefined });
  });

  it('prints every line of a UsageError that a command throws, with exit code 2', async () => {
    const { code, err } = await run(['work'], {
      act: () => {
        throw new UsageError('first\nsecond');
      },
    });
    expect(err).toBe(
      "quorumbridge work: first\nquorumbridge work: second\nSee 'quorumbridge work --help'.\n",
    );
    expect(code).toBe(2);
  });

  it('prints an unexpected error with its stack, with exit code 1', async () => {
    const { code, err } = await run(['work'], {
      act: () => {
        throw new TypeError('a bug');
      },
    });
    expect(err).toMatch(/^quorumbridge work: TypeError: a bug\n {4}at /);
    expect(code).toBe(1);
  });

  it('shows help with exit code 2 when no command is given', async () => {
    const { code, err } = await run([]);
    expect(err).toContain('Usage: quorumbridge');
    expect(code).toBe(2);
  });
});

describe('help', () => {
  it('of the program lists its commands and exit codes', async () => {
    const { code, out, err } = await run(['--help']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toMatch(/^ {2}work \[options\] +Do the work\.$/m);
    expect(out).toMatch(/^ {2}other \[options\] +Rest\.$/m);
    for (const { code, meaning } of exitCodes) expect(out).toContain(`  ${code}  ${meaning}\n`);
  });

  it('of a command shows default, environment variable and file key of every option, exit codes and examples', async () => {
    const { code, out } = await run(['work', '--help']);
    expect(code).toBe(0);
    expect(out).toMatch(
      /-f, --file FILE +What to read\.\n +\[default: none; environment: T_FILE; file: file; repeatable\]\n/,
    );
    expect(out).toMatch(/ {4}--count N +How many\.\n +\[default: 3; environment: T_COUNT; file: count\]\n/);
    expect(out).toMatch(
      / {4}--no-cluster +Ask nobody\.\n +\[default: false; environment: T_NO_CLUSTER; file: no-cluster\]\n/,
    );
    expect(out).toMatch(
      / {4}--config FILE .*\n(?:.*\n)? +\[default: none; environment: QUORUMBRIDGE_CONFIG\]\n/,
    );
    for (const { code, meaning } of exitCodes) expect(out).toContain(`  ${code}  ${meaning}\n`);
    expect(out).toContain('  # read one file\n  quorumbridge work -f a.yaml\n');
  });

  it('names the version of the package', async () => {
    expect((await run(['--version'])).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});
