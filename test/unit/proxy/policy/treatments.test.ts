import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { METHOD } from '../../../../amqp/constants.ts';
import { loadRules } from '../../../../proxy/policy/load.ts';
import { RulePolicies } from '../../../../proxy/policy/policies.ts';
import type { Policy } from '../../../../proxy/policy/policy.ts';
import { parseRules } from '../../../../proxy/policy/rules-file.ts';
import { ruleFor } from '../../../../proxy/rules/index.ts';
import type { Settlement } from '../../../../proxy/rules/rule.ts';
import { NEWEST } from '../../../../proxy/version.ts';
import {
  type Entry,
  entry,
  exchangeDeclare,
  longstr,
  queueDeclare,
  readQueueDeclare,
} from '../../../support/amqp-frames.ts';
import { fieldArbitrary } from '../../../support/amqp-arbitraries.ts';
import { ruleContext } from '../../../support/rule-context.ts';

const DURABLE = 2;
const EXCLUSIVE = 4;
const AUTO_DELETE = 8;

const declareRule = ruleFor(METHOD.queueDeclare)!;
const exchangeRule = ruleFor(METHOD.exchangeDeclare)!;

/** One rule for everything, as a file has it. */
function policyOf(rule: string): Policy {
  const scope = { virtualHost: '/', user: undefined, broker: NEWEST };
  return new RulePolicies(parseRules('f', `rules: [{${rule}}]`).rules).for(scope);
}

const int = (key: string, value: number): Entry => entry(key, { tag: 'I', value });
const text = (key: string, value: string): Entry => entry(key, longstr(value));

interface Declared {
  readonly flags: number;
  /** By key, with type and value. */
  readonly arguments: Record<string, unknown>;
}

/** What the broker gets, the order of arguments left aside; it must stay what it is when it is rewritten again. */
function rewritten(policy: Policy, declare: { flags?: number; entries?: Entry[] }, broker = '4.3'): Declared {
  const edited = declareRule.rewrite(queueDeclare(declare), ruleContext(broker, policy));
  expect(declareRule.rewrite(edited, ruleContext(broker, policy))).toBe(edited);
  const { name, flags, entries } = readQueueDeclare(edited);
  expect(name.toString()).toBe('q');
  const keys = entries.map(({ key }) => key.toString('latin1'));
  expect(new Set(keys).size).toBe(keys.length);
  return { flags, arguments: Object.fromEntries(entries.map(({ field }, i) => [keys[i]!, field])) };
}

const TYPES: Entry[][] = [
  [],
  [text('x-queue-type', '')],
  [text('x-queue-type', 'classic')],
  [text('x-queue-type', 'quorum')],
];

/** All that a client may declare a queue as: durable or not, auto-delete or not, with each type. */
const FORMS = TYPES.flatMap((type) =>
  [0, DURABLE, AUTO_DELETE, DURABLE | AUTO_DELETE].map((flags) => ({ flags, type })),
);

