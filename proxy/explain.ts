import { ARGUMENTS_OF, decodeArguments, encodeArguments } from '../amqp/arguments.ts';
import { decodeField, plainTable } from '../amqp/values.ts';
import type { Declare } from './declare.ts';
import type { ExchangeTreatment, Policy, QueueTreatment } from './policy/policy.ts';
import { ruleFor } from './rules/index.ts';
import type { MeaningChange, RuleContext } from './rules/rule.ts';
import type { BrokerVersion } from './version.ts';

/** What the proxy does with a method, and why. */
export interface Explanation {
  /** The rule that decided about the name; undefined where none was asked. */
  readonly decided: { readonly name: string; readonly where: string; readonly what: string } | undefined;
  /** What was done, or why nothing was, each with its reason. */
  readonly steps: readonly string[];
  readonly changes: readonly MeaningChange[];
  readonly isRewritten: boolean;
  /** What the broker gets. */
  readonly sent: Declare;
  /** What depends on what the broker has when it is sent. */
  readonly atRunTime: string | undefined;
}

/** The trials of the rules, in words; by the rule's name and what its trial asks about. */
const AT_RUN_TIME: Readonly<Record<string, string>> = {
  'queue.declare edited':
    "it is tried on a channel of the proxy's own first: where a queue of that name exists in another form, it is used as it is",
  'queue.declare always':
    'it is tried for up to a second while the name belongs to a connection that has just ended: RabbitMQ 4 frees it late',
  'exchange.declare edited':
    "it is tried on a channel of the proxy's own first: where a transient exchange of that name exists, it is used as it is",
  'queue.delete always':
    'the broker is asked first, by a passive declare: a queue in use or not empty is answered with 406, as classic queues do',
  'basic.consume always':
    'the broker is asked first, by a passive declare: a queue that has consumers is answered with 403, as classic queues do',
};

/**
 * Runs the rule that the proxy runs on a frame made of the method.
 * @throws RangeError when it can't be encoded
 */
export function explain({ method, values }: Declare, policy: Policy, broker: BrokerVersion): Explanation {
  const steps: string[] = [];
  const changes: MeaningChange[] = [];
  let decided: QueueTreatment | ExchangeTreatment | undefined;
  const context: RuleContext = {
    broker,
    policy: {
      queue: (name) => (decided = policy.queue(name)),
      exchange: (name) => (decided = policy.exchange(name)),
    },
    change: (change) => void changes.push(change),
    step: (text) => void steps.push(text),
  };
  const rule = ruleFor(ARGUMENTS_OF[method].method)!;
  const frame = encodeArguments(method, values);
  const edited = rule.rewrite(frame, context);
  const trial = rule.trial?.(frame, context);
  const isAsked = trial?.asks === 'always' || (trial !== undefined && edited !== frame);
  return {
    decided: decided && { name: decided.rule, where: decided.where, what: describe(decided) },
    steps,
    changes,
    isRewritten: edited !== frame,
    sent: { method, values: decodeArguments(method, edited) },
    atRunTime: isAsked ? AT_RUN_TIME[`${rule.name} ${trial.asks}`] : undefined,
  };
}

/** The treatment in the words of a rules file. */
function describe(treatment: QueueTreatment | ExchangeTreatment): string {
  const words = [`action ${treatment.action}`];
  if ('expires' in treatment) {
    words.push(treatment.expires === 'none' ? 'expires none' : `expires ${treatment.expires / 1000} s`);
  }
  if ('set' in treatment) {
    const values = treatment.set.map(([key, field]) => [key, decodeField(field)] as const);
    const plain = Object.entries(plainTable(Object.fromEntries(values)));
    words.push(...plain.map(([key, value]) => `sets ${key} to ${JSON.stringify(value)}`));
    words.push(...treatment.remove.map((key) => `removes ${key}`));
  }
  return words.join(', ');
}
