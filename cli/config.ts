import { readConfig } from '../common/config-file.ts';
import { UsageError } from '../common/errors.ts';
import { filePath, oneOf, type OptionTable } from '../common/options.ts';
import { describeOption, type EffectiveOption, resolveOptions } from '../common/resolve.ts';
import { proxyOptions } from '../proxy/options.ts';
import type { CommandSpec } from './command.ts';

interface Assignment {
  readonly name: string;
  readonly value: string;
}

function assignment(text: string): Assignment {
  const [, name, value] = /^(?:--)?([a-z][a-z-]*)=(.*)$/s.exec(text) ?? [];
  if (name === undefined || value === undefined)
    throw new Error('expected OPTION=VALUE, as in backend=127.0.0.1:5673');
  return { name, value };
}

/** Options of `quorumbridge config`. */
export const configOptions = {
  action: {
    name: 'action',
    argument: 'ACTION',
    env: 'QUORUMBRIDGE_ACTION',
    description: 'What to do: check; the first argument says it too.',
    required: true,
    parse: oneOf('check'),
  },
  filename: {
    name: 'filename',
    short: 'f',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_FILENAME',
    description: 'The configuration file of a proxy; the second argument says it too.',
    required: true,
    parse: filePath(),
  },
  set: {
    name: 'set',
    argument: 'OPTION=VALUE',
    env: 'QUORUMBRIDGE_SET',
    description: 'An option that the proxy has on its command line besides, without dashes.',
    repeatable: true,
    parse: assignment,
  },
} as const satisfies OptionTable;

export const command: CommandSpec<typeof configOptions> = {
  name: 'config',
  summary: 'Check the configuration of a proxy before it is used.',
  options: configOptions,
  positionals: ['action', 'filename'],
  examples: [
    {
      purpose: 'all of it: options, rules, certificates, and that they go together',
      command: 'quorumbridge config check proxy.yaml',
    },
    {
      purpose: 'for a proxy that has more on its command line',
      command: 'quorumbridge config check proxy.yaml --set backend=127.0.0.1:5673',
    },
  ],
  async run({ filename, set }, io) {
    const { readSettings } = await import('../proxy/settings.ts');
    const sources = { flags: flagsOf(set), env: process.env, file: readConfig(filename) };
    const { values, given } = resolveOptions(proxyOptions, sources);
    readSettings(values);
    const properties = Object.keys(proxyOptions) as (keyof typeof proxyOptions)[];
    const effective = properties
      .filter((property) => given[property] !== undefined)
      .map((property) => describeOption(proxyOptions[property], given[property]));
    io.stdout.write(`${filename} is valid\n${effective.map(lineOf).join('')}`);
    return 0;
  },
};

function flagsOf(assignments: readonly Assignment[]): Record<string, string[]> {
  const flags: Record<string, string[]> = {};
  const specs = Object.entries(proxyOptions);
  for (const { name, value } of assignments) {
    const found = specs.find(([, spec]) => spec.name === name);
    if (found === undefined)
      throw new UsageError(`option --set: ${name}=${value}: 'quorumbridge proxy' has no option --${name}`);
    (flags[found[0]] ??= []).push(value);
  }
  return flags;
}

function lineOf({ option, value, where }: EffectiveOption): string {
  return `  ${option}: ${value.join(', ')} (${where})\n`;
}