describe('all declares of a name', () => {
  const entries = [int('x-message-ttl', 5), int('x-max-length', 9)];

  it.each([
    'action: quorum',
    'action: quorum, expires: none',
    'action: quorum, arguments: {set: {x-max-length: 3, x-delivery-limit: -1}, remove: x-message-ttl}',
  ])('become one, but for an expiry of what was auto-delete: %s', (rule) => {
    const forms = FORMS.map(({ flags, type }) => {
      const declared = rewritten(policyOf(rule), { flags, entries: [...entries, ...type] });
      const { 'x-expires': _, ...others } = declared.arguments;
      return { ...declared, arguments: others };
    });
    for (const form of forms) expect(form).toEqual(forms[0]);
    expect(forms[0]).toMatchObject({ flags: DURABLE, arguments: { 'x-queue-type': longstr('quorum') } });
  });

  it('become one with its expiry, where the rule gives one', () => {
    const policy = policyOf('action: quorum, expires: 10m');
    const forms = FORMS.map(({ flags, type }) =>
      rewritten(policy, { flags, entries: [...entries, ...type] }),
    );
    for (const form of forms) expect(form).toEqual(forms[0]);
    expect(forms[0]!.arguments['x-expires']).toEqual({ tag: 'I', value: 600_000 });
  });

  it('become one classic queue, but for auto-delete, which it keeps', () => {
    const policy = policyOf('action: classic-durable');
    const priority = int('x-max-priority', 10);
    for (const { flags, type } of FORMS) {
      expect(rewritten(policy, { flags, entries: [...entries, priority, ...type] })).toEqual({
        flags: flags | DURABLE,
        arguments: {
          'x-message-ttl': entries[0]!.field,
          'x-max-length': entries[1]!.field,
          'x-max-priority': priority.field,
          'x-queue-type': longstr('classic'),
        },
      });
    }
  });

  it('become one, whatever other arguments they have, and stay it', () => {
    const argument = fc.oneof(
      fc.constantFrom('quorum', 'classic', '').map((type) => text('x-queue-type', type)),
      fc.constantFrom('reject-publish-dlx', 'drop-head').map((value) => text('x-overflow', value)),
      fc
        .tuple(
          fc.constantFrom('x-max-priority', 'x-expires', 'x-delivery-limit', 'x-queue-mode', 'a'),
          fieldArbitrary,
        )
        .map(([key, field]) => entry(key, field)),
    );
    const unique = fc.uniqueArray(argument, { selector: ({ key }) => key.toString(), maxLength: 5 });
    const rule = fc.constantFrom(
      'action: quorum, expires: 20m, arguments: {set: {a: 1, x-overflow: drop-head}, remove: [x-max-priority]}',
      'action: quorum, expires: none, arguments: {set: {x-delivery-limit: 5}, remove: [x-expires, a]}',
      'action: classic-durable, expires: 1h, arguments: {set: {x-max-priority: 9}, remove: [x-overflow]}',
    );
    fc.assert(
      fc.property(rule, unique, fc.constantFrom('3.10', '4.0', '4.3'), (rule, entries, broker) => {
        const policy = policyOf(rule);
        const transient = rewritten(policy, { entries }, broker);
        expect(rewritten(policy, { flags: DURABLE, entries }, broker)).toEqual(transient);
      }),
      { numRuns: 300 },
    );
  });
});

describe('a rule', () => {
  it('gives an expiry only where the client has none, and none to what was auto-delete where it says so', () => {
    const own = [entry('x-expires', { tag: 'l', value: 7n })];
    expect(rewritten(policyOf('action: quorum, expires: 10m'), { entries: own }).arguments).toMatchObject({
      'x-expires': own[0]!.field,
    });
    expect(
      rewritten(policyOf('action: quorum, expires: none'), { flags: AUTO_DELETE }).arguments,
    ).not.toHaveProperty('x-expires');
    expect(rewritten(policyOf('action: quorum'), { flags: AUTO_DELETE }).arguments).toHaveProperty(
      'x-expires',
    );
    expect(
      rewritten(policyOf('action: classic-durable'), { flags: AUTO_DELETE }).arguments,
    ).not.toHaveProperty('x-expires');
    expect(rewritten(policyOf('action: classic-durable, expires: 5m'), {}).arguments).toMatchObject({
      'x-expires': { tag: 'I', value: 300_000 },
    });
  });

  it("replaces the client's expiry where it removes it", () => {
    const rule = 'action: quorum, expires: 720h, arguments: {remove: x-expires}';
    expect(rewritten(policyOf(rule), { entries: [int('x-expires', 1000)] }).arguments['x-expires']).toEqual({
      tag: 'l',
      value: 2_592_000_000n,
    });
  });

  it("sets arguments in the place of the client's own, and removes others, each however often it comes", () => {
    const policy = policyOf('action: quorum, arguments: {set: {x-max-length: 3}, remove: [a, b]}');
    const entries = [int('a', 1), int('x-max-length', 9), int('c', 2), int('a', 3), int('x-max-length', 8)];
    expect(rewritten(policy, { entries }).arguments).toEqual({
      'x-max-length': { tag: 'I', value: 3 },
      c: { tag: 'I', value: 2 },
      'x-queue-type': longstr('quorum'),
    });
  });

  it('takes from a classic queue what classic queues refuse', () => {
    const entries = [
      int('x-delivery-limit', 5),
      int('x-quorum-initial-group-size', 3),
      text('x-queue-version', '2'),
    ];
    expect(rewritten(policyOf('action: classic-durable'), { entries }).arguments).toEqual({
      'x-queue-type': longstr('classic'),
    });
  });

  it.each(['quorum', 'classic-durable'])(
    'with %s leaves exclusive queues, streams and passive declares alone',
    (action) => {
      const policy = policyOf(`action: ${action}, expires: 5m, arguments: {set: {a: 1}, remove: b}`);
      for (const declare of [
        { flags: EXCLUSIVE, entries: [int('b', 1)] },
        { entries: [text('x-queue-type', 'stream'), int('b', 1)] },
        { flags: 1, entries: [int('b', 1)] },
        { name: 'amq.b' },
      ]) {
        const frame = queueDeclare(declare);
        expect(declareRule.rewrite(frame, ruleContext('4.3', policy))).toBe(frame);
      }
    },
  );

  it('with leave leaves what it matches alone, queue or exchange, and says so', () => {
    const context = ruleContext('4.3', policyOf('action: leave'));
    const queue = queueDeclare({ flags: AUTO_DELETE, entries: [int('x-max-priority', 3)] });
    const exchange = exchangeDeclare({});
    expect(declareRule.rewrite(queue, context)).toBe(queue);
    expect(exchangeRule.rewrite(exchange, context)).toBe(exchange);
    expect(context.changes).toEqual([]);
    expect(context.steps).toEqual([
      'left alone: the rule for its name says so',
      'left alone: the rule for its name says so',
    ]);
  });

  it('decides about changes of meaning too', () => {
    const changes = (rule: string): string[] => {
      const context = ruleContext('4.3', policyOf(rule));
      declareRule.rewrite(queueDeclare({ flags: AUTO_DELETE, entries: [int('x-max-priority', 3)] }), context);
      return context.changes;
    };
    expect(changes('action: quorum')).toEqual(['priority', 'delivery-limit', 'auto-delete']);
    expect(
      changes('action: quorum, arguments: {set: {x-delivery-limit: -1}, remove: x-max-priority}'),
    ).toEqual(['auto-delete']);
    expect(changes('action: classic-durable')).toEqual([]);
  });
});

