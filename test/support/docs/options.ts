import { command as certs } from '../../../cli/certs.ts';
import { type CommandSpec, configOption, exitCodes } from '../../../cli/command.ts';
import { command as config } from '../../../cli/config.ts';
import { command as credentials } from '../../../cli/credentials.ts';
import { command as dlq } from '../../../cli/dlq.ts';
import { command as explain } from '../../../cli/explain.ts';
import { command as inject } from '../../../cli/inject.ts';
import { command as proxy } from '../../../cli/proxy.ts';
import { command as reconciler } from '../../../cli/reconciler.ts';
import { command as report } from '../../../cli/report.ts';
import { command as rewrite } from '../../../cli/rewrite.ts';
import { command as topology } from '../../../cli/topology.ts';
import { command as upgrade } from '../../../cli/upgrade.ts';
import { command as webhook } from '../../../cli/webhook.ts';
import { defaultText, type OptionSpec, type OptionTable } from '../../../common/options.ts';
import { code, table } from './table.ts';

/** Every command, in the order of the document. */
export const COMMANDS: readonly CommandSpec[] = [
  proxy,
  webhook,
  reconciler,
  inject,
  explain,
  rewrite,
  config,
  report,
  upgrade,
  topology,
  dlq,
  credentials,
  certs,
];

function row(spec: OptionSpec<unknown>): string[] {
  const { name, short, argument, env, description, required, repeatable } = spec;
  const long = code(argument === undefined ? `--${name}` : `--${name} ${argument}`);
  const shownDefault = required === true ? 'required' : (defaultText(spec) ?? 'none');
  return [
    short === undefined ? long : `${code(`-${short}`)}, ${long}`,
    code(env),
    shownDefault,
    repeatable === true ? `${description} Repeatable.` : description,
  ];
}

const optionTable = (options: OptionTable): string =>
  table(['option', 'environment variable', 'default', 'meaning'], Object.values(options).map(row));

/** The options of each command, and what its exit codes mean. */
export function optionTables(): [name: string, table: string][] {
  return [
    ['options of every command', optionTable(configOption)],
    ...COMMANDS.map((spec): [string, string] => [`options of ${spec.name}`, optionTable(spec.options)]),
    [
      'exit codes',
      table(
        ['code', 'meaning'],
        exitCodes.map(({ code, meaning }) => [String(code), meaning]),
      ),
    ],
  ];
}
