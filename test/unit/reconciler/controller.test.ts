import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { connectApi } from '../../../common/kube/api.ts';
import { type OpenCluster, openCluster } from '../../../common/kube/open.ts';
import {
  type Controller,
  type ControllerSettings,
  type Reconcile,
  startController,
} from '../../../reconciler/controller.ts';
import { ReconcilerStats } from '../../../reconciler/metrics.ts';
import { type PlayedApiServer, playApiServer } from '../../support/api-server.ts';
import { readableLog } from '../webhook/harness.ts';

const LABELS = { 'app.kubernetes.io/component': 'rabbitmq', 'app.kubernetes.io/part-of': 'rabbitmq' };
const PATHS = {
  RabbitMq: ['/apis/rabbitmq.openstack.org/v1beta1', 'rabbitmqs'],
  RabbitmqCluster: ['/apis/rabbitmq.com/v1beta1', 'rabbitmqclusters'],
  StatefulSet: ['/apis/apps/v1', 'statefulsets'],
  Pod: ['/api/v1', 'pods'],
  PersistentVolumeClaim: ['/api/v1', 'persistentvolumeclaims'],
} as const;
type Kind = keyof typeof PATHS;
const KINDS = Object.keys(PATHS) as Kind[];

function pathOf(kind: Kind, namespace?: string): string {
  const [base, plural] = PATHS[kind];
  return namespace === undefined ? `${base}/${plural}` : `${base}/namespaces/${namespace}/${plural}`;
}

let version = 100;
function object(kind: Kind, name: string, labelled?: string, namespace = 'openstack') {
  const labels = labelled === undefined ? {} : { ...LABELS, 'app.kubernetes.io/name': labelled };
  const apiVersion = PATHS[kind][0].replace(/^\/apis?\//, '');
  return { apiVersion, kind, metadata: { namespace, name, labels, resourceVersion: `${version++}` } };
}

/** Other tests may keep the machine busy. */
const eventually = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 10_000 });

let server: PlayedApiServer;
let opened: OpenCluster;
let logged: ReturnType<typeof readableLog>;
let stats: ReconcilerStats;
let controllers: Controller[];
let leading: AbortController;

function play(kind: Kind, items: object[], namespace?: string): void {
  const metadata = { resourceVersion: '10' };
  server.answers.set(pathOf(kind, namespace), {
    object: { kind: `${kind}List`, apiVersion: 'v1', metadata, items },
  });
}

function start(reconcile: Reconcile, more: Partial<ControllerSettings> = {}): Controller {
  const controller = startController({
    api: connectApi(opened),
    reconcile,
    log: logged.log,
    stats,
    workers: 2,
    backoff: { firstMs: 10, maxMs: 50 },
    ...more,
  });
  controllers.push(controller);
  return controller;
}

const watchOf = (kind: Kind) =>
  eventually(() => {
    const found = server.watches.find(({ path }) => path === pathOf(kind));
    expect(found).toBeDefined();
    return found!;
  });

/** Notes which RabbitMqs it is called for. */
function noting(requeueAfterMs?: number) {
  const keys: string[] = [];
  const reconcile: Reconcile = async ({ namespace, name }) => {
    keys.push(`${namespace}/${name}`);
    return requeueAfterMs === undefined ? {} : { requeueAfterMs };
  };
  return { keys, reconcile };
}

beforeEach(async () => {
  server = await playApiServer();
  opened = await openCluster({ from: 'kubeconfig', files: [server.kubeconfig] });
  logged = readableLog();
  stats = new ReconcilerStats();
  controllers = [];
  leading = new AbortController();
  for (const kind of KINDS) play(kind, []);
});
afterEach(async () => {
  await Promise.all(controllers.map((controller) => controller.stop(100)));
  await opened.pool.destroy();
  await server[Symbol.asyncDispose]();
});

