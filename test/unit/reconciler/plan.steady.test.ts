import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../../common/kube/types.ts';
import { ANNOTATION, UPGRADE_ANNOTATION } from '../../../common/contract.ts';
import { plan } from '../../../reconciler/plan.ts';
import type { ConditionNow, Observed, Plan, PlanSettings } from '../../../reconciler/types.ts';
import * as seen from './observations.ts';

const { observed, rabbitmq, cluster, newCluster, statefulSet, pod, settings } = seen;

function next(observation: Observed, more: Partial<PlanSettings> = {}): Plan {
  return plan(observation, { ...settings, ...more });
}

function said({ conditions }: Plan, type: ConditionNow['type']): ConditionNow | undefined {
  return conditions.find((each) => each.type === type);
}

describe('a cluster in its steady state', () => {
  const done = { currentVersion: '4.2', upgradeSequence: 1, proxyRequired: true } as const;
  const proxied = {
    cluster: newCluster({ hasWipeAnnotation: false }),
    statefulSet: statefulSet({ clusterUid: 'new' }),
  };
  const quiet = { target: undefined, annotations: {} };

  it('takes the target off when it is met, and keeps it in the spec', () => {
    const met = rabbitmq({ specTarget: '3.10' }, done);
    expect(next(observed({ ...proxied, rabbitmq: met })).step).toMatchObject({
      do: 'write RabbitMq',
      patch: {
        spec: { targetVersion: '4.2' },
        metadata: { annotations: { [ANNOTATION.targetVersion]: null } },
      },
    });
  });

  it('takes what was allowed for one upgrade off with it', () => {
    const annotations = {
      [ANNOTATION.targetVersion]: '4.2',
      [UPGRADE_ANNOTATION.acceptDataLoss]: 'true',
      [UPGRADE_ANNOTATION.approved]: 'true',
    };
    const { step } = next(observed({ ...proxied, rabbitmq: rabbitmq({ annotations }, done) }));
    expect(step).toMatchObject({
      patch: {
        metadata: {
          annotations: { [UPGRADE_ANNOTATION.acceptDataLoss]: null, [UPGRADE_ANNOTATION.approved]: null },
        },
      },
    });
  });

  it('takes the proxy out in two writes when clients are reconfigured, status first', () => {
    const annotations = { [ANNOTATION.clientsReconfigured]: 'true' };
    const asked = rabbitmq({ ...quiet, annotations }, done);
    expect(next(observed({ ...proxied, rabbitmq: asked })).step).toMatchObject({
      do: 'write status',
      status: { proxyRequired: false },
    });
    const written = rabbitmq({ ...quiet, annotations }, { ...done, proxyRequired: false });
    expect(next(observed({ ...proxied, rabbitmq: written })).step).toMatchObject({
      do: 'write RabbitMq',
      patch: { metadata: { annotations: { [ANNOTATION.clientsReconfigured]: null } } },
    });
    const cleared = rabbitmq(quiet, { ...done, proxyRequired: false });
    expect(next(observed({ ...proxied, rabbitmq: cleared })).step).toMatchObject({
      do: 'patch cluster',
      uid: 'new',
    });
  });

  it('leaves the annotation of a cluster that no upgrade made alone', () => {
    const own = rabbitmq(quiet, { ...done, currentVersion: '3.10', proxyRequired: false });
    const planned = next(observed({ rabbitmq: own, cluster: cluster({ inject: 'true', hasProxy: true }) }));
    expect(planned.step).toEqual({ do: 'wait' });
    expect(said(planned, 'ProxyActive')).toMatchObject({ status: 'True', reason: 'ByAnnotation' });
  });

  it('changes the image alone for another patch, and wipes nothing', () => {
    const status = { currentVersion: '4.2.1' };
    const asked = rabbitmq(
      { target: { text: '4.2.2', from: 'spec' }, specTarget: '4.2.2', annotations: {} },
      status,
    );
    const of = (image: string, spec: JsonObject = {}) =>
      cluster({ image, object: { ...cluster().object, spec: { image, ...spec } } });
    const old = 'rabbitmq:4.2.1-management';
    expect(next(observed({ rabbitmq: asked, cluster: of(old) })).step).toMatchObject({
      do: 'patch cluster',
      patch: { spec: { image: 'rabbitmq:4.2.2-management' } },
    });
    const rolled = of('rabbitmq:4.2.2-management');
    expect(next(observed({ rabbitmq: asked, cluster: rolled })).step).toMatchObject({
      status: { currentVersion: '4.2.2' },
    });
    // An image in the override beats spec.image: the pods would stay as they are.
    const containers = [{ name: 'rabbitmq', image: old }];
    const override = { statefulSet: { spec: { template: { spec: { containers } } } } };
    const overridden = of('rabbitmq:4.2.2-management', { override });
    expect(next(observed({ rabbitmq: asked, cluster: overridden })).step).toMatchObject({
      do: 'patch cluster',
      patch: {
        spec: {
          override: {
            statefulSet: {
              spec: {
                template: {
                  spec: { containers: [{ name: 'rabbitmq', image: 'rabbitmq:4.2.2-management' }] },
                },
              },
            },
          },
        },
      },
    });
  });

  it('finds the version of a cluster that is there: by the broker, the annotation or image, else the oldest', () => {
    const unknown = rabbitmq({}, { currentVersion: '' });
    const said = { status: { currentVersion: '3.10' } };
    expect(next(observed({ rabbitmq: unknown })).step).toMatchObject(said);
    const mute = { state: 'unknown', why: '' } as const;
    expect(next(observed({ rabbitmq: unknown, broker: mute })).step).toMatchObject(said);
    const untold = cluster({ version: undefined });
    expect(next(observed({ rabbitmq: unknown, broker: mute, cluster: untold })).step).toMatchObject({
      status: { currentVersion: '3.9' },
    });
  });

  it('makes no cluster that nobody has described', () => {
    const planned = next(observed({ rabbitmq: rabbitmq({}, { currentVersion: '' }), cluster: undefined }));
    expect(planned.step).toEqual({ do: 'wait' });
    expect(said(planned, 'Ready')).toMatchObject({ status: 'False', reason: 'NoCluster' });
  });

  it('makes the cluster that the RabbitMq describes, of the version that is wanted', () => {
    const described = { object: seen.object({ replicas: 1 }) };
    const fresh = { cluster: undefined, statefulSet: undefined, pods: [], claims: [] };
    const first = next(observed({ ...fresh, rabbitmq: rabbitmq(described, { currentVersion: '' }) }));
    expect(first.step).toMatchObject({ status: { currentVersion: '4.2', upgradePhase: '', wipeReason: '' } });
    const second = next(observed({ ...fresh, rabbitmq: rabbitmq(described, { currentVersion: '4.2' }) }));
    expect(second.step).toEqual({ do: 'create cluster', record: undefined, version: '4.2' });
  });

  it('does nothing to a paused one', () => {
    const planned = next(observed({ rabbitmq: rabbitmq({ isPaused: true }) }));
    expect(planned.step).toEqual({ do: 'wait' });
    expect(said(planned, 'Ready')).toMatchObject({ reason: 'Paused' });
  });
});

