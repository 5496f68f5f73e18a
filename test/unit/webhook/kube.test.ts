import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { Agent } from 'node:https';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { UsageError } from '../../../common/errors.ts';
import { type ClusterAccess, findCluster } from '../../../common/kube/access.ts';
import { connectApi } from '../../../common/kube/api.ts';
import { openCluster } from '../../../common/kube/open.ts';
import { ownerLookup } from '../../../webhook/owners.ts';
import type { KubeObject } from '../../../common/kube/types.ts';
import {
  type Played,
  type PlayedApiServer,
  TOKEN,
  apiPath,
  playApiServer,
} from '../../support/api-server.ts';
import { admissionReview, httpGet, rabbitmqCluster, startTestWebhook } from './harness.ts';

const RABBITMQ = { apiVersion: 'rabbitmq.openstack.org/v1beta1', kind: 'RabbitMq' };

function rabbitMq(name: string, rest: Record<string, unknown> = {}) {
  return {
    ...RABBITMQ,
    metadata: { name, namespace: 'openstack', uid: `uid-of-${name}` },
    spec: {},
    ...rest,
  };
}

function ownedBy(owner: { apiVersion: string; kind: string }, name: string, uid = `uid-of-${name}`) {
  return [{ apiVersion: owner.apiVersion, kind: owner.kind, name, uid, controller: true }];
}

const CLUSTER = { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster' };

function cluster(metadata: KubeObject['metadata'] = {}): KubeObject {
  return { ...CLUSTER, metadata: { name: 'rabbit', namespace: 'openstack', ...metadata }, spec: {} };
}

function statefulSet(metadata: KubeObject['metadata']): KubeObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name: 'rabbit-server', ...metadata },
    spec: {},
  };
}

/** A lookup by live requests alone, with its own connections. */
async function connectOwnerLookup(access: ClusterAccess, timeoutMs: number) {
  const cluster = await openCluster(access);
  const owners = ownerLookup(connectApi(cluster), timeoutMs);
  return {
    server: cluster.server,
    find: async (object: KubeObject, namespace: string | undefined) =>
      (await owners.find(object, namespace, true)).owner,
    close: () => cluster.pool.destroy(),
  };
}

let api: PlayedApiServer;
let lookup: Awaited<ReturnType<typeof connectOwnerLookup>>;
beforeEach(async () => {
  api = await playApiServer();
  lookup = await connectOwnerLookup({ from: 'kubeconfig', files: [api.kubeconfig] }, 300);
});
afterEach(async () => {
  await lookup.close();
  await api[Symbol.asyncDispose]();
});

