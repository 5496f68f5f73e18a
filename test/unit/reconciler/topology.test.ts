import { describe, expect, it } from 'vitest';
import { ANNOTATION } from '../../../common/contract.ts';
import { ApiFailure } from '../../../common/kube/api.ts';
import { CONFIG_MAP, RABBITMQ } from '../../../common/kube/resources.ts';
import { parseTopology } from '../../../messaging/config.ts';
import { readTopology } from '../../../reconciler/topology.ts';
import { plan } from '../../../reconciler/plan.ts';
import * as seen from './observations.ts';
import { NAMESPACE, World, type WorldSettings } from './world.ts';

const TARGET = { [ANNOTATION.targetVersion]: '4.2' };
const SPEC = { messagingTopology: { configMapRef: { name: 'shop' } } };
const SECRET_URL = 'amqp://shop:secret-of-shop@rabbitmq/nova';
const fileOf = (...names: string[]): string =>
  JSON.stringify({ rabbitmq: { exchanges: names.map((name) => ({ name })) } });

function putFile(world: World, text: string, key = 'messaging.yaml'): void {
  world.api.put(CONFIG_MAP, {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { namespace: NAMESPACE, name: 'shop' },
    data: { [key]: text },
  });
}

/** A cluster of 3.10 whose RabbitMq names a file, and is known. */
async function known(file?: string, settings: WorldSettings = {}): Promise<World> {
  const world = new World({ spec: SPEC, ...settings });
  if (file !== undefined) putFile(world, file);
  await world.run(() => world.condition('Ready')?.['status'] === 'True');
  return world;
}

/** The same behind an upgrade. */
async function upgraded(file?: string): Promise<World> {
  const world = await known(file);
  await world.annotate(TARGET);
  await world.run(() => world.isAt('4.2'));
  return world;
}

const saysOf = (world: World) => world.condition('TopologyApplied');
const toldOf = (world: World): string[] =>
  world.told.map(({ reason }) => reason).filter((reason) => reason.startsWith('Topology'));

