// The reconciler brings queues and exchanges back as the proxy would have them declared: both are asked, and have to agree.
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../../common/kube/types.ts';
import { plainDeclare, readDeclare } from '../../../proxy/declare.ts';
import { explain } from '../../../proxy/explain.ts';
import { DEFAULT_POLICY, type Policy } from '../../../proxy/policy/policy.ts';
import {
  type QueueForm,
  formExchange,
  formQueue,
  queueFormOf,
} from '../../../reconciler/broker/queue-form.ts';

const CLASSIC_POLICY: Policy = {
  ...DEFAULT_POLICY,
  queue: () => ({ rule: 'None', where: 'test', action: 'classic-durable', set: [], remove: [] }),
};

const TYPES = [undefined, 'classic', 'quorum', 'stream'] as const;
const MINORS = [0, 1, 2, 3] as const;

/** Every argument that some rule knows, and one that none does. */
const ARGUMENTS: readonly (readonly [string, JsonObject[string]])[] = [
  ['x-expires', 60_000],
  ['x-message-ttl', 5],
  ['x-max-length', 3],
  ['x-max-length-bytes', 3000],
  ['x-overflow', 'reject-publish-dlx'],
  ['x-overflow', 'reject-publish'],
  ['x-overflow', 'drop-head'],
  ['x-dead-letter-exchange', ''],
  ['x-dead-letter-routing-key', 'k'],
  ['x-dead-letter-strategy', 'at-least-once'],
  ['x-max-priority', 10],
  ['x-queue-mode', 'lazy'],
  ['x-queue-version', 2],
  ['x-queue-master-locator', 'min-masters'],
  ['x-queue-leader-locator', 'balanced'],
  ['x-ha-policy', 'all'],
  ['x-single-active-consumer', true],
  ['x-delivery-limit', -1],
  ['x-quorum-initial-group-size', 3],
  ['x-max-in-memory-length', 5],
  ['x-max-in-memory-bytes', 5],
  ['x-consumer-timeout', 60_000],
  ['x-max-age', '1D'],
  ['something-else', { deep: [1, 'x', false] }],
];

interface Case {
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly type: (typeof TYPES)[number];
  readonly args: JsonObject;
  readonly minor: number;
}

/** What 3.x has and its definitions say; quorum queues and streams are durable and not auto-delete there. */
function exists({ durable, autoDelete, type }: Case): boolean {
  return (type !== 'quorum' && type !== 'stream') || (durable && !autoDelete);
}

function argumentsOf({ type, args }: Case): JsonObject {
  return type === undefined ? args : { ...args, 'x-queue-type': type };
}

function byReconciler(one: Case, form: QueueForm): JsonObject {
  const queue = {
    vhost: '/',
    name: 'q',
    durable: one.durable,
    auto_delete: one.autoDelete,
    arguments: argumentsOf(one),
  };
  const target = { major: 4, minor: one.minor, patch: 5 };
  const { object } = formQueue(queue, form, target);
  expect(formQueue(object, form, target).changes).toEqual([]);
  return { durable: object['durable'], auto_delete: object['auto_delete'], arguments: object['arguments'] };
}

function byProxy(one: Case, policy: Policy): JsonObject {
  const declare = { queue: 'q', durable: one.durable, auto_delete: one.autoDelete };
  const text = JSON.stringify({ ...declare, arguments: argumentsOf(one) });
  const { sent } = explain(readDeclare(text), policy, { major: 4, minor: one.minor });
  const { durable, auto_delete, arguments: args } = plainDeclare(sent) as JsonObject;
  return { durable, auto_delete, arguments: args };
}

const TABLE: readonly Case[] = MINORS.flatMap((minor) =>
  TYPES.flatMap((type) =>
    [true, false].flatMap((durable) =>
      [true, false].flatMap((autoDelete) =>
        [[], ...ARGUMENTS.map((entry) => [entry])].map((entries) => ({
          durable,
          autoDelete,
          type,
          args: Object.fromEntries(entries),
          minor,
        })),
      ),
    ),
  ),
).filter(exists);