describe('looking up the RabbitMq behind an object', () => {
  it('finds the owner by reference, with the account of the kubeconfig', async () => {
    const owner = rabbitMq('other-name', { status: { proxyRequired: true } });
    api.answers.set(apiPath('other-name'), { object: owner });
    const found = await lookup.find(
      cluster({ ownerReferences: ownedBy(RABBITMQ, 'other-name') }),
      'openstack',
    );
    expect(found).toEqual({ state: 'found', rabbitmq: owner });
    expect(api.requests).toMatchObject([
      {
        path: apiPath('other-name'),
        headers: { authorization: `Bearer ${TOKEN}`, accept: 'application/json' },
      },
    ]);
  });

  it('does not take a namesake with another uid for the owner', async () => {
    api.answers.set(apiPath('rabbit'), { object: rabbitMq('rabbit') });
    const references = ownedBy(RABBITMQ, 'rabbit', 'uid-of-the-deleted-one');
    expect(await lookup.find(cluster({ ownerReferences: references }), 'openstack')).toEqual({
      state: 'absent',
    });
  });

  it('goes from a StatefulSet by its RabbitmqCluster to the RabbitMq', async () => {
    const owner = rabbitMq('rabbit');
    api.answers.set(apiPath('rabbit'), { object: owner });
    api.answers.set(apiPath('rabbit', 'rabbitmqclusters', 'rabbitmq.com'), {
      object: cluster({ uid: 'uid-of-rabbit', ownerReferences: ownedBy(RABBITMQ, 'rabbit') }),
    });
    const set = statefulSet({ ownerReferences: ownedBy(CLUSTER, 'rabbit') });
    expect(await lookup.find(set, 'openstack')).toEqual({ state: 'found', rabbitmq: owner });
    expect(api.requests).toHaveLength(2);
  });

  it('falls back to the RabbitMq of the same name and namespace', async () => {
    const owner = rabbitMq('rabbit');
    api.answers.set(apiPath('rabbit'), { object: owner });
    const other = ownedBy({ apiVersion: 'v1', kind: 'ConfigMap' }, 'x');
    expect(await lookup.find(cluster({ ownerReferences: other }), 'openstack')).toMatchObject({
      state: 'found',
    });
    expect(await lookup.find(cluster(), 'openstack')).toEqual({ state: 'found', rabbitmq: owner });
  });

  it('asks nothing about an object that has no name or namespace yet', async () => {
    expect(await lookup.find(cluster({ name: null, generateName: 'r-' }), 'openstack')).toEqual({
      state: 'absent',
    });
    expect(await lookup.find(cluster(), undefined)).toEqual({ state: 'absent' });
    expect(api.requests).toEqual([]);
  });

  it('is absent when there is no such object or no such kind (404)', async () => {
    expect(await lookup.find(cluster(), 'openstack')).toEqual({ state: 'absent' });
    const set = statefulSet({ ownerReferences: ownedBy(CLUSTER, 'rabbit') });
    expect(await lookup.find(set, 'openstack')).toEqual({ state: 'absent' });
  });

  it.each<[string, Played, RegExp]>([
    ['403', { status: 403 }, /answered 403 .*grant this account "get" on rabbitmqs/],
    ['401', { status: 401 }, /answered 401 /],
    ['500', { status: 500 }, /answered 500 to GET rabbitmqs.rabbitmq.openstack.org openstack\/rabbit: 500$/],
    ['429', { status: 429 }, /answered 429 /],
    ['no answer', 'hang', /did not answer within 300 ms/],
    ['an answer that does not end', 'hang in the body', /did not answer within 300 ms/],
    ['an answer that is not JSON', { raw: '{"password": oops' }, /not valid JSON$/],
    [
      'a list',
      { object: { kind: 'RabbitMqList', apiVersion: 'v1', metadata: {}, items: [] } },
      /something else/,
    ],
    ['null', { raw: 'null' }, /something else/],
    ['another object', { object: rabbitMq('another') }, /something else/],
  ])('is unknown, and says why, on %s', async (_what, played, why) => {
    api.answers.set(apiPath('rabbit'), played);
    const started = performance.now();
    const owner = await lookup.find(cluster(), 'openstack');
    expect(owner).toEqual({ state: 'unknown', why: expect.stringMatching(why) });
    expect(JSON.stringify(owner)).not.toContain(TOKEN);
    expect(performance.now() - started).toBeLessThan(1500);
  });

  it('is unknown when nobody listens, or the certificate is not of the cluster CA', async () => {
    await api[Symbol.asyncDispose]();
    const refused = await lookup.find(cluster(), 'openstack');
    expect(refused).toMatchObject({ state: 'unknown', why: expect.stringContaining('ECONNREFUSED') });
    await using stranger = await playApiServer();
    const config = JSON.stringify({
      clusters: [{ name: 'c', cluster: { server: stranger.url } }],
      users: [{ name: 'u', user: { token: TOKEN } }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    });
    const file = join(stranger.folder, 'config-without-ca');
    await writeFile(file, config);
    const untrusting = await connectOwnerLookup({ from: 'kubeconfig', files: [file] }, 1000);
    expect(await untrusting.find(cluster(), 'openstack')).toMatchObject({
      state: 'unknown',
      why: expect.stringContaining('certificate'),
    });
    await untrusting.close();
    expect(stranger.requests).toEqual([]);
  });

  it('has one time limit for all requests of an object', async () => {
    api.answers.set(apiPath('rabbit', 'rabbitmqclusters', 'rabbitmq.com'), {
      object: cluster({ uid: 'uid-of-rabbit', ownerReferences: ownedBy(CLUSTER, 'rabbit') }),
    });
    // A cluster that owns itself: the search has no end of its own.
    const set = statefulSet({ ownerReferences: ownedBy(CLUSTER, 'rabbit') });
    expect(await lookup.find(set, 'openstack')).toMatchObject({ state: 'unknown' });
    await new Promise((resolve) => setTimeout(resolve, 50));
    const { length } = api.requests;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(api.requests).toHaveLength(length);
  });

  it('asks again each time, over the same connection', async () => {
    api.answers.set(apiPath('rabbit'), { object: rabbitMq('rabbit') });
    for (let i = 0; i < 20; i++) await lookup.find(cluster(), 'openstack');
    expect(api.requests).toHaveLength(20);
    // undici opens a second one while the first is still in its handshake.
    expect(api.connections).toBeLessThanOrEqual(2);
  });

  it('keeps a name from reaching another path of the API', async () => {
    for (const name of ['..', '.', '../../secrets', 'a/b', '%2e%2e']) {
      expect(await lookup.find(cluster({ name }), 'openstack')).toEqual({ state: 'absent' });
    }
    expect(api.requests).toEqual([]);
    await lookup.find(cluster({ name: 'a?b#c' }), 'openstack');
    expect(api.requests).toMatchObject([{ path: apiPath('a%3Fb%23c') }]);
  });
});

describe('finding a cluster to ask', () => {
  const none = {
    kubeconfig: undefined,
    env: {},
    defaultKubeconfig: '/nowhere/config',
    tokenFile: '/nowhere/token',
  };

  it('takes the kubeconfig that is named, then the service account, then the default kubeconfig, else none', async () => {
    const file = api.kubeconfig;
    const inPod = {
      ...none,
      env: { KUBERNETES_SERVICE_HOST: '10.0.0.1' },
      tokenFile: file,
      defaultKubeconfig: file,
    };
    expect(await findCluster({ ...inPod, kubeconfig: file })).toEqual({ from: 'kubeconfig', files: [file] });
    expect(await findCluster(inPod)).toEqual({ from: 'service account' });
    expect(await findCluster({ ...inPod, env: {} })).toEqual({ from: 'kubeconfig', files: [file] });
    expect(await findCluster(none)).toBeUndefined();
  });

  it('takes a list of paths as kubectl does: the first context wins, missing files are left out', async () => {
    const second = join(api.folder, 'second');
    await writeFile(
      second,
      JSON.stringify({
        clusters: [{ name: 'second', cluster: { server: 'https://second' } }],
        users: [{ name: 'second', user: {} }],
        contexts: [{ name: 'second', context: { cluster: 'second', user: 'second' } }],
        'current-context': 'second',
      }),
    );
    const list = [join(api.folder, 'missing'), api.kubeconfig, second].join(delimiter);
    const access = await findCluster({ ...none, kubeconfig: list });
    expect(access).toEqual({ from: 'kubeconfig', files: [api.kubeconfig, second] });
    const merged = await connectOwnerLookup(access!, 300);
    expect(merged.server).toBe(api.url);
  });

  it.each<[string, string, RegExp]>([
    ['is missing', '', /--kubeconfig: .*missing cannot be read.*--no-cluster/],
    ['is not YAML', '{"token": "hunter2", "x', /--kubeconfig: .* is not a usable kubeconfig/],
    ['is empty', '   ', /not a usable kubeconfig/],
    ['names no cluster', '{"clusters": [], "users": [], "contexts": []}', /current-context names no cluster/],
  ])('refuses a kubeconfig that %s, without quoting it', async (_what, content, message) => {
    const kubeconfig = join(api.folder, content === '' ? 'missing' : 'broken');
    if (content !== '') await writeFile(kubeconfig, content);
    const connected = findCluster({ ...none, kubeconfig }).then((access) => connectOwnerLookup(access!, 300));
    const error = await connected.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UsageError);
    expect(String(error)).toMatch(message);
    expect(String(error)).not.toContain('hunter2');
  });
});

