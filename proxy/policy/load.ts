import { readFileSync } from 'node:fs';
import { UsageError, messageOf } from '../../common/errors.ts';
import { PRESETS } from '../../common/contract.ts';
import { RulePolicies } from './policies.ts';
import type { Policies } from './policy.ts';
import { PRESET_RULES, type PresetName } from './presets.ts';
import { type RulesFile, parseRules } from './rules-file.ts';

/** Where rules come from, by option. */
export interface RulesOptions {
  readonly preset: PresetName | undefined;
  /** The path of a rules file. */
  readonly rules: string | undefined;
}

export interface LoadedRules {
  readonly policies: Policies;
  readonly preset: PresetName;
  /** How many rules there are, those of the preset included. */
  readonly count: number;
}

/**
 * The rules of the file, then those of the preset.
 * @throws UsageError when the file can't be read or is no rules file, and when it names another preset than the option
 */
export function loadRules({ preset, rules: path }: RulesOptions): LoadedRules {
  const file: RulesFile =
    path === undefined ? { preset: undefined, rules: [] } : parseRules(path, readText(path));
  if (preset !== undefined && file.preset !== undefined && preset !== file.preset) {
    throw new UsageError(
      `option --preset is ${preset}, but ${path} has the preset ${file.preset}: leave one of them out`,
    );
  }
  const chosen = preset ?? file.preset ?? PRESETS[0];
  const behind = parseRules(`preset ${chosen}`, PRESET_RULES[chosen], () => `preset ${chosen}`);
  const rules = [...file.rules, ...behind.rules];
  return { policies: new RulePolicies(rules), preset: chosen, count: rules.length };
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`option --rules: ${path} cannot be read: ${messageOf(error)}`);
  }
}