describe('the file of spec.messagingTopology', () => {
  it('is declared behind the upgrade once, and not on the cluster before', async () => {
    const world = await known(fileOf('orders', 'mail'));
    await world.rest();
    expect(saysOf(world)).toMatchObject({ status: 'Unknown', reason: 'Waiting' });
    expect(world.declares).toBe(0);
    await world.annotate(TARGET);
    await world.run(() => world.isAt('4.2'));
    expect(world.broker?.declared).toEqual(['orders', 'mail']);
    expect(saysOf(world)).toMatchObject({
      status: 'True',
      reason: 'Applied',
      message: 'shop/messaging.yaml is declared: 2 of 2 exchanges, queues and bindings were made',
    });
    expect(world.status('messagingTopology')).toMatchObject({ isDeclared: true });
    const reasons = world.told.map(({ reason }) => reason);
    expect(reasons.indexOf('TopologyApplied')).toBeGreaterThan(reasons.indexOf('DefinitionsRestored'));
    expect(reasons.indexOf('TopologyApplied')).toBeLessThan(reasons.indexOf('UpgradeComplete'));
    await world.rest();
    const { writes } = world;
    world.time += 3_600_000;
    expect(await world.reconcile()).toBeLessThanOrEqual(30_000);
    expect([world.declares, world.writes]).toEqual([1, writes]);
  });

  it('is declared once though somebody else writes the RabbitMq while that is done', async () => {
    const world = await known(fileOf('orders'));
    const { before } = world.api;
    let turn = 0;
    world.api.before = (write) => {
      before(write);
      // What doesn't concern the reconciler, as often as it may come within one of its writes.
      if (write.resource !== RABBITMQ || turn++ % 5 === 4) return;
      const stored = world.rabbitmq!;
      const annotations = { ...(stored.metadata['annotations'] as object), other: `${turn}` };
      world.api.put(RABBITMQ, { ...stored, metadata: { ...stored.metadata, annotations } });
    };
    await world.annotate(TARGET);
    await world.run(() => world.isAt('4.2'));
    expect(world.declares).toBe(1);
  });

  it('is declared again when it has changed, and on another cluster', async () => {
    const world = await upgraded(fileOf('orders'));
    putFile(world, fileOf('orders', 'mail'));
    await world.run(() => world.declares === 2);
    await world.rest();
    expect(world.broker?.declared).toEqual(['orders', 'mail']);
    await world.annotate({ [ANNOTATION.targetVersion]: '4.3' });
    await world.run(() => world.isAt('4.3'));
    expect(world.broker?.declared).toEqual(['orders', 'mail']);
    await world.rest();
    expect(world.declares).toBe(3);
    expect(toldOf(world)).toEqual(['TopologyApplied', 'TopologyApplied', 'TopologyApplied']);
  });

  it('keeps no upgrade from finishing, and is tried again every minute, when something is in its way', async () => {
    const world = await known(fileOf('orders'));
    world.obstacle = 'queue "orders": x-max-length: the file has 5, the broker has none';
    await world.annotate(TARGET);
    await world.run(() => world.isAt('4.2'));
    expect(world.declares).toBe(1);
    expect(world.condition('Degraded')).toMatchObject({ status: 'False' });
    expect(saysOf(world)).toMatchObject({
      status: 'False',
      reason: 'Conflict',
      message: `shop/messaging.yaml: nothing was declared: ${world.obstacle}`,
    });
    const from = world.time;
    await world.run(() => world.declares === 3);
    expect(world.time - from).toBeGreaterThanOrEqual(120_000);
    expect(toldOf(world)).toEqual(['TopologyNotApplied']);
    world.obstacle = '';
    await world.run(() => saysOf(world)?.['status'] === 'True');
    expect(toldOf(world)).toEqual(['TopologyNotApplied', 'TopologyApplied']);
  });

  it.each([
    [
      'exchange: []',
      'InvalidFile',
      'shop/messaging.yaml:1:1: unknown key "exchange": did you mean "exchanges"?',
    ],
    ['vhost: ${VHOST}', 'InvalidFile', 'the environment variable VHOST is not set'],
    [undefined, 'NoFile', 'there is no ConfigMap shop'],
  ])('%s is told as %s, and the upgrade finishes', async (file, reason, message) => {
    const world = await upgraded(file);
    await world.rest();
    expect(saysOf(world)).toMatchObject({
      status: 'False',
      reason,
      message: expect.stringContaining(message),
    });
    expect(toldOf(world)).toEqual(['TopologyNotApplied']);
    expect(world.declares).toBe(0);
    putFile(world, fileOf('orders'));
    await world.run(() => saysOf(world)?.['status'] === 'True');
    expect(world.broker?.declared).toEqual(['orders']);
  });

  it('is told to be gone when its ConfigMap goes, and to be declared when it is back', async () => {
    const world = await upgraded(fileOf('orders'));
    world.api.drop(CONFIG_MAP, NAMESPACE, 'shop');
    await world.run(() => saysOf(world)?.['reason'] === 'NoFile');
    putFile(world, fileOf('orders'));
    await world.run(() => saysOf(world)?.['reason'] === 'Applied');
    expect(world.broker?.declared).toEqual(['orders']);
  });

  it('is forgotten when the RabbitMq names none any more; what it has declared stays', async () => {
    const world = await upgraded(fileOf('orders'));
    await world.edit({ spec: { messagingTopology: null } });
    await world.run(() => saysOf(world)?.['reason'] === 'NotWanted');
    await world.rest();
    expect(world.status('messagingTopology')).toBeUndefined();
    expect(world.broker?.declared).toEqual(['orders']);
  });

  it('is no concern of a RabbitMq that names none', async () => {
    const world = new World();
    await world.annotate(TARGET);
    await world.run(() => world.isAt('4.2'));
    await world.rest();
    expect([saysOf(world), world.status('messagingTopology'), world.declares]).toEqual([
      undefined,
      undefined,
      0,
    ]);
  });

  it('waits for a broker that does not answer behind the upgrade, and is declared then', async () => {
    const world = await upgraded(fileOf('orders'));
    world.whims.managementAnswers = false;
    putFile(world, fileOf('orders', 'mail'));
    await world.run(() => saysOf(world)?.['reason'] === 'BrokerUnreachable');
    expect(saysOf(world)?.['message']).toContain('the management API does not answer');
    world.whims.managementAnswers = true;
    await world.run(() => saysOf(world)?.['status'] === 'True');
    expect(world.broker?.declared).toEqual(['orders', 'mail']);
  });

  it('is declared all the same wherever the process ends', async () => {
    const begin = async (): Promise<World> => {
      const world = await known(fileOf('orders'));
      await world.annotate(TARGET);
      return world;
    };
    const undisturbed = await begin();
    const first = undisturbed.writes + 1;
    await undisturbed.run(() => undisturbed.isAt('4.2'));
    const tried: number[] = [];
    for (let at = first; at <= undisturbed.writes; at++) {
      for (const when of ['before', 'after'] as const) {
        const world = await begin();
        world.crash = { at, when };
        await world.run(() => world.isAt('4.2'));
        expect([world.broker?.declared, saysOf(world)?.['status']]).toEqual([['orders'], 'True']);
        tried.push(world.declares);
      }
    }
    // Only the end between the declaration and its note makes it happen twice.
    expect(tried.filter((count) => count > 1)).toEqual([2]);
  });

  it('is declared on a cluster that the RabbitMq makes', async () => {
    const world = new World({ version: '', spec: { ...SPEC, replicas: 1 } });
    putFile(world, fileOf('orders'));
    await world.run(() => saysOf(world)?.['reason'] === 'Applied');
    expect(world.broker?.declared).toEqual(['orders']);
  });

  it('is not declared while its cluster is not ready', () => {
    const topology = { state: 'found', file: 'shop/messaging.yaml', text: '', sha256: 'a' } as const;
    const rabbitmq = seen.rabbitmq({ target: undefined, annotations: {} }, { currentVersion: '4.2' });
    const made = seen.newCluster({ hasWipeAnnotation: false, inject: undefined });
    const of = (readyReplicas: number) =>
      plan(
        seen.observed({
          rabbitmq,
          cluster: made,
          topology,
          statefulSet: seen.statefulSet({ clusterUid: 'new', readyReplicas }),
        }),
        seen.settings,
      ).step;
    expect(of(1)).toEqual({ do: 'declare topology', topology });
    expect(of(0)).toMatchObject({ do: 'wait', afterMs: 30_000 });
  });
});