describe('a RabbitMq that is being deleted', () => {
  it('takes a cluster along that it owns, pods labelled first', () => {
    const deleting = rabbitmq({ isDeleting: true });
    const owned = cluster({ isOwned: true });
    expect(next(observed({ rabbitmq: deleting, cluster: owned })).step).toMatchObject({ do: 'label pods' });
    const labelled = [pod({ hasSkipLabel: true })];
    expect(next(observed({ rabbitmq: deleting, cluster: owned, pods: labelled })).step).toEqual({
      do: 'delete cluster',
      uid: 'old',
    });
  });

  it('leaves one alone that it only looked after', () => {
    const { step } = next(observed({ rabbitmq: rabbitmq({ isDeleting: true }) }));
    expect(step).toMatchObject({ do: 'write RabbitMq', patch: { metadata: { finalizers: [] } } });
  });

  it('brings such a cluster back before it goes', () => {
    const { rabbitmq: waiting } = seen.emptied();
    const { step } = next(seen.emptied({ rabbitmq: { ...waiting, isDeleting: true } }));
    expect(step).toMatchObject({ status: { upgradePhase: 'WaitingForCluster' } });
  });

  it('calls an upgrade off that has deleted nothing', () => {
    const { rabbitmq: about } = seen.aboutToDelete();
    const { step } = next(seen.aboutToDelete({ rabbitmq: { ...about, isDeleting: true } }));
    expect(step).toMatchObject({ status: { upgradePhase: '', upgrade: null } });
  });
});
