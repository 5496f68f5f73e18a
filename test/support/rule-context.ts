import { DEFAULT_POLICY, type Policy } from '../../proxy/policy/policy.ts';
import type { MeaningChange, RuleContext } from '../../proxy/rules/rule.ts';
import { NEWEST, parseVersion } from '../../proxy/version.ts';

/** What a rule depends on, and what it told. @param broker its version, such as `4.0` */
export function ruleContext(
  broker?: string,
  policy: Policy = DEFAULT_POLICY,
): RuleContext & { readonly changes: MeaningChange[]; readonly steps: string[] } {
  const changes: MeaningChange[] = [];
  const steps: string[] = [];
  return {
    broker: broker === undefined ? NEWEST : parseVersion(broker)!,
    policy,
    change: (change) => void changes.push(change),
    step: (text) => void steps.push(text),
    changes,
    steps,
  };
}
