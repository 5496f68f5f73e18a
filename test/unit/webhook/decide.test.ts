import { describe, expect, it } from 'vitest';
import { decide, decisionWarnings } from '../../../webhook/decide.ts';
import type { DecideInput } from '../../../webhook/decide.ts';
import { REASONS } from '../../../webhook/reasons.ts';
import type { Reason } from '../../../webhook/reasons.ts';
import type { JsonObject } from '../../../common/kube/types.ts';
import type { OwnerFacts } from '../../../webhook/types.ts';
import { cluster, rabbitmq, statefulSet } from './objects.ts';

const INJECT = 'quorumbridge.io/inject';
const ENABLE = 'rabbitmq.openstack.org/enable-proxy';
const RECONFIGURED = 'rabbitmq.openstack.org/clients-reconfigured';
const TARGET = 'rabbitmq.openstack.org/target-version';

function input(more: Partial<DecideInput> = {}): DecideInput {
  return {
    object: cluster({}, {}),
    stored: false,
    owner: { state: 'absent' },
    namespace: undefined,
    injectedBy: undefined,
    ...more,
  };
}

function found(status: JsonObject = {}, spec: JsonObject = {}, annotations: JsonObject = {}): OwnerFacts {
  return { state: 'found', rabbitmq: rabbitmq(status, spec, annotations) };
}

const UNKNOWN: OwnerFacts = { state: 'unknown', why: 'timeout' };
const UPGRADING = { upgradePhase: 'WaitingForCluster', currentVersion: '3.9' };
const TO_4 = { queueType: 'Quorum', targetVersion: '4.2' };

/** Each fact that has a say, by priority: the first of those present decides. */
const FACTS: {
  name: string;
  reason: Reason;
  set(state: { object: JsonObject; owner: Parameters<typeof found> }): void;
  namespace?: true;
}[] = [
  {
    name: 'inject=false on the object',
    reason: 'inject-false',
    set: ({ object }) => (object[INJECT] = 'false'),
  },
  {
    name: 'inject=false on the RabbitMq',
    reason: 'inject-false',
    set: ({ owner }) => (owner[2] = { ...owner[2], [INJECT]: 'false' }),
  },
  { name: 'a disabled namespace', reason: 'namespace-disabled', set: () => undefined, namespace: true },
  {
    name: 'clients-reconfigured on the RabbitMq',
    reason: 'clients-reconfigured',
    set: ({ owner }) => (owner[2] = { ...owner[2], [RECONFIGURED]: 'true' }),
  },
  {
    name: 'clients-reconfigured on the object',
    reason: 'clients-reconfigured',
    set: ({ object }) => (object[RECONFIGURED] = 'true'),
  },
  {
    name: 'enable-proxy on the RabbitMq',
    reason: 'enable-proxy',
    set: ({ owner }) => (owner[2] = { ...owner[2], [ENABLE]: 'true' }),
  },
  {
    name: 'enable-proxy on the object',
    reason: 'enable-proxy',
    set: ({ object }) => (object[ENABLE] = 'true'),
  },
  {
    name: 'inject=true on the RabbitMq',
    reason: 'inject-true',
    set: ({ owner }) => (owner[2] = { [INJECT]: 'true', ...owner[2] }),
  },
  {
    name: 'status.proxyRequired',
    reason: 'proxy-required',
    set: ({ owner }) => (owner[0] = { ...owner[0], proxyRequired: true }),
  },
  {
    name: 'an active upgrade to quorum queues',
    reason: 'upgrade-to-quorum',
    set: ({ owner }) => ((owner[0] = { ...owner[0], ...UPGRADING }), (owner[1] = TO_4)),
  },
];

