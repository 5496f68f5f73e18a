import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { copy, objectsAt, textAt, valueAt } from '../../../common/kube/json.ts';
import type { JsonObject, KubeObject } from '../../../common/kube/types.ts';
import {
  type ClusterWish,
  clusterChanges,
  describesCluster,
  desiredCluster,
  finishPatch,
  injectPatch,
} from '../../../reconciler/cluster.ts';
import type { UpgradeRecord } from '../../../reconciler/types.ts';
import { ENABLE, allowed, annotated, cluster, clusters } from '../webhook/objects.ts';

const POD_SPEC = ['spec', 'override', 'statefulSet', 'spec', 'template', 'spec'];
const CONFIG = ['spec', 'rabbitmq', 'additionalConfig'];
const IMAGE = 'rabbitmq:4.2-management';

const RECORD: UpgradeRecord = {
  sequence: 2,
  from: '3.9',
  to: '4.2',
  reason: 'VersionUpgrade',
  clusterUid: 'old',
  isOwned: false,
  proxyBefore: false,
  replicas: 3,
  gracePeriodSeconds: 60,
  startedAt: '2026-01-01T00:00:00Z',
  phaseStartedAt: '2026-01-01T00:00:00Z',
};

function rabbitmq(spec: JsonObject = {}): KubeObject {
  return {
    apiVersion: 'rabbitmq.openstack.org/v1beta1',
    kind: 'RabbitMq',
    metadata: { namespace: 'openstack', name: 'mq', uid: 'rabbitmq-uid' },
    spec: { targetVersion: '4.2', queueType: 'Quorum', ...spec },
    status: { currentVersion: '4.2' },
  };
}

function desired(wish: Partial<ClusterWish> = {}): KubeObject {
  return result(wish).object;
}

function result(wish: Partial<ClusterWish>): { object: KubeObject; notes: string[] } {
  return desiredCluster({
    snapshot: cluster({}, {}),
    rabbitmq: rabbitmq(),
    version: '4.2',
    image: IMAGE,
    queueType: 'Quorum',
    record: RECORD,
    proxyRequired: false,
    ...wish,
  });
}

function overriding(podSpec: JsonObject): JsonObject {
  return { override: { statefulSet: { spec: { template: { spec: podSpec } } } } };
}

function namesIn(object: KubeObject, list: string): unknown[] {
  return objectsAt(object, ...POD_SPEC, list).map(({ name }) => name);
}

function withoutStatus(object: KubeObject): KubeObject {
  const result = copy(object);
  const path = ['spec', 'override', 'statefulSet', 'spec', 'template', 'metadata', 'annotations'];
  delete (valueAt(result, ...path) as JsonObject)['quorumbridge.io/status'];
  return result;
}