/** What becomes of a declare that the broker refuses for this argument. */
function settled(rule: string, entries: Entry[], argument: string): Settlement {
  const context = ruleContext('4.3', policyOf(rule));
  const frame = queueDeclare({ entries });
  const edited = declareRule.rewrite(frame, context);
  const replyText = `PRECONDITION_FAILED - inequivalent arg '${argument}' for queue 'q' in vhost '/': received none but current is x`;
  const answer = { refusal: { replyCode: 406, replyText }, messages: 0, consumers: 0 };
  const tried = { frame, edited, virtualHost: '/', waited: 0 };
  return declareRule.trial!(frame, context)!.settle(tried, answer) as Settlement;
}

describe('a queue that exists already', () => {
  const rule =
    'action: quorum, expires: 5m, arguments: {set: {x-delivery-limit: -1, x-max-length: 5}, remove: x-message-ttl}';

  it.each([
    ['an argument that the rule sets', [], 'x-delivery-limit'],
    ['an argument that the rule sets in the place of another', [int('x-max-length', 9)], 'x-max-length'],
    ['an argument that the rule removes', [int('x-message-ttl', 9)], 'x-message-ttl'],
    ['an expiry that the rule gives', [], 'x-expires'],
    ['the type', [], 'x-queue-type'],
  ])('is used as it is where %s differs', (_, entries, argument) => {
    const { send, existing } = settled(rule, entries, argument);
    expect(existing).toContain(`inequivalent arg '${argument}'`);
    expect(readQueueDeclare(send).flags).toBe(1);
  });

  it.each([
    ['an argument that is none of the rule', [], 'x-single-active-consumer'],
    ['the same argument as the rule sets', [int('x-max-length', 5)], 'x-max-length'],
    ["the client's own expiry", [int('x-expires', 9)], 'x-expires'],
  ])("is the client's to compare where %s differs", (_, entries, argument) => {
    const { send, existing } = settled(rule, entries, argument);
    expect(existing).toBeUndefined();
    expect(readQueueDeclare(send).flags).toBe(DURABLE);
  });
});

describe('the preset celery', () => {
  it('keeps the lifetime that workers ask for', () => {
    const policy = loadRules({ preset: 'celery', rules: undefined }).policies.for({
      virtualHost: '/',
      user: 'guest',
      broker: NEWEST,
    });
    const declare = {
      name: 'celery@h.celery.pidbox',
      flags: AUTO_DELETE,
      entries: [int('x-expires', 10_000)],
    };
    const edited = declareRule.rewrite(queueDeclare(declare), ruleContext('4.3', policy));
    expect(Buffer.from(edited)).toEqual(
      queueDeclare({
        ...declare,
        flags: DURABLE | AUTO_DELETE,
        entries: [...declare.entries, text('x-queue-type', 'classic')],
      }),
    );
  });
});
