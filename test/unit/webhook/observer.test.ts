import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ANNOTATION } from '../../../common/contract.ts';
import { connectApi } from '../../../common/kube/api.ts';
import { eventAbout, tellingOf } from '../../../webhook/events.ts';
import { examine } from '../../../webhook/examine.ts';
import { type OpenCluster, openCluster } from '../../../common/kube/open.ts';
import { WebhookStats } from '../../../webhook/metrics.ts';
import { mutate } from '../../../webhook/mutate.ts';
import { type Observer, startObserver } from '../../../webhook/observer.ts';
import { ownerLookup } from '../../../webhook/owners.ts';
import type { KubeObject } from '../../../common/kube/types.ts';
import type { OwnerFacts } from '../../../webhook/types.ts';
import { type PlayedApiServer, playApiServer } from '../../support/api-server.ts';
import { readableLog, startTestWebhook } from './harness.ts';

const CLUSTERS = '/apis/rabbitmq.com/v1beta1/rabbitmqclusters';
const SETS = '/apis/apps/v1/statefulsets';
const EVENTS = '/apis/events.k8s.io/v1/namespaces/openstack/events';
const SETTINGS = { image: 'proxy:1' };
const ASKING = { [ANNOTATION.enableProxy]: 'true' };

let version = 100;

function cluster(name: string, annotations: Record<string, string> = {}, generation = 1): KubeObject {
  const resourceVersion = `${version++}`;
  const metadata = {
    name,
    namespace: 'openstack',
    uid: `uid-of-${name}`,
    annotations,
    generation,
    resourceVersion,
  };
  return { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster', metadata, spec: { replicas: 1 } };
}

/** The object as an admission leaves it. */
function admitted(object: KubeObject, owner: OwnerFacts = { state: 'absent' }): KubeObject {
  const result = mutate({ object, owner, settings: SETTINGS });
  expect(result.allowed).toBe(true);
  return (result as { object: KubeObject }).object;
}

function list(kind: string, ...items: KubeObject[]) {
  return { object: { kind: `${kind}List`, apiVersion: 'v1', metadata: { resourceVersion: '1' }, items } };
}

let server: PlayedApiServer;
let opened: OpenCluster;
let observer: Observer;
let log: ReturnType<typeof readableLog>;
let stats: WebhookStats;

async function start(...existing: KubeObject[]): Promise<void> {
  server.answers.set(CLUSTERS, list('RabbitmqCluster', ...existing)).set(SETS, list('StatefulSet'));
  const api = connectApi(opened);
  observer = startObserver({
    api,
    owners: ownerLookup(api, 300),
    settings: SETTINGS,
    log: log.log,
    stats,
    settleMs: 40,
  });
  await vi.waitFor(() => expect(server.watches).toHaveLength(2));
}

function put(object: KubeObject, path = CLUSTERS): void {
  server.watches.find((watch) => watch.path === path)!.send('MODIFIED', object);
}

const posted = () => server.requests.filter(({ method, body }) => method === 'POST' && body !== undefined);
const told = () => posted().map(({ body }) => body as Record<string, unknown>);

/** Waits until the observer has nothing to do: until what is told has not changed for a while. */
async function settled(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 250));
}

beforeEach(async () => {
  server = await playApiServer();
  server.answers.set(EVENTS, { object: {} });
  opened = await openCluster({ from: 'kubeconfig', files: [server.kubeconfig] });
  log = readableLog();
  stats = new WebhookStats();
});
afterEach(async () => {
  await observer.stop();
  await opened.pool.destroy();
  await server[Symbol.asyncDispose]();
});

