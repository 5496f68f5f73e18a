import { once } from 'node:events';
import { type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ANNOTATION, PORT } from '../../../common/contract.ts';
import { connectApi } from '../../../common/kube/api.ts';
import { type LedgerLookup, judgeClients, ledgerLookup } from '../../../webhook/clients.ts';
import { type OpenCluster, openCluster } from '../../../common/kube/open.ts';
import { type PlayedApiServer, playApiServer } from '../../support/api-server.ts';
import { type TestWebhook, admissionReview, rabbitmqCluster, startTestWebhook } from './harness.ts';

const KIND = { group: 'rabbitmq.openstack.org', version: 'v1beta1', kind: 'RabbitMq' };
const DONE = { [ANNOTATION.clientsReconfigured]: 'true' };

function rabbitMq(spec: Record<string, unknown> = {}, annotations: Record<string, string> = {}, more = {}) {
  return {
    apiVersion: 'rabbitmq.openstack.org/v1beta1',
    kind: 'RabbitMq',
    metadata: { name: 'rabbitmq', namespace: 'openstack', annotations },
    spec,
    ...more,
  };
}

function review(object: unknown, oldObject?: unknown, more: Record<string, unknown> = {}) {
  const operation = oldObject === undefined ? 'CREATE' : 'UPDATE';
  return admissionReview(object, { kind: KIND, operation, oldObject: oldObject ?? null, ...more });
}

async function ask(webhook: TestWebhook, path: string, body: unknown) {
  const answer = await webhook.post(body, { path });
  expect(answer.status).toBe(200);
  return (answer.body as { response: Record<string, unknown> & { patch?: string } }).response;
}

describe('admissions of RabbitMqs', () => {
  it('set the queue type of a new one, and force it at a 4.x target with a warning', async () => {
    await using webhook = await startTestWebhook();
    const fresh = await ask(webhook, '/mutate', review(rabbitMq({ replicas: 3 })));
    expect(fresh).toMatchObject({
      allowed: true,
      patchType: 'JSONPatch',
      auditAnnotations: { decision: 'default', reason: 'queue-type-default' },
    });
    expect(JSON.parse(Buffer.from(fresh.patch ?? '', 'base64').toString())).toEqual([
      { op: 'add', path: '/spec/queueType', value: 'Quorum' },
    ]);
    const forced = await ask(
      webhook,
      '/mutate',
      review(rabbitMq({ queueType: 'Mirrored', targetVersion: '4.2' })),
    );
    expect(forced).toMatchObject({
      auditAnnotations: { reason: 'queue-type-forced' },
      warnings: [expect.stringMatching(/"Mirrored" became "Quorum"/)],
    });
    expect(await ask(webhook, '/mutate', review(rabbitMq({ queueType: 'Quorum' })))).toEqual({
      uid: expect.any(String),
      allowed: true,
      auditAnnotations: { decision: 'keep', reason: 'nothing-to-default' },
    });
  });

  it('are validated: HTTP 200, allowed or not, with code, message, and nothing patched', async () => {
    await using webhook = await startTestWebhook();
    expect(await ask(webhook, '/validate', review(rabbitMq()))).toEqual({
      uid: expect.any(String),
      allowed: true,
      auditAnnotations: { decision: 'valid', reason: 'valid' },
    });
    const denied = await ask(
      webhook,
      '/validate',
      review(rabbitMq({ replicas: 1 }), rabbitMq({ replicas: 3 })),
    );
    expect(denied).toEqual({
      uid: expect.any(String),
      allowed: false,
      auditAnnotations: { decision: 'invalid', reason: 'scale-down' },
      status: {
        status: 'Failure',
        code: 422,
        message: expect.stringMatching(/^spec\.replicas: 1 is less than 3/),
      },
    });
    expect(webhook.lines).toContainEqual(
      expect.objectContaining({ msg: 'admission', kind: 'RabbitMq', answer: 'denied', reason: 'scale-down' }),
    );
  });

  it('answer 409 for what only has to wait, and 422 when more is wrong', async () => {
    await using webhook = await startTestWebhook();
    const upgrading = rabbitMq(
      { targetVersion: '4.0', replicas: 3 },
      {},
      { status: { upgradePhase: 'WaitingForPods' } },
    );
    const early = await ask(
      webhook,
      '/validate',
      review(rabbitMq({ targetVersion: '4.2', replicas: 3 }), upgrading),
    );
    expect(early).toMatchObject({ allowed: false, status: { code: 409 } });
    const both = await ask(
      webhook,
      '/validate',
      review(rabbitMq({ targetVersion: '4.2', replicas: 2 }), upgrading),
    );
    expect(both).toMatchObject({
      allowed: false,
      status: { code: 422, message: expect.stringMatching(/replicas.*; .*upgrade is under way/) },
    });
  });

  it('let deletions pass on both paths, whatever is wrong with the object', async () => {
    await using webhook = await startTestWebhook();
    const deleting = {
      ...rabbitMq({ queueType: 'x' }),
      metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' },
    };
    for (const path of ['/mutate', '/validate']) {
      const body = review(deleting, rabbitMq(), { operation: 'UPDATE' });
      expect(await ask(webhook, path, body)).toMatchObject({
        allowed: true,
        auditAnnotations: { reason: 'deleting' },
      });
    }
  });

  it('keep to their path: StatefulSets are not validated', async () => {
    await using webhook = await startTestWebhook();
    const set = { apiVersion: 'apps/v1', kind: 'StatefulSet', metadata: {} };
    const body = admissionReview(set, { kind: { group: 'apps', version: 'v1', kind: 'StatefulSet' } });
    expect(await webhook.post(body, { path: '/validate' })).toMatchObject({
      status: 400,
      body: { reason: 'UnknownKind', message: expect.stringContaining('/validate handles') },
    });
  });

  it('say that nobody can be asked about clients without a cluster, and nothing with off', async () => {
    await using webhook = await startTestWebhook();
    const done = review(rabbitMq({}, DONE), rabbitMq());
    expect(await ask(webhook, '/validate', done)).toMatchObject({
      allowed: true,
      warnings: [expect.stringMatching(/no cluster to ask/)],
    });
    await using silent = await startTestWebhook({ clientsReconfiguredCheck: 'off' });
    expect(await ask(silent, '/validate', done)).not.toHaveProperty('warnings');
  });
});