describe('the decision', () => {
  it('follows the priority in each of the 1024 combinations of facts, for both kinds', () => {
    for (const object of [cluster({}, {}), statefulSet({}, {}, {})]) {
      for (let mask = 0; mask < 2 ** FACTS.length; mask++) {
        const present = FACTS.filter((_fact, bit) => (mask & (1 << bit)) !== 0);
        const annotations: JsonObject = {};
        const owner: Parameters<typeof found> = [{}, {}, {}];
        for (const fact of present) fact.set({ object: annotations, owner });
        const namespace = present.some((fact) => fact.namespace)
          ? {
              apiVersion: 'v1',
              kind: 'Namespace',
              metadata: { labels: { 'quorumbridge.io/injection': 'disabled' } },
            }
          : undefined;
        const decided = decide(
          input({
            object: { ...object, metadata: { ...object.metadata, annotations } },
            owner: found(...owner),
            namespace,
          }),
        );
        const expected = present[0]?.reason ?? 'not-required';
        const names = present.map((fact) => fact.name).join(', ');
        expect([names, decided.reason, decided.inject]).toEqual([names, expected, REASONS[expected].inject]);
      }
    }
  });

  it.each<[string, JsonObject, Reason]>([
    ['true', { [ENABLE]: 'true' }, 'enable-proxy'],
    ['True', { [ENABLE]: 'True' }, 'not-required'],
    ['yes', { [ENABLE]: 'yes' }, 'not-required'],
    ['1', { [ENABLE]: '1' }, 'not-required'],
    ['empty', { [ENABLE]: '' }, 'not-required'],
    ['inject True', { [INJECT]: 'True' }, 'not-required'],
    ['inject true', { [INJECT]: 'true' }, 'inject-true'],
    ['reconfigured False', { [ENABLE]: 'true', [RECONFIGURED]: 'False' }, 'enable-proxy'],
  ])('takes nothing but the exact values: %s', (_name, annotations, reason) => {
    expect(decide(input({ object: cluster({}, annotations) })).reason).toBe(reason);
  });

  it("asks the RabbitMq first where both have the seeds' annotations", () => {
    const object = cluster({}, { [RECONFIGURED]: 'true', [ENABLE]: 'true' });
    expect(decide(input({ object, owner: found({}, {}, { [RECONFIGURED]: 'false' }) })).reason).toBe(
      'enable-proxy',
    );
    expect(
      decide(
        input({ object: cluster({}, { [ENABLE]: 'true' }), owner: found({}, {}, { [ENABLE]: 'false' }) }),
      ).reason,
    ).toBe('not-required');
  });

  it.each<[unknown, Reason]>([
    [true, 'proxy-required'],
    ['True', 'proxy-required'],
    [false, 'not-required'],
    ['False', 'not-required'],
    ['true', 'not-required'],
    [1, 'not-required'],
    [null, 'not-required'],
  ])('reads status.proxyRequired %j', (proxyRequired, reason) => {
    expect(decide(input({ owner: found({ proxyRequired } as JsonObject) })).reason).toBe(reason);
  });

  it.each<[string, string, boolean, Reason]>([
    ['that an upgrade is about to delete', 'old', false, 'not-required'],
    ['that an upgrade is about to delete, which had the proxy', 'old', true, 'proxy-required'],
    ['that an upgrade made', 'new', false, 'proxy-required'],
  ])('requires the proxy for a cluster %s', (_name, uid, proxyBefore, reason) => {
    const object = cluster({}, {});
    const status = { ...UPGRADING, proxyRequired: true, upgrade: { clusterUid: 'old', proxyBefore } };
    const given = { ...object, metadata: { ...object.metadata, uid } };
    expect(decide(input({ object: given, stored: true, owner: found(status, TO_4) })).reason).toBe(reason);
  });

  it.each<[string, JsonObject, JsonObject, JsonObject, boolean]>([
    ['3.9 to 4.2', UPGRADING, TO_4, {}, true],
    [
      '3.9.29 to 4.0.5',
      { ...UPGRADING, currentVersion: '3.9.29' },
      { ...TO_4, targetVersion: '4.0.5' },
      {},
      true,
    ],
    ['3.13 to 5.0', { ...UPGRADING, currentVersion: '3.13' }, { ...TO_4, targetVersion: '5.0' }, {}, true],
    ['3.13 to 10.1', UPGRADING, { ...TO_4, targetVersion: '10.1' }, {}, true],
    ['the annotation names the target', UPGRADING, { queueType: 'Quorum' }, { [TARGET]: '4.2' }, true],
    ['the annotation beats the spec', UPGRADING, TO_4, { [TARGET]: '3.13' }, false],
    ['4.0 to 4.2', { ...UPGRADING, currentVersion: '4.0' }, TO_4, {}, false],
    ['30.1 to 40.2', { ...UPGRADING, currentVersion: '30.1' }, TO_4, {}, false],
    ['3.9 to 3.13', UPGRADING, { ...TO_4, targetVersion: '3.13' }, {}, false],
    ['no phase', { ...UPGRADING, upgradePhase: '' }, TO_4, {}, false],
    ['mirrored queues', UPGRADING, { ...TO_4, queueType: 'Mirrored' }, {}, false],
    ['no target', UPGRADING, { queueType: 'Quorum' }, {}, false],
    ['a version of one part', { ...UPGRADING, currentVersion: '3' }, TO_4, {}, false],
    ['a version with a v', { ...UPGRADING, currentVersion: 'v3.9' }, TO_4, {}, false],
    ['a version that ends in a dot', { ...UPGRADING, currentVersion: '3.9.' }, TO_4, {}, false],
    ['a version of four parts', UPGRADING, { ...TO_4, targetVersion: '4.2.0.1' }, {}, false],
    ['no current version', { upgradePhase: 'DeletingResources' }, TO_4, {}, false],
  ])('counts as an upgrade to quorum queues or not: %s', (_name, status, spec, annotations, isOn) => {
    expect(decide(input({ owner: found(status, spec, annotations) })).reason).toBe(
      isOn ? 'upgrade-to-quorum' : 'not-required',
    );
  });

  it('leaves objects that are being deleted alone, whatever else holds', () => {
    const object = cluster({}, { [ENABLE]: 'true' });
    object.metadata['deletionTimestamp'] = '2026-01-01T00:00:00Z';
    for (const owner of [UNKNOWN, found({ proxyRequired: true })]) {
      expect(decide(input({ object, owner }))).toMatchObject({ inject: 'keep', reason: 'deleting' });
    }
  });

  it('leaves other kinds alone, also those of the same name in another group', () => {
    for (const [apiVersion, kind] of [
      ['v1', 'Pod'],
      ['example.com/v1', 'StatefulSet'],
      ['apps/v1', 'RabbitmqCluster'],
      ['apps/v1', 'Deployment'],
    ] as const) {
      const object = { ...cluster({}, { [ENABLE]: 'true' }), apiVersion, kind };
      expect(decide(input({ object })).reason).toBe('other-kind');
    }
  });

  it('leaves a StatefulSet alone that a RabbitmqCluster controls, whatever was copied to it', () => {
    const owner = { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster', name: 'mq', uid: '1' };
    for (const annotations of [{ [ENABLE]: 'true' }, { [RECONFIGURED]: 'true' }, { [INJECT]: 'false' }]) {
      const object = statefulSet({}, {}, annotations);
      object.metadata['ownerReferences'] = [{ ...owner, controller: true }];
      expect(decide(input({ object })).reason).toBe('governed-by-rabbitmqcluster');
    }
    const object = statefulSet({}, {}, { [ENABLE]: 'true' });
    object.metadata['ownerReferences'] = [owner, { ...owner, apiVersion: 'other/v1', controller: true }];
    expect(decide(input({ object })).reason).toBe('enable-proxy');
    expect(decide(input({ object, injectedBy: 'RabbitmqCluster' })).reason).toBe(
      'governed-by-rabbitmqcluster',
    );
  });

  it('keeps a stored object as it is while its RabbitMq can not be read, unless it opts out itself', () => {
    const of = (annotations: JsonObject, stored: boolean): Reason =>
      decide(input({ object: cluster({}, annotations), owner: UNKNOWN, stored })).reason;
    expect(of({}, true)).toBe('owner-unknown');
    expect(of({ [ENABLE]: 'true' }, true)).toBe('owner-unknown');
    expect(of({ [INJECT]: 'false' }, true)).toBe('inject-false');
    expect(of({ [RECONFIGURED]: 'true' }, true)).toBe('clients-reconfigured');
    expect(of({}, false)).toBe('owner-unknown');
    expect(of({ [INJECT]: 'true' }, false)).toBe('inject-true');
    expect(decide(input({ owner: UNKNOWN })).message).toContain('timeout');
  });
});

describe('the warnings beside a decision', () => {
  function warningsOf(more: Partial<DecideInput>): string[] {
    const facts = input(more);
    return decisionWarnings(facts, decide(facts));
  }

  it('name a switch whose value is neither true nor false', () => {
    expect(warningsOf({ object: cluster({}, { [ENABLE]: 'True', [INJECT]: 'false' }) })).toEqual([
      `annotation ${ENABLE}: "True" is ignored, expected "true" or "false"`,
    ]);
  });

  it('tell that the RabbitMq needs the proxy that was opted out of', () => {
    const owner = found({ proxyRequired: true });
    expect(warningsOf({ object: cluster({}, { [INJECT]: 'false' }), owner }).join()).toContain(
      'requires the proxy',
    );
    expect(warningsOf({ object: cluster({}, { [RECONFIGURED]: 'true' }), owner })).toEqual([]);
  });

  it('tell that an unreadable RabbitMq was not followed', () => {
    expect(warningsOf({ owner: UNKNOWN, stored: true }).join()).toContain('stays as it was');
  });
});