describe('reading the file', () => {
  const signal = new AbortController().signal;
  const rabbitmq = seen.object({ messagingTopology: { configMapRef: { name: 'shop', key: 'other.yaml' } } });

  it('tells what is missing, also where it may not be read', async () => {
    const world = new World();
    const read = () => readTopology(world.api, rabbitmq, signal);
    expect(await read()).toEqual({ state: 'missing', why: 'there is no ConfigMap shop' });
    putFile(world, fileOf('orders'));
    expect(await read()).toEqual({
      state: 'missing',
      why: 'ConfigMap shop has no text under the key other.yaml',
    });
    putFile(world, 'exchanges: []', 'other.yaml');
    expect(await read()).toMatchObject({ state: 'found', file: 'shop/other.yaml', text: 'exchanges: []' });
    const failing = (code: number | undefined) => ({
      get: () => Promise.reject(new ApiFailure('GET configmaps: no', code)),
    });
    expect(await readTopology(failing(403), rabbitmq, signal)).toMatchObject({ state: 'missing' });
    for (const code of [500, undefined])
      await expect(readTopology(failing(code), rabbitmq, signal)).rejects.toThrow('GET configmaps');
  });

  it('takes the virtual host and what is declared, whatever else the file has', () => {
    const file = [
      `url: ${SECRET_URL}`,
      'connect_timeout: nonsense',
      'publisher_confirm: ${UNSET}',
      'tls: { ca_file: /nowhere }',
      'consumer: 7',
      'exchanges: [{ name: orders }]',
    ].join('\n');
    const { vhost, exchanges, warnings } = parseTopology('file', file);
    expect([vhost, exchanges.map(({ name }) => name), warnings]).toEqual(['nova', ['orders'], []]);
    expect(parseTopology('file', 'rabbitmq: { host: h }').vhost).toBe('/');
    expect(() => parseTopology('file', 'hots: h')).toThrow('unknown key "hots": did you mean "host"?');
    const twice = `url: ${SECRET_URL}\nvhost: other`;
    expect(() => parseTopology('file', twice)).toThrow('key "vhost" says what url says already');
    expect(() => parseTopology('file', twice)).not.toThrow('secret-of-shop');
  });

  it('knows no variable of the reconciler', () => {
    process.env['QUORUMBRIDGE_TEST_VHOST'] = 'secret';
    const file = 'vhost: ${QUORUMBRIDGE_TEST_VHOST:-mine}';
    expect(parseTopology('file', file).vhost).toBe('mine');
    process.env['RABBITMQ_VHOST'] = 'secret';
    expect(parseTopology('file', file).vhost).toBe('mine');
    delete process.env['QUORUMBRIDGE_TEST_VHOST'];
    delete process.env['RABBITMQ_VHOST'];
  });

  it('is asked for in the steady phase and at the end of an upgrade alone', async () => {
    const world = await known(fileOf('orders'));
    const asked = new Set<unknown>();
    const get = world.api.get.bind(world.api);
    world.api.get = (resource, namespace, name, ...rest) => {
      if (resource === CONFIG_MAP && name === 'shop') asked.add(world.status('upgradePhase') ?? '');
      return get(resource, namespace, name, ...rest);
    };
    await world.annotate(TARGET);
    await world.run(() => world.isAt('4.2'));
    expect(asked).toEqual(new Set(['', 'WaitingForCluster']));
  });
});
