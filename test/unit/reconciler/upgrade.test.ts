// Whole upgrades in memory: as they should go, cut off at every write, and with everything around them going wrong.
import { describe, expect, it } from 'vitest';
import { ANNOTATION, PAUSE_LABEL, UPGRADE_ANNOTATION } from '../../../common/contract.ts';
import { ApiFailure } from '../../../common/kube/api.ts';
import { objectsAt, textAt, valueAt } from '../../../common/kube/json.ts';
import { CLUSTER, RABBITMQ, SECRET } from '../../../common/kube/resources.ts';
import { NAME, NAMESPACE, World, type WorldSettings } from './world.ts';

const TARGET = { [ANNOTATION.targetVersion]: '4.2' };

/** A cluster of 3.10 whose RabbitMq is known, and then the target is set. */
async function begun(settings: WorldSettings = {}): Promise<World> {
  const world = new World(settings);
  await world.run(
    () => world.status('currentVersion') === '3.10' && world.condition('Ready')?.['status'] === 'True',
  );
  await world.annotate(TARGET);
  return world;
}

/** What has to be so after every upgrade, whatever happened on the way. */
function expectWhole(world: World, old: { uid: string; password: string }): void {
  expect(world.wrongs).toEqual([]);
  expect(world.deletions).toEqual([old.uid]);
  expect(world.created).toHaveLength(1);
  expect(world.broker).toMatchObject({
    version: '4.2',
    definitions: expect.arrayContaining(['orders', 'reply_1']),
  });
  expect(textAt(world.secret, 'data', 'password')).toBe(old.password);
  expect(world.status('proxyRequired')).toBe(true);
  expect(world.condition('Degraded')).toMatchObject({ status: 'False' });
  expect(world.condition('Ready')).toMatchObject({ status: 'True' });
  expect(world.status('lastUpgrade')).toMatchObject({ sequence: 1, from: '3.10', to: '4.2' });
}

function facts(world: World): { uid: string; password: string } {
  return {
    uid: textAt(world.cluster, 'metadata', 'uid') ?? '',
    password: textAt(world.secret, 'data', 'password') ?? '',
  };
}

describe('an upgrade from 3.10 to 4.2', () => {
  it('goes through its phases, tells of each, and ends with the proxy on', async () => {
    const world = await begun();
    const old = facts(world);
    const phases: unknown[] = [];
    await world.run(() => {
      const phase = world.status('upgradePhase') ?? '';
      if (phases.at(-1) !== phase) phases.push(phase);
      return world.isAt('4.2');
    });
    expectWhole(world, old);
    expect(phases.filter((phase, i) => phase !== '' || i > 0)).toEqual([
      'DeletingResources',
      'WaitingForPods',
      'WaitingForCluster',
      '',
    ]);
    expect(world.told.map(({ reason }) => reason)).toEqual([
      'VersionDetected',
      'UpgradeStarted',
      'ProxyEnabled',
      'ResourcesSaved',
      'ClusterDeleted',
      'StorageWipeComplete',
      'CredentialsRestored',
      'ClusterCreated',
      'DefinitionsRestored',
      'UpgradeComplete',
    ]);
    expect(valueAt(world.rabbitmq, 'spec', 'targetVersion')).toBe('4.2');
    expect(textAt(world.cluster, 'spec', 'image')).toBe('rabbitmq:4.2-management');
  });

  it('leaves nothing to do behind it', async () => {
    const world = await begun();
    await world.run(() => world.isAt('4.2'));
    await world.rest();
    const before = world.writes;
    for (let i = 0; i < 5; i++) {
      await world.reconcile();
      world.move();
      world.time += 60_000;
    }
    expect(world.writes).toBe(before);
  });

  it('takes the proxy out when clients are reconfigured, once', async () => {
    const world = await begun();
    await world.run(() => world.isAt('4.2'));
    await world.annotate({ [ANNOTATION.clientsReconfigured]: 'true' });
    const hasProxy = (): boolean =>
      objectsAt(world.cluster, 'spec', 'override', 'statefulSet', 'spec', 'template', 'spec', 'containers')
        .length > 0;
    await world.run(() => world.status('proxyRequired') === false && !hasProxy());
    expect(textAt(world.rabbitmq, 'metadata', 'annotations', ANNOTATION.clientsReconfigured)).toBeUndefined();
    await world.annotate({ [ANNOTATION.targetVersion]: '4.3' });
    await world.run(() => world.isAt('4.3'));
    expect(world.status('lastUpgrade', 'sequence')).toBe(2);
    expect(world.created).toHaveLength(2);
    expect(world.wrongs).toEqual([]);
  });

  it('is followed by a patch of the same minor version, in place', async () => {
    const world = await begun();
    await world.run(() => world.isAt('4.2'));
    const { uid } = facts(world);
    await world.annotate({ [ANNOTATION.targetVersion]: '4.2.3' });
    await world.run(() => world.isAt('4.2.3'));
    expect(textAt(world.cluster, 'spec', 'image')).toBe('rabbitmq:4.2.3-management');
    expect(facts(world).uid).toBe(uid);
    expect(world.wrongs).toEqual([]);
  });

  it('takes the proxy out by evidence, after the time that the annotation names and no sooner', async () => {
    const world = await begun();
    await world.run(() => world.isAt('4.2'));
    let needing: string[] = ['nova-compute'];
    let noneSince: number | null = null;
    world.clients.ask = () =>
      Promise.resolve({
        told: [
          {
            pod: `${NAME}-server-0`,
            noneSince,
            needing: needing.map((name) => ({ name, connections: 1, lastRewrite: '' })),
          },
        ],
      });
    await world.annotate({ [UPGRADE_ANNOTATION.autoRemoveAfter]: '72h' });
    const removable = (): unknown => world.condition('ProxyRemovable')?.['reason'];
    await world.run(() => removable() === 'ClientsNeedProxy');
    expect(world.status('clients')).toMatchObject({ needProxy: 1, top: ['nova-compute'] });
    [needing, noneSince] = [[], world.time];
    await world.run(() => removable() === 'NotYet');
    world.time += 71 * 3_600_000;
    await world.rest();
    expect(world.status('proxyRequired')).toBe(true);
    world.time += 2 * 3_600_000;
    await world.run(() => world.status('proxyRequired') === false);
    await world.rest();
    expect(world.told.map(({ reason }) => reason).slice(-3)).toEqual([
      'ProxyAutoRemoved',
      'ProxyNotRequired',
      'ProxyRemoved',
    ]);
  });

  it('of three nodes ends with three', async () => {
    const world = await begun({ replicas: 3 });
    const old = facts(world);
    await world.run(() => world.isAt('4.2'));
    expectWhole(world, old);
    expect(world.pods).toHaveLength(3);
  });
});

