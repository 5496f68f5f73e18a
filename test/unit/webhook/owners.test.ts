import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Api, connectApi } from '../../../common/kube/api.ts';
import { type OpenCluster, openCluster } from '../../../common/kube/open.ts';
import { type OwnerCache, type OwnerLookup, ownerLookup, startOwnerCache } from '../../../webhook/owners.ts';
import { cacheCheck } from '../../../webhook/surroundings.ts';
import type { KubeObject } from '../../../common/kube/types.ts';
import { type PlayedApiServer, TOKEN, apiPath, playApiServer } from '../../support/api-server.ts';
import { admissionReview, httpGet, rabbitmqCluster, readableLog, startTestWebhook } from './harness.ts';

const ALL = '/apis/rabbitmq.openstack.org/v1beta1/rabbitmqs';
const OWNED = [
  { apiVersion: 'rabbitmq.openstack.org/v1beta1', kind: 'RabbitMq', name: 'rabbit', uid: 'uid-of-rabbit' },
];

function rabbitMq(name: string, resourceVersion: string, proxyRequired: boolean) {
  return {
    apiVersion: 'rabbitmq.openstack.org/v1beta1',
    kind: 'RabbitMq',
    metadata: { name, namespace: 'openstack', uid: `uid-of-${name}`, resourceVersion },
    spec: {},
    status: { proxyRequired },
  };
}

function cluster(metadata: KubeObject['metadata'] = {}): KubeObject {
  return {
    apiVersion: 'rabbitmq.com/v1beta1',
    kind: 'RabbitmqCluster',
    metadata: { name: 'rabbit', namespace: 'openstack', ...metadata },
    spec: {},
  };
}

let server: PlayedApiServer;
let opened: OpenCluster;
let api: Api;
let cache: OwnerCache;
let owners: OwnerLookup;
let log: ReturnType<typeof readableLog>;

function playList(resourceVersion: string, ...items: object[]): void {
  const metadata = { resourceVersion };
  server.answers.set(ALL, {
    object: { kind: 'RabbitMqList', apiVersion: 'rabbitmq.openstack.org/v1beta1', metadata, items },
  });
}

const lists = (): number => server.requests.filter(({ path }) => path.startsWith(`${ALL}?limit`)).length;
const gets = (): number => server.requests.filter(({ path }) => path.startsWith(apiPath(''))).length;
const watching = () => vi.waitFor(() => expect(cache.watching).toBe(true));
const find = (object: KubeObject, stored = true) => owners.find(object, 'openstack', stored);

/** What the cache says of proxyRequired of "rabbit". */
async function required(): Promise<unknown> {
  const { owner } = await find(cluster());
  return owner.state === 'found' && owner.rabbitmq['status'];
}

beforeEach(async () => {
  server = await playApiServer();
  opened = await openCluster({ from: 'kubeconfig', files: [server.kubeconfig] });
  api = connectApi(opened);
  log = readableLog();
  playList('10', rabbitMq('rabbit', '7', true));
  cache = startOwnerCache(api, log.log, { firstMs: 10, maxMs: 50 });
  owners = ownerLookup(api, 300, cache);
});
afterEach(async () => {
  await cache.stop();
  await opened.pool.destroy();
  await server[Symbol.asyncDispose]();
});