const anyCase = fc
  .record({
    durable: fc.boolean(),
    autoDelete: fc.boolean(),
    type: fc.constantFrom(...TYPES),
    args: fc.uniqueArray(fc.constantFrom(...ARGUMENTS), { selector: ([key]) => key }).map(Object.fromEntries),
    minor: fc.constantFrom(...MINORS),
  })
  .filter(exists) as fc.Arbitrary<Case>;

describe('queues that are brought back', () => {
  it('are what the proxy makes of their declares: each argument, with every flag, type and version', () => {
    expect(TABLE.length).toBe(4 * 25 * 10);
    for (const one of TABLE) expect(byReconciler(one, 'quorum')).toEqual(byProxy(one, DEFAULT_POLICY));
  });

  it('are what the proxy makes of their declares: all arguments together', () => {
    fc.assert(
      fc.property(anyCase, (one) => {
        expect(byReconciler(one, 'quorum')).toEqual(byProxy(one, DEFAULT_POLICY));
      }),
      { numRuns: 1000 },
    );
  });

  it('are, with spec.queueType None, what the proxy makes of them by the action classic-durable', () => {
    const classic = TABLE.filter(({ type }) => type !== 'quorum');
    expect(classic.length).toBeGreaterThan(800);
    for (const one of classic) expect(byReconciler(one, 'classic')).toEqual(byProxy(one, CLASSIC_POLICY));
    fc.assert(
      fc.property(
        anyCase.filter(({ type }) => type !== 'quorum'),
        (one) => {
          expect(byReconciler(one, 'classic')).toEqual(byProxy(one, CLASSIC_POLICY));
        },
      ),
    );
  });

  it('stay as they are, with spec.queueType None, where they are quorum queues', () => {
    const args = { 'x-queue-type': 'quorum', 'x-overflow': 'reject-publish-dlx', 'x-delivery-limit': 3 };
    const queue = { vhost: '/', name: 'q', durable: true, auto_delete: false, arguments: args };
    const formed = formQueue(queue, 'classic', { major: 4, minor: 3, patch: undefined });
    expect(formed.object).toEqual(queue);
    expect(formed.changes).toEqual([]);
  });

  it('tell each field that is not as it was, with the values and the reason', () => {
    const queue = {
      vhost: '/',
      name: 'q',
      durable: true,
      auto_delete: true,
      arguments: {
        'x-max-priority': 10,
        'x-max-length': 3,
      },
    };
    expect(formQueue(queue, 'quorum', { major: 4, minor: 0, patch: undefined }).changes).toEqual([
      { field: 'auto_delete', from: true, to: false, why: 'quorum queues cannot be auto-delete' },
      { field: 'arguments.x-max-priority', from: 10, to: undefined, why: 'quorum queues refuse it' },
      {
        field: 'arguments.x-queue-type',
        from: undefined,
        to: 'quorum',
        why: 'the replicated type that RabbitMQ 4 has in the place of mirrored queues',
      },
      {
        field: 'arguments.x-expires',
        from: undefined,
        to: 1_800_000,
        why: 'it was auto-delete: it goes when it is not used',
      },
    ]);
  });

  it('have the form that spec.queueType names', () => {
    expect(['Quorum', 'Mirrored', undefined, 'None'].map(queueFormOf)).toEqual([
      'quorum',
      'quorum',
      'quorum',
      'classic',
    ]);
  });
});

describe('exchanges that are brought back', () => {
  it.each([true, false])('are what the proxy makes of their declares: durable %s', (durable) => {
    for (const [type, auto_delete, internal] of [
      ['topic', false, false],
      ['fanout', true, false],
      ['headers', false, true],
    ] as const) {
      const args = { 'alternate-exchange': 'ae' };
      const exchange = { vhost: '/', name: 'x', type, durable, auto_delete, internal, arguments: args };
      const declare = { method: 'exchange.declare', exchange: 'x', type, durable, auto_delete, internal };
      const text = JSON.stringify({ ...declare, arguments: args });
      const { sent } = explain(readDeclare(text), DEFAULT_POLICY, { major: 4, minor: 0 });
      expect(plainDeclare(sent)).toMatchObject({
        ...declare,
        durable: formExchange(exchange).object['durable'],
      });
    }
  });
});