describe('Events about stored objects', () => {
  it('tell of an injection and of a removal, once each, however often the object is written', async () => {
    await start();
    put(admitted(cluster('rabbitmq', ASKING)));
    await vi.waitFor(() => expect(told()).toHaveLength(1));
    put(admitted(cluster('rabbitmq', { ...ASKING, other: 'x' })));
    put(cluster('rabbitmq', {}, 2));
    await vi.waitFor(() => expect(told()).toHaveLength(2));
    put(cluster('rabbitmq', { other: 'y' }, 2));
    await settled();
    expect(posted().map(({ path }) => path)).toEqual([EVENTS, EVENTS]);
    expect(told()).toEqual([
      {
        apiVersion: 'events.k8s.io/v1',
        kind: 'Event',
        metadata: { namespace: 'openstack', name: expect.stringMatching(/^rabbitmq\.[\da-f]{16}$/) },
        eventTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
        type: 'Normal',
        reason: 'ProxyInjected',
        note: 'the proxy proxy:1 was injected, for the annotation rabbitmq.openstack.org/enable-proxy is "true" [enable-proxy]',
        action: 'Admission',
        reportingController: 'quorumbridge.io/webhook',
        reportingInstance: expect.any(String),
        regarding: {
          apiVersion: 'rabbitmq.com/v1beta1',
          kind: 'RabbitmqCluster',
          namespace: 'openstack',
          name: 'rabbitmq',
          uid: 'uid-of-rabbitmq',
          resourceVersion: expect.any(String),
        },
      },
      expect.objectContaining({
        type: 'Normal',
        reason: 'ProxyRemoved',
        note: 'the proxy was taken out, for nothing asks for the proxy [not-required]',
      }),
    ]);
    expect([...stats.events]).toEqual([
      [{ reason: 'ProxyInjected', result: 'written' }, 1],
      [{ reason: 'ProxyRemoved', result: 'written' }, 1],
    ]);
  });

  it('do not repeat what was there at the start, nor after a gap, and know it for what comes', async () => {
    const injected = admitted(cluster('rabbitmq', ASKING));
    await start(injected, cluster('plain'));
    put(injected);
    server.watches.find(({ path }) => path === CLUSTERS)!.send('ERROR', { kind: 'Status', code: 410 });
    await vi.waitFor(() =>
      expect(server.requests.filter(({ path }) => path === `${CLUSTERS}?limit=500`)).toHaveLength(2),
    );
    await settled();
    expect(told()).toEqual([]);
    put(cluster('rabbitmq', {}, 2));
    await vi.waitFor(() => expect(told()).toMatchObject([{ reason: 'ProxyRemoved' }]));
  });

  it('warn about a proxy that is missing, but not when that settles by itself', async () => {
    await start();
    put(cluster('settles', ASKING));
    put(admitted(cluster('settles', ASKING)));
    put(cluster('missing', ASKING));
    await vi.waitFor(() => expect(told()).toHaveLength(2));
    await settled();
    expect(
      told()
        .map(({ reason, type }) => `${String(type)} ${String(reason)}`)
        .sort((a, b) => a.localeCompare(b)),
    ).toEqual(['Normal ProxyInjected', 'Warning ProxyMissing']);
  });

  it('ignore what is expected: objects without the proxy, those being deleted, governed StatefulSets', async () => {
    await start();
    put(cluster('plain'));
    const deleting = admitted(cluster('deleting', ASKING));
    deleting.metadata['deletionTimestamp'] = '2026-01-01T00:00:00Z';
    put(deleting);
    const controller = {
      apiVersion: 'rabbitmq.com/v1beta1',
      kind: 'RabbitmqCluster',
      name: 'r',
      uid: 'u',
      controller: true,
    };
    const set = { ...cluster('set', ASKING), apiVersion: 'apps/v1', kind: 'StatefulSet' };
    set.metadata['ownerReferences'] = [controller];
    put(set, SETS);
    await settled();
    expect(told()).toEqual([]);
    expect(
      server.requests.some(({ path }) =>
        path.includes('labelSelector=app.kubernetes.io%2Fcomponent%3Drabbitmq'),
      ),
    ).toBe(true);
  });

  it('are left to the replica that was first, and missed where the account may not write them', async () => {
    await start();
    server.answers.set(EVENTS, { status: 409 });
    put(admitted(cluster('one', ASKING)));
    await vi.waitFor(() =>
      expect([...stats.events]).toEqual([[{ reason: 'ProxyInjected', result: 'known' }, 1]]),
    );
    server.answers.set(EVENTS, { status: 403 });
    put(admitted(cluster('two', ASKING)));
    await vi.waitFor(() =>
      expect(log.lines).toContainEqual(
        expect.objectContaining({
          level: 'warn',
          why: expect.stringContaining('"create" on events.events.k8s.io'),
        }),
      ),
    );
  });

  it('are no flood', async () => {
    await start();
    for (let i = 0; i < 100; i++) put(admitted(cluster(`number-${i}`, ASKING)));
    await vi.waitFor(
      () => expect([...stats.events].reduce((sum, [, count]) => sum + count, 0)).toBe(100),
      5000,
    );
    expect(told().length).toBeLessThanOrEqual(120);
    expect([...stats.events].map(([labels]) => labels)).toContainEqual({
      reason: 'ProxyInjected',
      result: 'left out',
    });
  });

  it('are not written, and nothing is followed for them, with --no-events', async () => {
    await start();
    await observer.stop();
    const before = server.requests.length;
    await using webhook = await startTestWebhook({
      noCluster: false,
      kubeconfig: server.kubeconfig,
      noEvents: true,
    });
    await settled();
    expect(webhook.lines).not.toEqual([]);
    const since = server.requests.slice(before).map(({ path }) => path.split('?', 1)[0]);
    expect(new Set(since)).toEqual(new Set(['/apis/rabbitmq.openstack.org/v1beta1/rabbitmqs']));
  });
});

