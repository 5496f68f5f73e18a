import type { Glob } from './glob.ts';
import {
  DEFAULT_EXCHANGE,
  DEFAULT_QUEUE,
  type ExchangeTreatment,
  type Policies,
  type Policy,
  type PolicyScope,
  type QueueTreatment,
} from './policy.ts';
import type { VersionRange } from './range.ts';

/** Whom and what a rule is for; what is not given is no condition. */
export interface RuleMatch {
  /** Of a queue or exchange, one of them. */
  readonly name?: readonly Glob[];
  readonly virtualHost?: readonly Glob[];
  readonly user?: readonly Glob[];
  readonly broker?: VersionRange;
}

/** One rule: what becomes of the queues, or the exchanges, or both, that it matches. */
export interface PolicyRule {
  readonly match: RuleMatch;
  readonly queue?: QueueTreatment;
  readonly exchange?: ExchangeTreatment;
}

/** Policies that are kept; clients choose users and virtual hosts, so beyond that it begins anew. */
const KEPT_MAX = 1000;

/** The rules as they are for each client: the first one that matches decides. */
export class RulePolicies implements Policies {
  readonly #rules: readonly PolicyRule[];
  readonly #kept = new Map<string, Policy>();

  constructor(rules: readonly PolicyRule[]) {
    this.#rules = rules;
  }

  for(scope: PolicyScope): Policy {
    const { virtualHost, user, broker } = scope;
    const key = JSON.stringify([virtualHost, user ?? null, broker.major, broker.minor]);
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept;
    const policy = policyOf(this.#rules.filter(({ match }) => isFor(match, scope)));
    if (this.#kept.size >= KEPT_MAX) this.#kept.clear();
    this.#kept.set(key, policy);
    return policy;
  }
}

function isFor({ virtualHost, user, broker }: RuleMatch, scope: PolicyScope): boolean {
  return (
    isAmong(virtualHost, scope.virtualHost) &&
    (user === undefined || (scope.user !== undefined && isAmong(user, scope.user))) &&
    (broker === undefined || broker(scope.broker))
  );
}

function isAmong(globs: readonly Glob[] | undefined, text: string): boolean {
  return globs === undefined || globs.some((glob) => glob(text));
}

function policyOf(rules: readonly PolicyRule[]): Policy {
  const queues = rules.flatMap(({ match, queue }) => (queue === undefined ? [] : [{ match, queue }]));
  const exchanges = rules.flatMap(({ match, exchange }) =>
    exchange === undefined ? [] : [{ match, exchange }],
  );
  return {
    queue: (name) => queues.find(({ match }) => isAmong(match.name, name))?.queue ?? DEFAULT_QUEUE,
    exchange: (name) =>
      exchanges.find(({ match }) => isAmong(match.name, name))?.exchange ?? DEFAULT_EXCHANGE,
  };
}
