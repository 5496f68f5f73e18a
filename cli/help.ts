import type { Command, HelpConfiguration, Option } from 'commander';
import { defaultText, type OptionSpec } from '../common/options.ts';
import { type CommandSpec, configOption, exitCodes } from './command.ts';

function term({ short, name, argument }: OptionSpec<unknown>): string {
  const long = argument === undefined ? `--${name}` : `--${name} ${argument}`;
  return short === undefined ? `    ${long}` : `-${short}, ${long}`;
}

/** Description, default, environment variable and file key. */
function details(spec: OptionSpec<unknown>): string {
  const facts = [
    spec.required === true ? 'required' : `default: ${defaultText(spec) ?? 'none'}`,
    `environment: ${spec.env}`,
    ...(spec === configOption.config ? [] : [`file: ${spec.name}`]),
    ...(spec.repeatable === true ? ['repeatable'] : []),
  ];
  return `${spec.description}\n[${facts.join('; ')}]`;
}

/** Makes commander show options by their specs: its own way would show how the flags are parsed. */
export function optionHelp(specs: ReadonlyMap<Option, OptionSpec<unknown>>): HelpConfiguration {
  return {
    optionTerm(option) {
      const spec = specs.get(option);
      return spec === undefined ? option.flags.replace(/^--/, '    --') : term(spec);
    },
    optionDescription(option) {
      const spec = specs.get(option);
      return spec === undefined ? option.description : details(spec);
    },
  };
}

function indented(lines: readonly string[]): string {
  return lines.map((line) => `  ${line}`).join('\n');
}

const exitCodeLines = exitCodes.map(({ code, meaning }) => `${code}  ${meaning}`);

/** Adds what every command's help ends with: precedence, exit codes and examples. */
export function addHelpEnd(command: Command, { examples }: CommandSpec): void {
  command.addHelpText(
    'after',
    [
      '',
      'Precedence: option, environment variable, configuration file, default. In the environment a repeatable',
      'option is a comma-separated list, in the file a list. A boolean option also takes =true or =false.',
      '',
      'Exit codes:',
      indented(exitCodeLines),
      '',
      'Examples:',
      ...examples.map(({ purpose, command }) => indented([`# ${purpose}`, ...command.split('\n')])),
    ].join('\n'),
  );
}

/** The end of the help of `quorumbridge` itself. */
export const generalHelpEnd = ['', 'Exit codes:', indented(exitCodeLines)].join('\n');