describe('what is worth an Event', () => {
  const required: OwnerFacts = {
    state: 'found',
    rabbitmq: {
      apiVersion: 'rabbitmq.openstack.org/v1beta1',
      kind: 'RabbitMq',
      metadata: {},
      status: { proxyRequired: true },
    },
  };
  const reasonOf = (object: KubeObject, owner: OwnerFacts, carried?: boolean) =>
    tellingOf(examine({ object, owner, settings: SETTINGS }), carried)?.reason;

  beforeEach(() => start());

  it('is what is surprising, or a change', () => {
    const injected = admitted(cluster('a', ASKING));
    const off = { [ANNOTATION.inject]: 'false' };
    expect(reasonOf(cluster('a', off), required)).toBe('ProxyOptedOut');
    expect(reasonOf(cluster('a', off), { state: 'absent' })).toBeUndefined();
    expect(reasonOf(cluster('a', off), required, false)).toBeUndefined();
    expect(reasonOf(cluster('a', off), required, true)).toBe('ProxyRemoved');
    const left = { ...injected, metadata: { ...injected.metadata, annotations: off } };
    expect(reasonOf(left, required, true)).toBe('ProxyLeft');
    expect(reasonOf(injected, { state: 'unknown', why: 'x' }, true)).toBeUndefined();
    expect(reasonOf(cluster('a'), { state: 'unknown', why: 'x' })).toBeUndefined();
    const foreign = cluster('a', ASKING);
    foreign['spec'] = {
      override: { statefulSet: { spec: { template: { spec: { containers: [{ name: 'amqp-proxy' }] } } } } },
    };
    expect(reasonOf(foreign, { state: 'absent' })).toBe('ProxyRefused');
  });

  it('has the same name for the same news of the same generation, and another for others', () => {
    const telling = { reason: 'ProxyInjected', note: 'x'.repeat(3000) } as const;
    const name = (object: KubeObject, more = {}, time = 0) =>
      eventAbout(object, { ...telling, ...more }, new Date(time)).metadata['name'];
    const object = cluster('a');
    expect(name(object)).toBe(name(object, {}, 1000));
    expect(new Set([name(object), name(object, { note: 'y' }), name(cluster('a', {}, 2))]).size).toBe(3);
    expect((eventAbout(object, telling, new Date())['note'] as string).length).toBe(1024);
  });
});