describe('the controller', () => {
  it('is synced once everything was listed, and says what is not', async () => {
    server.answers.set(pathOf('Pod'), { status: 403 });
    const controller = start(noting().reconcile);
    await eventually(() => expect(controller.troubles).toHaveLength(1));
    expect(controller.synced).toBe(false);
    expect(controller.troubles[0]).toMatch(/^pods: .*403.*grant this account "list" on pods$/);
    play('Pod', []);
    await eventually(() => expect(controller.synced).toBe(true));
    await eventually(() => expect(controller.troubles).toEqual([]));
    const watches = new Map(stats.watches());
    expect([...watches.keys()]).toEqual([
      'rabbitmqs.rabbitmq.openstack.org',
      'rabbitmqclusters.rabbitmq.com',
      'statefulsets.apps',
      'pods',
      'persistentvolumeclaims',
    ]);
    expect(watches.get('pods')?.failures).toBeGreaterThan(0);
  });

  it('does nothing before it leads, and then everything that it has seen until then, once', async () => {
    play('RabbitMq', [object('RabbitMq', 'a'), object('RabbitMq', 'b')]);
    const { keys, reconcile } = noting();
    const controller = start(reconcile);
    (await watchOf('RabbitMq')).send('MODIFIED', object('RabbitMq', 'a'));
    await eventually(() => expect(controller.synced).toBe(true));
    await delay(50);
    expect([keys, stats.leads(), stats.queue?.depth]).toEqual([[], false, 2]);
    controller.lead(leading.signal);
    await eventually(() => expect(keys.toSorted()).toEqual(['openstack/a', 'openstack/b']));
    await delay(50);
    expect([keys.length, stats.leads()]).toEqual([2, true]);
    expect([...stats.reconciles]).toEqual([[{ result: 'done' }, 2]]);
  });

  it.each([
    ['RabbitMq', 'rabbit', undefined],
    ['RabbitmqCluster', 'rabbit', undefined],
    ['StatefulSet', 'rabbit-server', 'rabbit'],
    ['Pod', 'rabbit-server-0', 'rabbit'],
    ['PersistentVolumeClaim', 'persistence-rabbit-server-0', 'rabbit'],
  ] as const)(
    'wakes up the RabbitMq that a %s is about, whatever becomes of it',
    async (kind, name, labelled) => {
      play('RabbitMq', [object('RabbitMq', 'rabbit')]);
      const { keys, reconcile } = noting();
      const controller = start(reconcile);
      controller.lead(leading.signal);
      await eventually(() => expect(keys).toHaveLength(1));
      const watch = await watchOf(kind);
      for (const [index, type] of ['ADDED', 'MODIFIED', 'DELETED'].entries()) {
        watch.send(type, object(kind, name, labelled));
        await eventually(() => expect(keys).toEqual(Array(index + 2).fill('openstack/rabbit')));
      }
    },
  );

  it('leaves alone what has no RabbitMq, and labels that name none', async () => {
    play('RabbitMq', [object('RabbitMq', 'rabbit')]);
    const { keys, reconcile } = noting();
    const controller = start(reconcile);
    controller.lead(leading.signal);
    await eventually(() => expect(keys).toHaveLength(1));
    (await watchOf('RabbitmqCluster')).send('ADDED', object('RabbitmqCluster', 'other'));
    const pods = await watchOf('Pod');
    pods.send('ADDED', object('Pod', 'other-server-0', 'other'));
    pods.send('ADDED', object('Pod', 'rabbit-server-0', 'rabbit', 'elsewhere'));
    pods.send('ADDED', object('Pod', 'rabbit-server-0'));
    await delay(100);
    expect(keys).toHaveLength(1);
  });

  it('selects pods, claims and StatefulSets by label', async () => {
    start(noting().reconcile);
    await watchOf('Pod');
    const selectors = server.requests
      .map(({ path }) => new URL(path, 'https://server'))
      .filter(({ searchParams }) => searchParams.has('limit'))
      .map(
        ({ pathname, searchParams }) =>
          [pathname.split('/').at(-1)!, searchParams.get('labelSelector')] as const,
      );
    const ours = 'app.kubernetes.io/component=rabbitmq,app.kubernetes.io/part-of=rabbitmq';
    expect(Object.fromEntries(selectors)).toEqual({
      rabbitmqs: null,
      rabbitmqclusters: null,
      statefulsets: ours,
      pods: ours,
      persistentvolumeclaims: ours,
    });
  });

  it('watches only the namespaces that it is told to', async () => {
    for (const namespace of ['one', 'two']) for (const kind of KINDS) play(kind, [], namespace);
    play('RabbitMq', [object('RabbitMq', 'a', undefined, 'two')], 'two');
    const { keys, reconcile } = noting();
    const controller = start(reconcile, { namespaces: ['one', 'two', 'one'] });
    controller.lead(leading.signal);
    await eventually(() => expect(keys).toEqual(['two/a']));
    const listed = () => server.requests.map(({ path }) => path).filter((path) => path.includes('limit='));
    await eventually(() => expect(listed()).toHaveLength(10));
    expect(listed().filter((path) => !path.includes('/namespaces/'))).toEqual([]);
  });

  it('looks once more at a RabbitMq that is gone, also where only a list tells', async () => {
    play('RabbitMq', [object('RabbitMq', 'a'), object('RabbitMq', 'b')]);
    const { keys, reconcile } = noting();
    const controller = start(reconcile, { resyncMs: 100 });
    controller.lead(leading.signal);
    (await watchOf('RabbitMq')).send('DELETED', object('RabbitMq', 'a'));
    await eventually(() => expect(keys.length).toBeGreaterThan(5));
    expect(keys.lastIndexOf('openstack/a')).toBeLessThan(keys.lastIndexOf('openstack/b'));
    play('RabbitMq', []);
    const watch = await watchOf('RabbitMq');
    watch.send('ERROR', { kind: 'Status', code: 410, message: 'too old' });
    watch.end();
    await eventually(() =>
      expect(server.requests.filter(({ path }) => path.includes('rabbitmqs?limit'))).toHaveLength(2),
    );
    await delay(150);
    const before = keys.length;
    await delay(400);
    expect(keys.length).toBe(before);
  });

  it('looks at everything again now and then, and when a reconcile asks for it', async () => {
    play('RabbitMq', [object('RabbitMq', 'a')]);
    const { keys, reconcile } = noting();
    const controller = start(reconcile, { resyncMs: 60 });
    controller.lead(leading.signal);
    await eventually(() => expect(keys.length).toBeGreaterThan(3));
    await controller.stop(100);
    const asking = noting(20);
    start(asking.reconcile).lead(leading.signal);
    await eventually(() => expect(asking.keys.length).toBeGreaterThan(3));
  });

  it('tries again after a failure, later each time, and says why once', async () => {
    play('RabbitMq', [object('RabbitMq', 'a')]);
    const at: number[] = [];
    const errors = ['broken', 'broken', 'broken', 'broken otherwise'];
    const reconcile: Reconcile = async () => {
      at.push(performance.now());
      const error = errors[at.length - 1];
      if (error !== undefined) throw new Error(error);
      return {};
    };
    start(reconcile).lead(leading.signal);
    await eventually(() => expect(at).toHaveLength(5));
    const pauses = at.slice(1).map((time, index) => time - at[index]!);
    for (const [index, pause] of pauses.entries()) expect(pause).toBeGreaterThan(50 * 2 ** index * 0.79);
    await eventually(() => expect([...stats.reconciles].map(([, count]) => count)).toEqual([4, 1]));
    expect(stats.retries).toBe(4);
    const told = logged.lines.filter(({ msg }) => String(msg).startsWith('reconcile'));
    expect(told.map(({ level, why, msg }) => [level, why, msg])).toEqual([
      ['warn', 'broken', 'reconcile failed, trying again'],
      ['warn', 'broken otherwise', 'reconcile failed, trying again'],
      ['info', undefined, 'reconciled again'],
    ]);
  });

  it('tells work to end with the lead, counts it as no failure, and takes up no more', async () => {
    play('RabbitMq', [object('RabbitMq', 'a')]);
    let calls = 0;
    const reconcile: Reconcile = async (_key, signal) => {
      calls++;
      await delay(10_000, undefined, { signal });
      return {};
    };
    const controller = start(reconcile);
    controller.lead(leading.signal);
    await eventually(() => expect(calls).toBe(1));
    leading.abort(new Error('lost'));
    await eventually(() => expect(stats.queue?.running).toBe(0));
    (await watchOf('RabbitMq')).send('MODIFIED', object('RabbitMq', 'a'));
    await delay(100);
    expect([calls, stats.leads(), [...stats.reconciles], stats.retries]).toEqual([1, false, [], 0]);
  });

  it('lets work end when it is stopped, and tells it to when that takes too long', async () => {
    play('RabbitMq', [
      object('RabbitMq', 'quick'),
      object('RabbitMq', 'slow'),
      object('RabbitMq', 'waiting'),
    ]);
    const ended: string[] = [];
    const reconcile: Reconcile = async ({ name }, signal) => {
      await delay(name === 'quick' ? 100 : 10_000, undefined, { signal }).catch(() => {});
      ended.push(`${name} ${signal.aborted ? 'told to end' : 'done'}`);
      return {};
    };
    const controller = start(reconcile);
    controller.lead(leading.signal);
    await eventually(() => expect(stats.queue?.running).toBe(2));
    const began = performance.now();
    await controller.stop(300);
    expect(performance.now() - began).toBeLessThan(1000);
    expect(ended).toEqual(['quick done', 'slow told to end']);
  });

  it('is not held up by work that never ends', async () => {
    play('RabbitMq', [object('RabbitMq', 'a')]);
    const controller = start(() => new Promise(() => {}));
    controller.lead(leading.signal);
    await eventually(() => expect(stats.queue?.running).toBe(1));
    const began = performance.now();
    await controller.stop(100);
    expect(performance.now() - began).toBeLessThan(2000);
  });
});