describe('the cache of RabbitMqs', () => {
  it('answers for stored objects without a request, and asks live about new ones', async () => {
    await watching();
    server.answers.set(apiPath('rabbit'), { object: rabbitMq('rabbit', '8', false) });
    expect(await find(cluster())).toMatchObject({
      source: 'cache',
      owner: { rabbitmq: { status: { proxyRequired: true } } },
    });
    expect(gets()).toBe(0);
    expect(await find(cluster(), false)).toMatchObject({
      source: 'live',
      owner: { rabbitmq: { status: { proxyRequired: false } } },
    });
    expect(gets()).toBe(1);
  });

  it('follows changes, deletions and new objects', async () => {
    await watching();
    const [watch] = server.watches;
    expect(watch).toMatchObject({ path: ALL, resourceVersion: '10' });
    watch!.send('MODIFIED', rabbitMq('rabbit', '11', false));
    await vi.waitFor(async () => expect(await required()).toEqual({ proxyRequired: false }));
    watch!.send('ADDED', rabbitMq('other', '12', true));
    await vi.waitFor(() => expect(cache.size).toBe(2));
    watch!.send('DELETED', rabbitMq('rabbit', '13', false));
    await vi.waitFor(async () =>
      expect(await find(cluster())).toEqual({ source: 'cache', owner: { state: 'absent' } }),
    );
    expect(gets()).toBe(0);
  });

  it('asks live when it does not have the owner that the object names', async () => {
    await watching();
    const recreated = { ...rabbitMq('rabbit', '20', false), metadata: { name: 'rabbit', uid: 'new' } };
    server.answers.set(apiPath('rabbit'), { object: recreated });
    const ownerReferences = [{ ...OWNED[0], uid: 'new' }];
    expect(await find(cluster({ ownerReferences }))).toMatchObject({
      source: 'live',
      owner: { state: 'found' },
    });
  });

  it('asks live about the RabbitmqCluster behind a StatefulSet', async () => {
    await watching();
    const owner = { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster', name: 'rabbit', uid: 'c' };
    const set = { ...cluster({ ownerReferences: [owner] }), apiVersion: 'apps/v1', kind: 'StatefulSet' };
    server.answers.set(apiPath('rabbit'), { object: rabbitMq('rabbit', '8', true) });
    server.answers.set(apiPath('rabbit', 'rabbitmqclusters', 'rabbitmq.com'), {
      object: cluster({ uid: 'c', ownerReferences: OWNED }),
    });
    expect(await find(set)).toMatchObject({ source: 'live', owner: { state: 'found' } });
  });

  it('keeps neither managedFields nor what kubectl applied last', async () => {
    await watching();
    const object = rabbitMq('rabbit', '11', true);
    const annotations = { a: 'b', 'kubectl.kubernetes.io/last-applied-configuration': 'long' };
    Object.assign(object.metadata, { managedFields: [{ manager: 'x' }], annotations });
    server.watches[0]!.send('MODIFIED', object);
    await vi.waitFor(() => expect(cache.get('openstack', 'rabbit')?.metadata).toHaveProperty('annotations'));
    expect(cache.get('openstack', 'rabbit')?.metadata).toEqual({
      ...rabbitMq('rabbit', '11', true).metadata,
      annotations: { a: 'b' },
    });
  });
});

describe('a watch that is disturbed', () => {
  it('goes on at the last version after the server ended it, or the connection broke', async () => {
    await watching();
    server.watches[0]!.send('BOOKMARK', { kind: 'RabbitMq', metadata: { resourceVersion: '55' } });
    server.watches[0]!.end();
    await vi.waitFor(() => expect(server.watches).toMatchObject([{ resourceVersion: '55' }]));
    server.watches[0]!.send('MODIFIED', rabbitMq('rabbit', '60', false));
    await vi.waitFor(async () => expect(await required()).toEqual({ proxyRequired: false }));
    server.watches[0]!.end('broken');
    await vi.waitFor(() => expect(server.watches).toMatchObject([{ resourceVersion: '60' }]));
    expect(lists()).toBe(1);
    expect(cache.failures).toBe(1);
  });

  it('lists again after 410 Gone, and forgets what is not there any more', async () => {
    await watching();
    playList('90', rabbitMq('other', '80', true));
    server.watches[0]!.send('ERROR', { kind: 'Status', code: 410 });
    await vi.waitFor(() => expect(server.watches).toMatchObject([{ resourceVersion: '90' }]));
    expect(await find(cluster())).toEqual({ source: 'cache', owner: { state: 'absent' } });
    expect(log.lines).toEqual([]);
  });

  it.each([403, 500, 429])(
    'asks live while watching is answered %d, says so once, and recovers',
    async (status) => {
      await watching();
      server.answers.set(`${ALL}?watch`, { status });
      server.answers.set(apiPath('rabbit'), { object: rabbitMq('rabbit', '61', false) });
      server.watches[0]!.end('broken');
      await vi.waitFor(() => expect(cache.failures).toBeGreaterThan(3));
      expect(await find(cluster())).toMatchObject({
        source: 'live',
        owner: { rabbitmq: { status: { proxyRequired: false } } },
      });
      const warnings = log.lines.filter(
        ({ level, why }) => level === 'warn' && String(why).includes(String(status)),
      );
      expect(warnings).toHaveLength(1);
      server.answers.delete(`${ALL}?watch`);
      await watching();
      expect(await find(cluster())).toMatchObject({ source: 'cache' });
      expect(log.lines).toContainEqual(expect.objectContaining({ level: 'info', msg: 'watching again' }));
      expect(JSON.stringify(log.lines)).not.toContain(TOKEN);
    },
  );

  it('does not take up a server that ends every watch at once in a hot loop', async () => {
    await watching();
    const end = setInterval(() => server.watches.forEach((watch) => watch.end()), 1);
    await new Promise((resolve) => setTimeout(resolve, 500));
    clearInterval(end);
    expect(server.requests.length).toBeLessThan(60);
  });

  it('survives events that are none, and garbage', async () => {
    await watching();
    server.watches[0]!.send('ADDED', { kind: 'RabbitMq' });
    server.watches[0]!.send('BOOKMARK', {});
    server.watches[0]!.send('NEW-TYPE', rabbitMq('newer', '70', true));
    await vi.waitFor(() => expect(cache.size).toBe(2));
    server.answers.set(`${ALL}?watch`, { raw: 'garbage {"password"\n' });
    server.watches[0]!.end();
    await vi.waitFor(() => expect(cache.failures).toBeGreaterThan(0));
    expect(JSON.stringify(log.lines)).toContain('the answer is not valid JSON');
    expect(JSON.stringify(log.lines)).not.toContain('password');
    expect(cache.size).toBe(2);
  });
});

describe('a list of several pages', () => {
  it('is read to its end', async () => {
    await cache.stop();
    const page = (next: string, ...items: object[]) => ({
      object: {
        kind: 'RabbitMqList',
        metadata: { resourceVersion: '10', ...(next !== '' && { continue: next }) },
        items,
      },
    });
    server.answers.set(`${ALL}?limit=500`, page('TO KEN', rabbitMq('one', '1', true)));
    server.answers.set(`${ALL}?limit=500&continue=TO+KEN`, page('', rabbitMq('two', '2', true)));
    cache = startOwnerCache(api, log.log);
    await watching();
    expect(cache.size).toBe(2);
  });
});

describe('readiness by the cache', () => {
  it('waits until the RabbitMqs are known, and no longer than a while', async () => {
    await using webhook = await startTestWebhook({
      noCluster: false,
      kubeconfig: server.kubeconfig,
      noEvents: true,
    });
    await vi.waitFor(async () => {
      expect(await httpGet(webhook.running.adminAddress, '/readyz')).toEqual({ status: 200, body: 'ok\n' });
    });
    server.answers.set(ALL, { status: 403 });
    await using late = await startTestWebhook({
      noCluster: false,
      kubeconfig: server.kubeconfig,
      noEvents: true,
    });
    await vi.waitFor(async () => {
      expect(await httpGet(late.running.adminAddress, '/readyz')).toEqual({
        status: 503,
        body: expect.stringMatching(
          /^not ok\nthe RabbitMqs are not known yet: .*403 to GET rabbitmqs.*"list"/,
        ),
      });
    });
    const never = { synced: false, trouble: 'x' };
    expect(cacheCheck(never, false)).toEqual({ ok: false, reasons: ['the RabbitMqs are not known yet: x'] });
    expect(cacheCheck(never, true)).toMatchObject({ ok: true });
  });

  it('does not wait for a kind that is not installed, and takes it up when it is', async () => {
    server.answers.delete(ALL);
    const fresh = startOwnerCache(api, log.log, { firstMs: 10, maxMs: 20 });
    await vi.waitFor(() => expect(fresh.synced).toBe(true));
    expect(fresh.watching).toBe(false);
    expect(fresh.failures).toBe(0);
    expect(log.lines).toContainEqual(
      expect.objectContaining({ level: 'info', msg: 'not watching: the kind is not installed' }),
    );
    playList('5', rabbitMq('rabbit', '4', true));
    await vi.waitFor(() => expect(fresh.watching).toBe(true));
    await fresh.stop();
  });

  it('is told by metrics, and updates are decided from the cache', async () => {
    await using webhook = await startTestWebhook({
      noCluster: false,
      kubeconfig: server.kubeconfig,
      noEvents: true,
    });
    const metrics = async () => (await httpGet(webhook.running.adminAddress, '/metrics')).body;
    await vi.waitFor(async () =>
      expect(await metrics()).toMatch(/^quorumbridge_webhook_owner_cache_watching 1$/m),
    );
    const object = rabbitmqCluster({ metadata: { name: 'rabbit' } });
    const review = admissionReview(object, { operation: 'UPDATE', oldObject: object });
    expect(await webhook.review(review)).toMatchObject({ auditAnnotations: { reason: 'proxy-required' } });
    expect(await metrics()).toContain(
      'quorumbridge_webhook_owner_lookups_total{result="found",source="cache"} 1',
    );
    expect(await metrics()).toContain('quorumbridge_webhook_owner_cache_objects 1');
  });

  it('asks nobody about a StatefulSet that a RabbitmqCluster controls', async () => {
    await using webhook = await startTestWebhook({
      noCluster: false,
      kubeconfig: server.kubeconfig,
      noEvents: true,
    });
    const controller = {
      apiVersion: 'rabbitmq.com/v1beta1',
      kind: 'RabbitmqCluster',
      name: 'r',
      uid: 'u',
      controller: true,
    };
    const set = {
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: { name: 's', ownerReferences: [controller] },
      spec: {},
    };
    const kind = { group: 'apps', version: 'v1', kind: 'StatefulSet' };
    expect(await webhook.review(admissionReview(set, { kind }))).toMatchObject({
      auditAnnotations: { reason: 'governed-by-rabbitmqcluster' },
    });
    expect(gets()).toBe(0);
  });
});