describe('a cluster of an upgrade', () => {
  it('is the old one with the new image, the wipe, its stamps and what RabbitMQ 4 wants', () => {
    const snapshot = cluster({ image: 'rabbitmq:3.9', persistence: { storage: '5Gi' } }, { a: 'b' });
    snapshot.metadata['labels'] = { team: 'red' };
    snapshot.metadata['uid'] = 'old';
    snapshot.metadata['resourceVersion'] = '7';
    snapshot.metadata['finalizers'] = ['deletion.finalizers.rabbitmqclusters.rabbitmq.com'];
    snapshot['status'] = { conditions: [] };
    const object = desired({ snapshot, proxyRequired: true });
    expect(object).toEqual({
      apiVersion: 'rabbitmq.com/v1beta1',
      kind: 'RabbitmqCluster',
      metadata: {
        namespace: 'openstack',
        name: 'mq',
        labels: { team: 'red' },
        annotations: {
          a: 'b',
          'quorumbridge.io/inject': 'true',
          'rabbitmq.openstack.org/storage-wipe-needed': 'true',
          'quorumbridge.io/upgrade': '2',
        },
        ownerReferences: [],
      },
      spec: {
        replicas: 3,
        image: IMAGE,
        persistence: { storage: '5Gi' },
        rabbitmq: {
          additionalConfig:
            'quorum_queue.property_equivalence.relaxed_checks_on_redeclaration = true\n' +
            'quorum_queue.continuous_membership_reconciliation.enabled = true\n',
        },
        ...overriding({
          containers: [],
          initContainers: [expect.objectContaining({ name: 'wipe-data', image: IMAGE })],
        }),
      },
    });
  });

  it('changes nothing that it was given', () => {
    const wish = { snapshot: cluster(overriding({ containers: [{ name: 'rabbitmq', image: 'x' }] })) };
    const before = copy(wish.snapshot);
    desired({ ...wish, rabbitmq: rabbitmq({ resources: { limits: { cpu: 1 } } }) });
    expect(wish.snapshot).toEqual(before);
  });

  it.each<[string, boolean, string, string, number, RegExp | undefined, RegExp | undefined]>([
    ['with the proxy on 4.x', true, '4.2', 'Quorum', 1, /relaxed_checks/, /reconciliation/],
    ['with the proxy on 5.0', true, '5.0', 'Quorum', 1, /relaxed_checks/, /reconciliation/],
    ['without the proxy', false, '4.2', 'Quorum', 1, undefined, /relaxed_checks/],
    ['with the proxy on 3.x', true, '3.13', 'Quorum', 3, undefined, /./],
    ['on several nodes', false, '4.2', 'Quorum', 3, /reconciliation/, /relaxed_checks/],
    ['without quorum queues', false, '4.2', 'None', 3, undefined, /./],
  ])('has settings %s', (_name, proxyRequired, version, queueType, replicas, has, hasNot) => {
    const object = desired({ snapshot: cluster({ replicas }, {}), proxyRequired, version, queueType });
    const text = textAt(object, ...CONFIG) ?? '';
    expect(text).toMatch(has ?? /^$/);
    expect(text).not.toMatch(hasNot ?? /never/);
  });

  it('tells of settings that went', () => {
    const additionalConfig = 'classic_queue.default_version = 1\nheartbeat = 9\n';
    const { object, notes } = result({ snapshot: cluster({ replicas: 1, rabbitmq: { additionalConfig } }) });
    expect(valueAt(object, ...CONFIG)).toBe('heartbeat = 9\n');
    expect(notes).toEqual([expect.stringMatching(/^classic_queue\.default_version was taken out/)]);
  });

  it('wipes first, once, and before what users add, which keeps its order', () => {
    const initContainers = [{ name: 'early' }, { name: 'setup-container' }, { name: 'late' }];
    const first = desired({ snapshot: cluster(overriding({ containers: [{ name: 'm' }], initContainers })) });
    expect(namesIn(first, 'initContainers')).toEqual(['wipe-data', 'early', 'setup-container', 'late']);
    expect(namesIn(first, 'containers')).toEqual(['m']);
    const next = desired({ snapshot: first, record: { ...RECORD, sequence: 3 } });
    expect(namesIn(next, 'initContainers')).toEqual(['wipe-data', 'early', 'setup-container', 'late']);
    expect(JSON.stringify(next)).toContain('.operator-wipe-4.2-3');
    expect(JSON.stringify(next)).not.toContain('.operator-wipe-4.2-2');
  });

  it.each<[string, JsonObject, boolean]>([
    ['RabbitMQ’s user, as the operator has it', {}, true],
    ['another group', { securityContext: { fsGroup: 5 } }, true],
    ['whom the cluster chooses', { securityContext: {} }, false],
    ['root', { securityContext: { runAsUser: 0 } }, false],
  ])('wipes as %s', (_name, podSpec, isNonRoot) => {
    const object = desired({ snapshot: cluster(overriding({ containers: [], ...podSpec })) });
    const context = valueAt(object, ...POD_SPEC, 'initContainers', 0, 'securityContext') as JsonObject;
    expect('runAsNonRoot' in context).toBe(isNonRoot);
  });

  it('has the new image also where the override names one for RabbitMQ’s container', () => {
    const containers = [
      { name: 'rabbitmq', image: 'mine:3.9' },
      { name: 'm', image: 'm:1' },
    ];
    const object = desired({ snapshot: cluster(overriding({ containers })) });
    expect(objectsAt(object, ...POD_SPEC, 'containers')).toEqual([
      { name: 'rabbitmq', image: IMAGE },
      { name: 'm', image: 'm:1' },
    ]);
  });

  it('leaves notes of the operator, of kubectl and of the last upgrade behind', () => {
    const annotations = {
      'kubectl.kubernetes.io/last-applied-configuration': '{}',
      'rabbitmq.com/version': '3.9',
      'rabbitmq.com/queueRebalanceNeededAt': 'now',
      'rabbitmq.com/before-zero-replicas-configured': '3',
      'rabbitmq.com/disable-default-topology-spread-constraints': 'true',
      'rabbitmq.openstack.org/clients-reconfigured': 'true',
      'rabbitmq.openstack.org/storage-wipe-needed': 'true',
      'quorumbridge.io/upgrade': '1',
      'quorumbridge.io/allow-downgrade': 'true',
      'quorumbridge.io/inject': 'true',
      'quorumbridge.io/proxy-image': 'p:1',
    };
    expect(desired({ snapshot: cluster({}, annotations) }).metadata['annotations']).toEqual({
      'rabbitmq.com/disable-default-topology-spread-constraints': 'true',
      'quorumbridge.io/proxy-image': 'p:1',
      'rabbitmq.openstack.org/storage-wipe-needed': 'true',
      'quorumbridge.io/upgrade': '2',
    });
  });

  it.each<[string, JsonObject, boolean, string | undefined]>([
    ['nothing, and needs none', {}, false, undefined],
    ['nothing, and needs it', {}, true, 'true'],
    ['the user’s "false", and needs it', { 'quorumbridge.io/inject': 'false' }, true, 'false'],
    ['the user’s "true", and needs none', { 'quorumbridge.io/inject': 'true' }, false, 'true'],
    [
      'the last upgrade’s "true", and needs none',
      { 'quorumbridge.io/inject': 'true', 'quorumbridge.io/upgrade': '1' },
      false,
      undefined,
    ],
  ])('asks for the proxy where it had %s', (_name, annotations, proxyRequired, inject) => {
    const object = desired({ snapshot: cluster({}, annotations), proxyRequired });
    expect(valueAt(object, 'metadata', 'annotations', 'quorumbridge.io/inject')).toBe(inject);
  });

  it('keeps its owners, and gives the RabbitMq’s the uid that it has now', () => {
    const snapshot = cluster();
    const own = {
      apiVersion: 'rabbitmq.openstack.org/v1beta1',
      kind: 'RabbitMq',
      name: 'mq',
      controller: true,
    };
    const others = { apiVersion: 'apps.example/v1', kind: 'App', name: 'mq', uid: 'app' };
    snapshot.metadata['ownerReferences'] = [{ ...own, uid: 'of another life' }, others];
    expect(desired({ snapshot }).metadata['ownerReferences']).toEqual([
      { ...own, uid: 'rabbitmq-uid' },
      others,
    ]);
  });

  it('takes what the RabbitMq’s spec says before what the old one had', () => {
    const object = desired({
      snapshot: cluster({ tls: { secretName: 'a' }, persistence: { storage: '5Gi' }, delayStartSeconds: 3 }),
      rabbitmq: rabbitmq({
        replicas: 5,
        tls: { disableNonTLSListeners: true, unknown: 1 },
        image: 'x',
        unknown: 1,
      }),
    });
    expect(object['spec']).toMatchObject({
      replicas: 5,
      image: IMAGE,
      tls: { secretName: 'a', disableNonTLSListeners: true },
      persistence: { storage: '5Gi' },
      delayStartSeconds: 3,
    });
    expect(JSON.stringify(object)).not.toContain('unknown');
  });

  it('is left as it is by the webhook where the old one had the proxy, and gets it where not', () => {
    fc.assert(
      fc.property(clusters, (object) => {
        const injected = allowed(annotated(object, ENABLE)).object;
        const again = desired({ snapshot: injected, proxyRequired: true });
        const stored = allowed(again).object;
        // The status says what was there before the injection, and there is more now.
        expect(withoutStatus(stored)).toEqual(withoutStatus(again));
        expect(allowed(stored).object).toEqual(stored);
        const fresh = desired({ snapshot: object, proxyRequired: true });
        expect(JSON.stringify(allowed(fresh).object)).toContain('"amqp-proxy"');
      }),
      { numRuns: 100 },
    );
  });
});

