import { describe, expect, it } from 'vitest';
import { configOption } from '../../../cli/command.ts';
import { defaultText, type HostPort, type OptionSpec, formatHostPort } from '../../../common/options.ts';
import { COMMANDS as commands } from '../../support/docs/options.ts';

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