describe('the process ends', () => {
  /** Writes of an upgrade that is left alone. */
  async function writesOf(): Promise<{ first: number; last: number }> {
    const world = await begun();
    const first = world.writes + 1;
    await world.run(() => world.isAt('4.2'));
    return { first, last: world.writes };
  }

  it('at any one write, before it or behind it: the upgrade finishes, and nothing is done twice', async () => {
    const { first, last } = await writesOf();
    expect(last - first).toBeGreaterThan(15);
    for (let at = first; at <= last; at++) {
      for (const when of ['before', 'after'] as const) {
        const world = await begun();
        const old = facts(world);
        world.crash = { at, when };
        await world.run(() => world.isAt('4.2'));
        expectWhole(world, old);
      }
    }
  });

  it('at any two writes', async () => {
    const { first, last } = await writesOf();
    for (let one = first; one <= last; one++) {
      for (let distance = 1; distance <= 6; distance++) {
        const world = await begun();
        const old = facts(world);
        world.crash = { at: one, when: 'after' };
        const { after } = world.api;
        world.api.after = (write, hasChanged) => {
          try {
            after(write, hasChanged);
          } catch (error) {
            world.crash = { at: one + distance, when: 'before' };
            throw error;
          }
        };
        await world.run(() => world.isAt('4.2'));
        expectWhole(world, old);
      }
    }
  });

  it('at every write, again and again: each process does one write', async () => {
    const world = await begun();
    const old = facts(world);
    world.crash = { at: 'every change', when: 'after' };
    await world.run(() => world.isAt('4.2'), 2000);
    expectWhole(world, old);
  });
});