describe('a cluster that was never there', () => {
  it('is made of the RabbitMq’s spec, is its own, and wipes nothing', () => {
    const spec = { replicas: 3, persistence: { storage: '1Gi' }, resources: { requests: { cpu: 1 } } };
    const object = desired({ snapshot: undefined, record: undefined, rabbitmq: rabbitmq(spec) });
    expect(object.metadata).toEqual({
      namespace: 'openstack',
      name: 'mq',
      annotations: {},
      ownerReferences: [
        {
          apiVersion: 'rabbitmq.openstack.org/v1beta1',
          kind: 'RabbitMq',
          name: 'mq',
          uid: 'rabbitmq-uid',
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
    });
    expect(object['spec']).toEqual({
      ...spec,
      image: IMAGE,
      rabbitmq: { additionalConfig: 'quorum_queue.continuous_membership_reconciliation.enabled = true\n' },
    });
  });

  it.each<[JsonObject, boolean]>([
    [{}, false],
    [{ image: 'x', containerImage: 'x', tls: null }, false],
    [{ replicas: 1 }, true],
    [{ persistence: {} }, true],
  ])('is described by a spec, or not: %j', (spec, is) => {
    expect(describesCluster(rabbitmq(spec))).toBe(is);
  });
});

describe('changes of the RabbitMq’s spec', () => {
  it.each<[string, JsonObject, JsonObject, JsonObject | undefined]>([
    ['none', { replicas: 3 }, { replicas: 3 }, undefined],
    ['a version and a queue type alone', {}, { replicas: 3 }, undefined],
    ['more nodes', { replicas: 5 }, { replicas: 3 }, { replicas: 5 }],
    ['fewer nodes, which there will not be', { replicas: 1 }, { replicas: 3 }, undefined],
    ['another image, which versions decide', { image: 'x' }, { image: 'y' }, undefined],
    [
      'the same in the override',
      overriding({ containers: [{ name: 'rabbitmq', image: 'x' }] }),
      overriding({ containers: [{ name: 'rabbitmq', image: 'y' }] }),
      undefined,
    ],
    [
      'one field of many',
      { tls: { secretName: 'b' } },
      { tls: { secretName: 'a', caSecretName: 'c' } },
      { tls: { secretName: 'b' } },
    ],
    [
      'a field that no RabbitmqCluster has',
      { tls: { secretName: 'a', podLevel: 1 } },
      { tls: { secretName: 'a' } },
      undefined,
    ],
  ])('%s', (_name, spec, has, patch) => {
    expect(clusterChanges(rabbitmq(spec), cluster(has))).toEqual(patch);
  });

  it('keep the settings of the upgrade, and bring none of those that RabbitMQ 4 does not start with', () => {
    const relaxed = 'quorum_queue.property_equivalence.relaxed_checks_on_redeclaration = true\n';
    const has = cluster({ rabbitmq: { additionalConfig: `a = 1\n${relaxed}` } });
    const wish = (additionalConfig: string) => rabbitmq({ rabbitmq: { additionalConfig } });
    expect(clusterChanges(wish('a = 1\namqp1_0.default_user = x'), has)).toBeUndefined();
    expect(clusterChanges(wish('a = 2\n'), has)).toEqual({
      rabbitmq: { additionalConfig: `a = 2\n${relaxed}` },
    });
  });

  it('are none of a cluster that was made of the same spec, with or without the proxy', () => {
    fc.assert(
      fc.property(clusters, fc.boolean(), (object, proxyRequired) => {
        const wish = rabbitmq(object['spec'] as JsonObject);
        const made = desired({ snapshot: undefined, rabbitmq: wish, proxyRequired });
        expect(clusterChanges(wish, allowed(made).object)).toBeUndefined();
      }),
      { numRuns: 200 },
    );
  });
});

describe('the patches of a cluster', () => {
  it('ask for the proxy or leave that to others, and end the upgrade', () => {
    const inject = (value: string | null) => ({
      metadata: { annotations: { 'quorumbridge.io/inject': value } },
    });
    expect(injectPatch(true)).toEqual(inject('true'));
    expect(injectPatch(false)).toEqual(inject(null));
    expect(finishPatch()).toEqual({
      metadata: { annotations: { 'rabbitmq.openstack.org/storage-wipe-needed': null } },
    });
  });
});