describe('the webhook without a cluster', () => {
  it('does not load the Kubernetes client', () => {
    const main = new URL('../../../webhook/main.ts', import.meta.url).href;
    const program = `
      import { registerHooks } from 'node:module';
      const seen = [];
      registerHooks({ resolve: (specifier, context, next) => (seen.push(specifier), next(specifier, context)) });
      await import(${JSON.stringify(main)});
      console.log(seen.includes('fastify'), seen.some((specifier) => specifier.includes('client-node')));`;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
    expect(child.stdout).toBe('true false\n');
  });
});

describe('the webhook with a cluster', () => {
  it('injects because of the RabbitMq, denies a create whose owner is not known, and counts both', async () => {
    await using webhook = await startTestWebhook({ noCluster: false, kubeconfig: api.kubeconfig });
    expect(webhook.lines).toContainEqual(expect.objectContaining({ server: api.url, from: 'kubeconfig' }));
    api.answers.set(apiPath('rabbitmq'), {
      object: rabbitMq('rabbitmq', { status: { proxyRequired: true } }),
    });
    expect(await webhook.review(admissionReview(rabbitmqCluster()))).toMatchObject({
      allowed: true,
      patchType: 'JSONPatch',
      auditAnnotations: { decision: 'yes', reason: 'proxy-required' },
    });
    api.answers.set(apiPath('rabbitmq'), { status: 403 });
    const denied = await webhook.review(admissionReview(rabbitmqCluster()));
    expect(denied).toMatchObject({
      allowed: false,
      status: { code: 503 },
      auditAnnotations: { decision: 'keep', reason: 'owner-unknown' },
    });
    expect(webhook.lines).toContainEqual(
      expect.objectContaining({ level: 'warn', why: expect.stringContaining('403') }),
    );
    const { body } = await httpGet(webhook.running.adminAddress, '/metrics');
    expect(body).toContain('quorumbridge_webhook_owner_lookups_total{result="found",source="live"} 1');
    expect(body).toContain('quorumbridge_webhook_owner_lookups_total{result="unknown",source="live"} 1');
    expect(JSON.stringify(webhook.lines)).not.toContain(TOKEN);
  });

  it('answers what is under way when it is told to end, and does not wait for kept connections', async () => {
    const webhook = await startTestWebhook({ noCluster: false, kubeconfig: api.kubeconfig });
    api.answers.set(apiPath('rabbitmq'), 'hang');
    const agent = new Agent({ keepAlive: true });
    const answer = webhook.post(admissionReview(rabbitmqCluster()), { agent });
    await vi.waitFor(() =>
      expect(api.requests).toContainEqual(expect.objectContaining({ path: apiPath('rabbitmq') })),
    );
    const started = performance.now();
    await webhook[Symbol.asyncDispose]();
    expect(performance.now() - started).toBeLessThan(5000);
    expect(await answer).toMatchObject({ status: 200, headers: { connection: 'close' } });
    agent.destroy();
  });

  it('answers within its time when the API server hangs', async () => {
    await using webhook = await startTestWebhook({ noCluster: false, kubeconfig: api.kubeconfig });
    api.answers.set(apiPath('rabbitmq'), 'hang');
    const started = performance.now();
    const answer = await webhook.review(admissionReview(rabbitmqCluster()));
    expect(performance.now() - started).toBeLessThan(3000);
    expect(answer).toMatchObject({ allowed: false, status: { code: 503 } });
  });
});