/** What a proxy's ledger says, as docs/report.md has it. */
function ledger(summary: Record<string, unknown>) {
  return JSON.stringify({
    mode: 'transparent',
    summary: { lastRewrite: null, clients: 14, ...summary },
    clients: [],
  });
}

const NEEDED = ledger({
  text: '3 of 14 clients need the proxy; the last rewrite was at X',
  unneededSince: null,
  needing: 3,
});
const BEFORE = ledger({
  text: 'no client has needed a rewrite since X; 3 of 14 clients did before',
  unneededSince: 'X',
  needing: 3,
});
const NEVER = ledger({ text: 'no client has needed a rewrite since X', unneededSince: 'X', needing: 0 });

const SLICES =
  '/apis/discovery.k8s.io/v1/namespaces/openstack/endpointslices?limit=500&labelSelector=kubernetes.io%2Fservice-name+in+%28rabbitmq%2Crabbitmq-nodes%29';

describe('asking the proxies of a cluster about clients', () => {
  let api: PlayedApiServer;
  let cluster: OpenCluster;
  let proxies: Server[];
  let ledgers: LedgerLookup;
  /** Answers by the address that is asked; all of 127.0.0.0/8 is this machine. */
  let answers: Map<string, string>;

  const playProxy = async (address: string, port: number): Promise<number> => {
    const proxy = createServer((request, response) => {
      const body = answers.get(address);
      if (body === 'hang') return;
      response.statusCode = request.url === '/clients' && body !== undefined ? 200 : 404;
      response.end(body);
    });
    proxies.push(proxy);
    proxy.listen(port, address);
    await once(proxy, 'listening');
    return (proxy.address() as AddressInfo).port;
  };
  const endProxies = (): void => {
    for (const proxy of proxies) {
      proxy.closeAllConnections();
      proxy.close();
    }
  };
  const endpoint = (pod: string, address: string) => ({
    addresses: [address],
    targetRef: { kind: 'Pod', name: pod },
  });
  const play = (...endpoints: unknown[]): void =>
    void api.answers.set(SLICES, {
      object: {
        kind: 'EndpointSliceList',
        apiVersion: 'discovery.k8s.io/v1',
        metadata: { resourceVersion: '1' },
        items: [{ metadata: { name: 'rabbitmq-1' }, addressType: 'IPv4', endpoints }],
      },
    });

  beforeEach(async () => {
    api = await playApiServer();
    cluster = await openCluster({ from: 'kubeconfig', files: [api.kubeconfig] });
    answers = new Map();
    proxies = [];
    let port = 0;
    for (const number of [1, 2, 3, 4, 5, 6]) port = await playProxy(`127.0.0.${number}`, port);
    ledgers = ledgerLookup(connectApi(cluster), 500, port);
  });
  afterEach(async () => {
    endProxies();
    await cluster.pool.destroy();
    await api[Symbol.asyncDispose]();
  });

  it('finds each pod once, and says of each what it says, or why it says nothing', async () => {
    play(
      endpoint('rabbitmq-server-1', '127.0.0.2'),
      endpoint('rabbitmq-server-0', '127.0.0.1'),
      endpoint('rabbitmq-server-0', '127.0.0.9'),
      endpoint('rabbitmq-server-2', '127.0.0.3'),
      endpoint('rabbitmq-server-3', '127.0.0.4'),
      endpoint('rabbitmq-server-4', '127.0.0.5'),
      endpoint('rabbitmq-server-5', '127.0.0.6'),
      endpoint('a-name', 'example.com'),
    );
    answers
      .set('127.0.0.1', NEEDED)
      .set('127.0.0.2', NEVER)
      .set('127.0.0.3', 'hang')
      .set('127.0.0.4', '{"password": oops');
    answers.set('127.0.0.6', '{"summary": {}}');
    const started = performance.now();
    expect(await ledgers.ask('openstack', 'rabbitmq')).toEqual({
      told: [
        { pod: 'rabbitmq-server-0', needed: 'now', text: expect.stringContaining('3 of 14') },
        { pod: 'rabbitmq-server-1', needed: 'never', text: expect.any(String) },
        { pod: 'rabbitmq-server-2', why: 'no answer within 500 ms' },
        { pod: 'rabbitmq-server-3', why: 'it answered something else than JSON' },
        { pod: 'rabbitmq-server-4', why: 'it answered 404' },
        { pod: 'rabbitmq-server-5', why: 'it answered something else than a ledger' },
      ],
    });
    expect(performance.now() - started).toBeLessThan(2000);
  });

  it('says why nobody could be asked', async () => {
    api.answers.set(SLICES, { status: 403 });
    const forbidden = await ledgers.ask('openstack', 'rabbitmq');
    expect(forbidden).toEqual({
      told: [],
      why: expect.stringMatching(/403 .*grant this account "list" on endpointslices/),
    });
    api.answers.set(SLICES, 'hang');
    expect(await ledgers.ask('openstack', 'rabbitmq')).toEqual({ told: [], why: 'no answer within 500 ms' });
    play(endpoint('rabbitmq-server-0', '127.0.0.1'));
    endProxies();
    expect(await ledgers.ask('openstack', 'rabbitmq')).toEqual({
      told: [{ pod: 'rabbitmq-server-0', why: expect.stringContaining('ECONNREFUSED') }],
    });
  });

  it('puts no name into a selector that could be another one', async () => {
    expect(await ledgers.ask('openstack', 'a,b) notin (x')).toEqual({ told: [] });
    expect(api.requests).toEqual([]);
  });

  it('asks no more pods than a cluster has', async () => {
    play(
      ...Array.from({ length: 40 }, (_, index) =>
        endpoint(`pod-${String(index).padStart(2, '0')}`, '127.0.0.1'),
      ),
    );
    answers.set('127.0.0.1', NEVER);
    const { told } = await ledgers.ask('openstack', 'rabbitmq');
    expect(told.filter((each) => 'why' in each)).toHaveLength(8);
  });

  it('warns at the annotation, denies with the option, and asks at no other write', async () => {
    play(endpoint('rabbitmq-server-0', '127.0.0.1'));
    // The webhook asks at port 15695, where nobody listens on this address.
    await using webhook = await startTestWebhook({
      noCluster: false,
      kubeconfig: api.kubeconfig,
      noEvents: true,
    });
    const asked = (): number => api.requests.filter(({ path }) => path === SLICES).length;
    expect(await ask(webhook, '/validate', review(rabbitMq({}, DONE), rabbitMq()))).toMatchObject({
      allowed: true,
      warnings: [expect.stringMatching(/^pod rabbitmq-server-0: its proxy could not be asked/)],
    });
    expect(asked()).toBe(1);
    for (const [object, old] of [
      [rabbitMq({}, DONE), rabbitMq({}, DONE)],
      [rabbitMq(), rabbitMq({}, DONE)],
      [rabbitMq({}, { [ANNOTATION.clientsReconfigured]: 'yes' }), rabbitMq()],
    ]) {
      await ask(webhook, '/validate', review(object, old));
    }
    expect(asked()).toBe(1);
    const cluster = rabbitmqCluster({ metadata: { annotations: DONE } });
    const body = admissionReview(cluster, { operation: 'UPDATE', oldObject: rabbitmqCluster() });
    expect(await ask(webhook, '/validate', body)).toMatchObject({
      allowed: true,
      warnings: [expect.any(String)],
    });
    expect(asked()).toBe(2);
  });

  it("denies with the option what a ledger says, by the proxies' own port", async () => {
    const address = '127.83.17.1';
    play(endpoint('rabbitmq-server-0', address));
    await playProxy(address, PORT.admin);
    answers.set(address, NEEDED);
    await using webhook = await startTestWebhook({
      noCluster: false,
      kubeconfig: api.kubeconfig,
      noEvents: true,
      clientsReconfiguredCheck: 'deny',
    });
    expect(await ask(webhook, '/validate', review(rabbitMq({}, DONE), rabbitMq()))).toMatchObject({
      allowed: false,
      status: {
        code: 409,
        message: expect.stringMatching(/pod rabbitmq-server-0: 3 of 14 clients need the proxy/),
      },
      auditAnnotations: { decision: 'invalid', reason: 'clients-need-proxy' },
    });
    answers.set(address, NEVER);
    expect(await ask(webhook, '/validate', review(rabbitMq({}, DONE), rabbitMq()))).toEqual({
      uid: expect.any(String),
      allowed: true,
      auditAnnotations: { decision: 'valid', reason: 'valid' },
    });
  });

  it('is silent about a new object whose cluster has no pods', async () => {
    play();
    await using webhook = await startTestWebhook({
      noCluster: false,
      kubeconfig: api.kubeconfig,
      noEvents: true,
    });
    expect(await ask(webhook, '/validate', review(rabbitMq({}, DONE)))).not.toHaveProperty('warnings');
    expect(await ask(webhook, '/validate', review(rabbitMq({}, DONE), rabbitMq()))).toMatchObject({
      warnings: [expect.stringMatching(/no pod of the cluster was found/)],
    });
  });

  it('judges: needed now warns or is denied, needed before warns, never needed is silent', async () => {
    play(endpoint('a', '127.0.0.1'), endpoint('b', '127.0.0.2'), endpoint('c', '127.0.0.3'));
    answers.set('127.0.0.1', NEEDED).set('127.0.0.2', BEFORE).set('127.0.0.3', NEVER);
    const told = await ledgers.ask('openstack', 'rabbitmq');
    expect(judgeClients(told, 'warn')).toEqual({
      errors: [],
      warnings: [
        expect.stringMatching(/^pod a: 3 of 14 clients need/),
        expect.stringMatching(/^pod b: .*did before/),
      ],
    });
    expect(judgeClients(told, 'deny')).toEqual({
      errors: [
        {
          rule: 'clients-need-proxy',
          message: expect.stringMatching(
            /clients-reconfigured\]: "true" would .*\(pod a: 3 of 14.*quorumbridge report.*--clients-reconfigured-check=warn$/,
          ),
        },
      ],
      warnings: [expect.stringMatching(/^pod b/)],
    });
    expect(judgeClients(told, 'off')).toEqual({ errors: [], warnings: [] });
    const unknown = { told: [{ pod: 'a', why: 'x' }] };
    expect(judgeClients(unknown, 'deny').errors).toEqual([]);
  });
});