describe('something around it goes wrong', () => {
  const phases = ['DeletingResources', 'WaitingForPods', 'WaitingForCluster'];

  /** Runs until that phase is written. */
  async function until(world: World, phase: string): Promise<void> {
    await world.run(() => world.status('upgradePhase') === phase);
  }

  it.each(phases)('the API server is away for a while in %s', async (phase) => {
    const world = await begun();
    const old = facts(world);
    // Inside of the phase, not only at its beginning.
    for (let skipped = 0; skipped < 4; skipped++) {
      const { before, reading } = world.api;
      let left = 0;
      const away = (): void => {
        if (world.status('upgradePhase') !== phase && left === 0) return;
        if (left++ < 15 + skipped) throw new ApiFailure('the API server is away');
      };
      world.api.reading = away;
      world.api.before = (write) => {
        away();
        before(write);
      };
      await world.run(() => left > 15 || world.isAt('4.2'));
      world.api.reading = reading;
      world.api.before = before;
    }
    await world.run(() => world.isAt('4.2'));
    expectWhole(world, old);
  });

  it('somebody else writes the RabbitMq at every write of ours', async () => {
    const world = await begun();
    const old = facts(world);
    const { before } = world.api;
    let turn = 0;
    world.api.before = (write) => {
      before(write);
      // Every other time: nobody gets anywhere against one who always writes first.
      if (write.resource !== RABBITMQ || turn++ % 2 === 1) return;
      const stored = world.rabbitmq!;
      const annotations = { ...(stored.metadata['annotations'] as object), other: `${turn}` };
      world.api.put(RABBITMQ, { ...stored, metadata: { ...stored.metadata, annotations } });
    };
    await world.run(() => world.isAt('4.2'));
    expectWhole(world, old);
  });

  it('a pod never ends: it is named, nothing is made in its place, and when it ends the upgrade goes on', async () => {
    const world = await begun();
    const old = facts(world);
    world.whims.podsEnd = false;
    await world.run(() => world.condition('Degraded')?.['reason'] === 'PodsStuck');
    expect(textAt(world.condition('Degraded'), 'message')).toContain(`${NAME}-server-0`);
    for (let i = 0; i < 50; i++) {
      await world.reconcile();
      world.move();
      world.time += 60_000;
    }
    expect(world.created).toEqual([]);
    world.whims.podsEnd = true;
    await world.run(() => world.isAt('4.2'));
    expectWhole(world, old);
  });

  it('the new cluster is not ready in time: it says so without a loop, and goes on when it is', async () => {
    const world = await begun();
    const old = facts(world);
    await until(world, 'WaitingForCluster');
    world.whims.podsBecomeReady = false;
    await world.run(() => world.condition('Degraded')?.['reason'] === 'ClusterNotReadyInTime', 2000);
    const before = world.writes;
    for (let i = 0; i < 20; i++) {
      expect(await world.reconcile()).toBeGreaterThanOrEqual(10_000);
      world.move();
      world.time += 30_000;
    }
    // The condition says how long it has been.
    expect(world.writes - before).toBeLessThanOrEqual(20);
    world.whims.podsBecomeReady = true;
    await world.run(() => world.isAt('4.2'));
    expectWhole(world, old);
  });

  it('two reconcilers work at once', async () => {
    const world = await begun();
    const old = facts(world);
    const other = world.another();
    for (let i = 0; i < 400 && !world.isAt('4.2'); i++) {
      await Promise.allSettled([world.reconcile(), other()]);
      world.move();
      world.time += 2000;
    }
    await world.run(() => world.isAt('4.2'));
    expectWhole(world, old);
  });

  it('the management API does not answer: nothing is deleted', async () => {
    const world = await begun();
    world.whims.managementAnswers = false;
    await world.run(() => world.condition('UpgradeAllowed')?.['reason'] === 'BrokerUnreachable');
    await world.rest();
    expect(world.deletions).toEqual([]);
    world.whims.managementAnswers = true;
    await world.run(() => world.isAt('4.2'));
    expect(world.wrongs).toEqual([]);
  });

  it('the management API of the new cluster does not answer: the step is said to fail, and tried again', async () => {
    const world = await begun();
    const old = facts(world);
    await until(world, 'WaitingForCluster');
    world.whims.managementAnswers = false;
    await world.run(() => world.condition('Degraded')?.['reason'] === 'StepFailed');
    world.whims.managementAnswers = true;
    await world.run(() => world.isAt('4.2'));
    expectWhole(world, old);
  });

  it('the webhook is away when the cluster is made: the proxy is put in as soon as it is back', async () => {
    const world = await begun();
    const old = facts(world);
    world.whims.webhook = false;
    await world.run(() => world.condition('Degraded')?.['reason'] === 'ProxyMissing');
    world.whims.webhook = true;
    await world.run(() => world.isAt('4.2'));
    expectWhole(world, old);
  });

  it('somebody makes the cluster again in between: it is left alone, and said', async () => {
    const world = await begun();
    const old = facts(world);
    world.whims.podsEnd = false;
    await world.run(() => world.status('upgradePhase') === 'WaitingForPods' && world.cluster === undefined);
    const spec = { image: 'rabbitmq:3.10.8-management', replicas: 1 };
    const metadata = { namespace: NAMESPACE, name: NAME };
    world.api.put(CLUSTER, { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster', metadata, spec });
    world.whims.operatorWorks = false;
    await world.run(() => world.condition('Degraded')?.['reason'] === 'ClusterRecreated');
    expect(world.deletions).toEqual([old.uid]);
    world.api.drop(CLUSTER, NAMESPACE, NAME);
    Object.assign(world.whims, { operatorWorks: true, podsEnd: true });
    await world.run(() => world.isAt('4.2'));
    expectWhole(world, old);
  });

  it('messages would be lost: nothing is deleted until that is accepted', async () => {
    const world = await begun();
    const old = facts(world);
    world.broker!.messages = 7;
    await world.run(() => world.condition('UpgradeAllowed')?.['reason'] === 'MessagesWouldBeLost');
    expect(textAt(world.condition('UpgradeAllowed'), 'message')).toContain('7 persistent messages');
    expect(world.deletions).toEqual([]);
    await world.annotate({ [UPGRADE_ANNOTATION.acceptDataLoss]: 'true' });
    await world.run(() => world.isAt('4.2'));
    expectWhole(world, old);
    expect(world.status('lastUpgrade', 'backup', 'messages')).toBe(7);
    expect(
      textAt(world.rabbitmq, 'metadata', 'annotations', UPGRADE_ANNOTATION.acceptDataLoss),
    ).toBeUndefined();
  });

  it('the target is taken back before anything is deleted: everything is as it was', async () => {
    const world = await begun();
    await until(world, 'DeletingResources');
    await world.annotate({ [ANNOTATION.targetVersion]: null });
    await world.run(
      () =>
        (world.status('upgradePhase') ?? '') === '' && world.condition('Upgrading')?.['status'] === 'False',
    );
    await world.rest();
    expect(world.deletions).toEqual([]);
    expect(world.status('currentVersion')).toBe('3.10');
    expect(world.status('proxyRequired')).toBe(false);
    // The next one counts on: what the first saved is not taken for its own.
    await world.annotate(TARGET);
    await world.run(() => world.isAt('4.2'));
    expect(world.status('lastUpgrade', 'sequence')).toBe(2);
    expect(world.wrongs).toEqual([]);
  });

  it.each(phases)(
    'the RabbitMq is deleted in %s: the cluster it only looked after is there in the end',
    async (phase) => {
      const world = await begun();
      const old = facts(world);
      await until(world, phase);
      await world.api.remove(RABBITMQ, { namespace: NAMESPACE, name: NAME }, {});
      await world.run(() => world.rabbitmq === undefined);
      world.settle();
      expect(world.cluster).toBeDefined();
      expect(textAt(world.secret, 'data', 'password')).toBe(old.password);
      expect(world.broker?.definitions).toEqual(expect.arrayContaining(['orders', 'reply_1']));
      expect(world.deletions.length).toBeLessThanOrEqual(1);
    },
  );

  it('what was saved is destroyed in between: no empty cluster is made', async () => {
    const world = await begun();
    await until(world, 'WaitingForPods');
    world.api.drop(SECRET, NAMESPACE, `${NAME}-upgrade-1`);
    await world.run(() => world.condition('Degraded')?.['reason'] === 'BackupLost');
    await world.rest();
    expect(world.created).toEqual([]);
  });

  it('the label says pause: nothing is done until it is removed', async () => {
    const world = await begun();
    const old = facts(world);
    await world.edit({ metadata: { labels: { [PAUSE_LABEL]: 'true' } } });
    for (let i = 0; i < 5; i++) await world.reconcile();
    expect(world.status('upgradePhase') ?? '').toBe('');
    await world.edit({ metadata: { labels: { [PAUSE_LABEL]: null } } });
    await world.run(() => world.isAt('4.2'));
    expectWhole(world, old);
  });
});

describe('secrets', () => {
  it('are in no status, condition or Event', async () => {
    const world = await begun();
    const { password, username } = valueAt(world.secret, 'data') as { password: string; username: string };
    const plain = Buffer.from(password, 'base64').toString();
    await world.run(() => world.isAt('4.2'));
    const said = JSON.stringify([world.rabbitmq, world.told]);
    expect(said).not.toContain(plain);
    expect(said).not.toContain(password);
    expect(said).not.toContain(username);
  });
});
