import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type CommandSpec, configOption, defaultText, exitCodes } from '../../../cli/command.ts';
import { command as certs } from '../../../cli/certs.ts';
import { command as explain } from '../../../cli/explain.ts';
import { command as inject } from '../../../cli/inject.ts';
import { command as proxy } from '../../../cli/proxy.ts';
import { command as reconciler } from '../../../cli/reconciler.ts';
import { command as report } from '../../../cli/report.ts';
import { command as rewrite } from '../../../cli/rewrite.ts';
import { command as upgrade } from '../../../cli/upgrade.ts';
import { command as webhook } from '../../../cli/webhook.ts';
import { type HostPort, type OptionSpec, formatHostPort } from '../../../common/options.ts';

const text = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8');
const commands: readonly CommandSpec[] = [
  proxy,
  webhook,
  reconciler,
  inject,
  explain,
  rewrite,
  report,
  upgrade,
  certs,
];

/** The rows of the first table below a heading, without its two head lines. */
function rowsBelow(heading: string): string[] {
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(1);
}

function row(spec: OptionSpec<unknown>): string {
  const { name, short, argument, env, description, required, repeatable } = spec;
  const long = argument === undefined ? `--${name}` : `--${name} ${argument}`;
  const flags = short === undefined ? `\`${long}\`` : `\`-${short}\`, \`${long}\``;
  const shownDefault = required === true ? 'required' : (defaultText(spec) ?? 'none');
  const repeated = repeatable === true ? ' Repeatable.' : '';
  return `| ${flags} | \`${env}\` | ${shownDefault} | ${description}${repeated} |`;
}

describe('docs/configuration.md', () => {
  it.each(commands)(
    'has exactly the options of $name, with default, environment variable and description',
    (spec) => {
      expect(rowsBelow(`quorumbridge ${spec.name}`)).toEqual(Object.values(spec.options).map(row));
    },
  );

  it('has the option that every command has', () => {
    expect(rowsBelow('Every command')).toEqual([row(configOption.config)]);
  });

  it('has exactly the exit codes', () => {
    expect(rowsBelow('Exit codes')).toEqual(exitCodes.map(({ code, meaning }) => `| ${code} | ${meaning} |`));
  });

  it('has a section for every command and for no other', () => {
    const sections = [...text.matchAll(/^## quorumbridge (\w+)$/gm)].map(([, name]) => name);
    expect(sections).toEqual(commands.map(({ name }) => name));
  });
});

describe('the options of all commands', () => {
  const options = commands.flatMap(({ name, options }) =>
    Object.entries(options).map(([property, spec]) => ({ name, property, spec })),
  );

  it.each(options)(
    '$name: $property has a name, a variable and a default that belong together',
    ({ property, spec }) => {
      expect(spec.name).toBe(property.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`));
      expect(spec.env).toMatch(/^(?:QUORUMBRIDGE_[A-Z_]+|KUBECONFIG)$/);
      expect(spec.description).toMatch(/^[A-Z].*\.$/);
      const value = spec.default;
      const isAddress = typeof value === 'object' && value !== null && 'host' in value;
      const shown = defaultText(spec) ?? 'none';
      expect(shown).not.toMatch(/[{}]/);
      // A default in words must not say another address than the default itself.
      expect(shown).toBe(isAddress ? formatHostPort(value as HostPort) : shown);
    },
  );

  it.each(commands)('$name gives no two options the same name, letter or variable', ({ options }) => {
    const all = [...Object.values(options), configOption.config] as OptionSpec<unknown>[];
    for (const key of ['name', 'env', 'short'] as const) {
      const given = all.map((spec) => spec[key]).filter((value) => value !== undefined);
      expect(new Set(given).size).toBe(given.length);
    }
  });
});
