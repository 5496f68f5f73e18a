import { Command, CommanderError, Option } from 'commander';
import packageJson from '../package.json' with { type: 'json' };
import { readConfig } from '../common/config-file.ts';
import { UsageError } from '../common/errors.ts';
import type { OptionSpec, OptionTable } from '../common/options.ts';
import { type ResolvedOptions, resolveOptions } from '../common/resolve.ts';
import { type CommandIo, type CommandSpec, configOption } from './command.ts';
import { addHelpEnd, generalHelpEnd, optionHelp } from './help.ts';

export const { version } = packageJson;

/** Commands by name, each loaded only when it is called or listed. */
export type CommandLoaders = Readonly<Record<string, () => Promise<{ readonly command: CommandSpec }>>>;

export type ProcessIo = Omit<CommandIo, 'origins' | 'configuration'> & {
  readonly env: Readonly<Record<string, string | undefined>>;
};

/** Texts given on the command line, by camelCase property. */
type Flags = Record<string, string[]>;

function addOptions(command: Command, table: OptionTable): Flags {
  const flags: Flags = {};
  const specs = new Map<Option, OptionSpec<unknown>>();
  const all: OptionTable = { ...table, ...configOption };
  for (const [property, spec] of Object.entries(all)) {
    const short = spec.short === undefined ? '' : `-${spec.short}, `;
    const value = spec.argument === undefined ? '[true|false]' : `<${spec.argument}>`;
    const option = new Option(`${short}--${spec.name} ${value}`).preset('true').argParser((text: string) => {
      (flags[property] ??= []).push(text);
      return text;
    });
    specs.set(option, spec);
    command.addOption(option);
  }
  command.configureHelp(optionHelp(specs));
  return flags;
}

function addCommand(
  program: Command,
  spec: CommandSpec,
  io: ProcessIo,
  finish: (code: number) => void,
): void {
  const command = program
    .command(spec.name)
    .summary(spec.summary)
    .description(spec.summary)
    .allowExcessArguments(false);
  const flags = addOptions(command, spec.options);
  for (const property of spec.positionals ?? []) {
    const { argument = property, description } = spec.options[property]!;
    command.argument(`[${argument}]`, description, (text: string) => {
      (flags[property] ??= []).push(text);
      return text;
    });
  }
  addHelpEnd(command, spec);
  command.action(async () => {
    const { config: file } = resolveOptions(configOption, { flags, env: io.env }).values;
    const { options: table } = spec;
    const read = (): ResolvedOptions<OptionTable> =>
      resolveOptions(table, { flags, env: io.env, file: file === undefined ? undefined : readConfig(file) });
    const { values, origins } = read();
    finish(await spec.run(values, commandIo(io, origins, { table, file, read })));
  });
}

/** Touches standard input only when the command does: opening it has effects. */
function commandIo(
  io: ProcessIo,
  origins: CommandIo['origins'],
  configuration: CommandIo['configuration'],
): CommandIo {
  return {
    get stdin() {
      return io.stdin;
    },
    stdout: io.stdout,
    stderr: io.stderr,
    origins,
    configuration,
  };
}

function programName(command: string | undefined): string {
  return command === undefined ? 'quorumbridge' : `quorumbridge ${command}`;
}

/** Says what went wrong, once, and gives the exit code for it. */
function explain(error: unknown, name: string, io: ProcessIo): number {
  if (error instanceof CommanderError) {
    // Commander has printed the help, the version or what is wrong already.
    return error.exitCode === 0 ? 0 : 2;
  }
  if (error instanceof UsageError) {
    const lines = error.message.split('\n').map((line) => `${name}: ${line}\n`);
    io.stderr.write(`${lines.join('')}See '${name} --help'.\n`);
    return 2;
  }
  io.stderr.write(`${name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return 1;
}

/**
 * Runs one command line.
 * @param args the arguments after the program's name
 * @returns the exit code; a server may go on working after that.
 */
export async function runCommandLine(
  args: readonly string[],
  loaders: CommandLoaders,
  io: ProcessIo,
): Promise<number> {
  const [first] = args;
  const called = first !== undefined && Object.hasOwn(loaders, first) ? first : undefined;
  const name = programName(called);
  const program = new Command('quorumbridge')
    .description('Carries RabbitMQ 3.x clients across to RabbitMQ 4.')
    .version(version, '--version', 'show the version')
    .helpOption('-h, --help', 'show this help')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
      outputError: (text, write) => write(`${text.replace(/^error:/, `${name}:`)}See '${name} --help'.\n`),
      getOutHelpWidth: () => 110,
      getErrHelpWidth: () => 110,
    })
    .showSuggestionAfterError(true)
    .addHelpText('after', generalHelpEnd);
  let code = 0;
  try {
    for (const name of called === undefined ? Object.keys(loaders) : [called]) {
      const { command } = await loaders[name]!();
      addCommand(program, command, io, (result) => (code = result));
    }
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    return explain(error, name, io);
  }
}

/** Runs this process's own command line and leaves the exit code for when the work ends. */
export async function runProcess(loaders: CommandLoaders): Promise<void> {
  // A reader that has seen enough (`| head`) is no error of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(1);
  });
  process.exitCode = await runCommandLine(process.argv.slice(2), loaders, process);
}
