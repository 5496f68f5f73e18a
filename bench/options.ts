import { parseArgs } from 'node:util';
import { messageOf } from '../common/errors.ts';
import { CASES } from './cases.ts';

/** Targets that there are without being given. */
export const TARGETS = ['direct', 'haproxy', 'transparent', 'pool'] as const;

/** A proxy that is started by a command of the shell. */
export interface Command {
  readonly name: string;
  readonly command: string;
}

export interface BenchSettings {
  /** Names of cases, in the order of {@link CASES}. */
  readonly cases: readonly string[];
  /** Names of targets, of the commands, too. */
  readonly targets: readonly string[];
  readonly commands: readonly Command[];
  readonly rounds: number;
  readonly quick: boolean;
  /** Where the figures go; undefined: nowhere. */
  readonly json: string | undefined;
}

export const HELP = `npm run bench [-- OPTIONS] [NAME=COMMAND...]

Measures CPU, throughput, latency and memory of the proxy beside HAProxy and no proxy at all, in turns within each round,
with a load and a broker of its own on the loopback. Each COMMAND is one more proxy: a line for the shell, in which {listen}
and {upstream} stand for ports of 127.0.0.1, such as
  amqproxy='amqproxy -l 127.0.0.1 -p {listen} amqp://127.0.0.1:{upstream}'
For the cases with TLS the line also has {listen-tls}, a port where the proxy speaks it, and {cert} and {key}, the files of a
certificate for localhost and its key in PEM, or {both}, one file with both.

  --case NAME     measure this only; repeatable. One of
${wrap(CASES.map(({ name }) => name))}
  --target NAME   measure this only; repeatable. One of ${TARGETS.join(', ')}, or a NAME of a COMMAND
  --rounds N      1 to 50, default 7; with --quick 2
  --quick         a minute in all: small runs, without the cases that take long
  --json FILE     write the figures of all rounds there
  --help          print this

environment:
  QUORUMBRIDGE_CACHE     where fetched programs are kept
  QUORUMBRIDGE_BROKERS   packages or docker, to choose how the RabbitMQ of some cases is had

exit status: 0 measured, whatever the figures are, 1 failed, 2 wrong usage, 3 not possible on this machine, 130 interrupted
`;

/** Words in lines of a help text. */
function wrap(words: readonly string[]): string {
  const lines = [''];
  for (const word of words) {
    if (lines.at(-1)!.length + word.length > 90) lines.push('');
    lines.push(`${lines.pop()!} ${word}`);
  }
  return lines.map((line) => `                 ${line}`).join('\n');
}

function among(option: string, given: readonly string[], names: readonly string[]): readonly string[] {
  for (const name of given) {
    if (!names.includes(name))
      throw new Error(`option --${option}: "${name}" is none of ${names.join(', ')}`);
  }
  return names.filter((name) => given.includes(name));
}

function readCommand(text: string): Command {
  const [, name, command] = /^([a-z][a-z0-9-]*)=(.+)$/s.exec(text) ?? [];
  if (name === undefined || command === undefined)
    throw new Error(`"${text}" is no NAME=COMMAND with a name of small letters, digits and hyphens`);
  if (TARGETS.some((one) => one === name)) throw new Error(`"${text}": ${name} is a target already`);
  for (const placeholder of ['{listen}', '{upstream}']) {
    if (!command.includes(placeholder)) throw new Error(`"${text}": the command lacks ${placeholder}`);
  }
  return { name, command };
}

/** Reads the command line: the settings, `help`, or what is wrong with it as an Error. */
export function readBenchOptions(args: readonly string[]): BenchSettings | 'help' | Error {
  const several = { type: 'string', multiple: true } as const;
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        case: several,
        target: several,
        rounds: { type: 'string' },
        quick: { type: 'boolean' },
        json: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (values.help === true) return 'help';
    const quick = values.quick === true;
    const commands = positionals.map(readCommand);
    const names = commands.map(({ name }) => name);
    const twice = names.find((name, i) => names.indexOf(name) < i);
    if (twice !== undefined) throw new Error(`"${twice}" is the name of two commands`);
    const targets = [...TARGETS, ...names];
    const inQuick = CASES.filter((one) => !quick || one.quick !== undefined).map(({ name }) => name);
    const rounds = values.rounds ?? (quick ? '2' : '7');
    if (!/^(?:[1-9]|[1-4]\d|50)$/.test(rounds))
      throw new Error(`option --rounds: "${rounds}" is no whole number from 1 to 50`);
    if (values.json === '') throw new Error('option --json: the name of a file is missing');
    return {
      cases: values.case === undefined ? inQuick : among('case', values.case, inQuick),
      targets: values.target === undefined ? targets : among('target', values.target, targets),
      commands,
      rounds: Number(rounds),
      quick,
      json: values.json,
    };
  } catch (error) {
    return new Error(messageOf(error));
  }
}
