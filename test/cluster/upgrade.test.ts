// A whole upgrade with real brokers: what its users see of it, and what is left of theirs.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Channel, type ChannelModel, connect } from 'amqplib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ANNOTATION, PROXY_CONTAINER, UPGRADE_ANNOTATION, WIPE_CONTAINER } from '../../common/contract.ts';
import { UPGRADE_EXCHANGE, type UpgradeEvent, upgradeEvent } from '../../messaging/index.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import type { KeptReconciler } from '../support/kept-reconciler.ts';
import { type KubeObject, eventually } from '../support/kube-api.ts';
import { Child } from '../support/processes.ts';
import { NAMESPACE, Stage, clusterRef, rabbitMqRef } from '../support/upgrade-stage.ts';

const NAME = 'rabbitmq';
const PASSWORD = 'alice-and-nobody-else';
const FROM = '3.10';
const TO = '4.0';

interface StatefulSet extends KubeObject {
  spec: { template: { spec: { containers: { name: string }[]; initContainers: { name: string }[] } } };
  status?: { readyReplicas?: number; updateRevision?: string; currentRevision?: string };
}

interface Listed {
  readonly name: string;
  readonly [key: string]: unknown;
}

const setRef = {
  apiVersion: 'apps/v1',
  kind: 'StatefulSet',
  metadata: { namespace: NAMESPACE, name: `${NAME}-server` },
};

const FILE =
  'exchanges: [{ name: shop, dlx_name: dead, dlq_name: letters, queues: [{ name: mail, bindings: [mail] }] }]';
const topology = (text: string) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { namespace: NAMESPACE, name: 'shop' },
  data: { 'messaging.yaml': text },
});

const namesOf = (list: readonly { name: string }[]): string[] => list.map(({ name }) => name);

await describeCluster(
  `an upgrade from ${FROM} to ${TO} with real brokers`,
  { operator: 'real', brokers: [FROM, TO] },
  () => {
    let stage: Stage;
    let reconciler: KeptReconciler;
    let lines: string[];
    let watch: Child;
    let events: Broker;
    let model: ChannelModel;
    let channel: Channel;
    let folder: string | undefined;
    let before: { uid: string; credentials: { username: string; password: string } };

    /** Asks the broker's management API. */
    const manage = async <T>(
      method: string,
      path: string,
      body?: object,
      user = before.credentials,
    ): Promise<T> => {
      const response = await fetch(`${stage.brokers.managementUrl(NAME)}/api/${path}`, {
        method,
        headers: {
          authorization: `Basic ${Buffer.from(`${user.username}:${user.password}`).toString('base64')}`,
          'content-type': 'application/json',
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return (text === '' ? undefined : JSON.parse(text)) as T;
    };

    /** Without the proxy's overlay the configuration is another one, for which the operator rolls the pods once more. */
    const outlasting = <T>(ask: () => Promise<T>): Promise<T> => eventually('the broker', ask, 90_000);

    /** What the broker of upgrade events has got so far. */
    const eventsSoFar = async (): Promise<{ id: string; key: string; event: UpgradeEvent }[]> => {
      const found = [];
      for (;;) {
        const message = await channel.get('all', { noAck: true });
        if (message === false) return found;
        const { fields, properties, content } = message;
        expect(properties).toMatchObject({ deliveryMode: 2, type: UPGRADE_EXCHANGE });
        const event = upgradeEvent.parse(JSON.parse(content.toString()));
        found.push({ id: properties.messageId as string, key: fields.routingKey, event });
      }
    };

    async function fill(): Promise<void> {
      const all = { configure: '.*', write: '.*', read: '.*' };
      await manage('PUT', 'vhosts/nova', {});
      await manage('PUT', `permissions/nova/${before.credentials.username}`, all);
      await manage('PUT', 'users/alice', { password: PASSWORD, tags: 'management' });
      await manage('PUT', 'permissions/nova/alice', all);
      await manage('PUT', 'policies/nova/ha-all', { pattern: '.*', definition: { 'ha-mode': 'all' } });
      const limits = { pattern: '^o', definition: { 'max-length': 7, 'ha-mode': 'all' }, priority: 1 };
      await manage('PUT', 'policies/nova/limits', limits);
      await manage('PUT', 'queues/nova/orders', { durable: true });
      await manage('PUT', 'exchanges/nova/topics', { type: 'topic', durable: true });
      await manage('POST', 'bindings/nova/e/topics/q/orders', { routing_key: 'a.#' });
      // Messages that nobody has counted yet are in the way of an upgrade.
      await stage.eventually('the queue is counted', async () => {
        const path = 'queues?page=1&page_size=500&columns=name,messages_persistent';
        const { items } = await manage<{ items: { messages_persistent?: number }[] }>('GET', path);
        return items.length === 1 && items[0]!.messages_persistent === 0;
      });
    }

    beforeAll(async () => {
      events = await startBroker(TO);
      model = await connect(events.url);
      channel = await model.createChannel();
      await channel.assertExchange(UPGRADE_EXCHANGE, 'topic', { durable: true });
      await channel.assertQueue('all', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
      await channel.bindQueue('all', UPGRADE_EXCHANGE, `${NAMESPACE}.#`);
      folder = mkdtempSync(join(tmpdir(), 'quorumbridge-events-'));
      const file = join(folder, 'messaging.yaml');
      writeFileSync(file, `rabbitmq: { url: "${events.url}" }`);
      stage = await Stage.start({ real: true });
      reconciler = await stage.startReconciler([`--events-config=${file}`, '--lease-duration=6']);
      await stage.makeClusters([NAME]);
      await stage.api.create(topology(FILE));
      await stage.govern(NAME, {
        queueType: 'Mirrored',
        messagingTopology: { configMapRef: { name: 'shop' } },
      });
      const { uid = '' } = (await stage.api.read(clusterRef(NAME))).metadata;
      before = { uid, credentials: await stage.credentials(NAME) };
      await fill();
      lines = [];
      const args = ['get', 'rabbitmqs', '--namespace', NAMESPACE, '--watch'];
      watch = new Child('kubectl', join(stage.cluster.tools.controlPlane.folder, 'kubectl'), args, {
        env: { KUBECONFIG: stage.cluster.kubeconfig, KUBECACHEDIR: join(stage.cluster.folder, 'fresh') },
        onLine: (line) => lines.push(line.replaceAll(/ +/g, ' ')),
      });
      await watch.waitFor('the first line', 30_000, ({ length }) => (length > 1 ? length : undefined));
    });
    afterAll(async () => {
      await watch?.stop();
      await stage?.stop();
      await model?.close();
      await events?.stop();
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    });

    it('goes through its phases, one line of kubectl each, to the new version with the proxy', async () => {
      await stage.annotate(NAME, { [ANNOTATION.targetVersion]: TO });
      const { spec, status, metadata } = await stage.upgraded(NAME, TO, 150_000);
      expect(spec).toMatchObject({ targetVersion: TO, queueType: 'Quorum' });
      expect(metadata.annotations ?? {}).not.toHaveProperty([ANNOTATION.targetVersion]);
      expect(status).toMatchObject({
        currentVersion: TO,
        queueType: 'Quorum',
        wipeReason: '',
        proxyRequired: true,
        lastUpgrade: {
          sequence: 1,
          from: FROM,
          to: TO,
          clusterUid: before.uid,
          backup: { messages: 0, queues: 0 },
        },
      });
      expect(status).not.toHaveProperty('upgrade');
      const story = lines
        .map((line) => line.replace(/ \S+ *$/, ''))
        .filter((line, i, all) => line !== all[i - 1]);
      expect(story[0]).toBe('NAME VERSION TARGET PHASE PROXY CLIENTS');
      const phases = ['DeletingResources', 'WaitingForPods', 'WaitingForCluster'];
      expect(story).toEqual(
        expect.arrayContaining([
          `${NAME} ${FROM} false`,
          ...phases.map((phase) => `${NAME} ${FROM} ${TO} ${phase} true`),
          expect.stringMatching(new RegExp(`^${NAME} ${TO} ${TO} true`)),
        ]),
      );
      const order = phases.map((phase) => story.findIndex((line) => line.includes(phase)));
      expect(order).toEqual(order.toSorted((a, b) => a - b));
      // RabbitmqCluster has the category of this name, too.
      const both = await stage.cluster.kubectl([
        'get',
        'rabbitmq',
        '-n',
        NAMESPACE,
        `--cache-dir=${stage.cluster.folder}/fresh`,
      ]);
      expect(both).toMatch(new RegExp(`^rabbitmq.rabbitmq.openstack.org/${NAME} +${TO} +${TO} +true`, 'm'));
    });

    it('says so in conditions and Events', async () => {
      const { status } = await stage.read(NAME);
      const conditions = status!.conditions!.map(({ type, status: is, reason }) =>
        [type, is, reason].join(' '),
      );
      expect(conditions.sort()).toEqual([
        'CredentialsPreserved True Restored',
        'DefinitionsPreserved True Restored',
        'Degraded False AsExpected',
        'ProxyActive True Required',
        'ProxyRemovable False NotKnown',
        'Ready True ClusterReady',
        'TopologyApplied True Applied',
        'UpgradeAllowed True GatesPassed',
        'Upgrading False NoUpgrade',
      ]);
      const told = (await stage.events(NAME)).map(({ type, reason, note }) =>
        type === 'Normal' ? reason : `${reason}: ${note}`,
      );
      expect(told.sort()).toEqual([
        'ClusterCreated',
        'ClusterDeleted',
        'CredentialsRestored',
        'DefinitionsRestored',
        'ProxyEnabled',
        'ResourcesSaved',
        'StorageWipeComplete',
        'TopologyApplied',
        'UpgradeComplete',
        'UpgradeStarted',
        'VersionDetected',
      ]);
    });

    it('lets the old credentials in, the default user’s and others, and has the definitions', async () => {
      expect(await stage.credentials(NAME)).toEqual(before.credentials);
      const alice = { username: 'alice', password: PASSWORD };
      expect(await manage<Listed>('GET', 'whoami', undefined, alice)).toMatchObject({ name: 'alice' });
      const { rabbitmq_version: version } = await manage<{ rabbitmq_version: string }>('GET', 'overview');
      expect(version).toMatch(/^4\.0\./);
      expect(await manage<Listed>('GET', 'queues/nova/orders')).toMatchObject({
        type: 'quorum',
        durable: true,
      });
      expect(await manage<Listed>('GET', 'exchanges/nova/topics')).toMatchObject({ type: 'topic' });
      expect(await manage<Listed[]>('GET', 'bindings/nova/e/topics/q/orders')).toMatchObject([
        { routing_key: 'a.#' },
      ]);
      const policies = await manage<Listed[]>('GET', 'policies/nova');
      expect(policies).toMatchObject([{ name: 'limits', definition: { 'max-length': 7 } }]);
      expect(JSON.stringify(policies)).not.toContain('ha-mode');
    });

    it('has published each phase once, in its order, and publishes where it is once more behind a restart', async () => {
      const { uid = '' } = (await stage.read(NAME)).metadata;
      const phases = ['DeletingResources', 'WaitingForPods', 'WaitingForCluster', 'Complete'];
      const found = await eventsSoFar();
      expect(found.map(({ id }) => id)).toEqual(phases.map((phase) => `${uid}.1.${phase}`));
      expect(found.map(({ key }) => key)).toEqual(phases.map((phase) => `${NAMESPACE}.${NAME}.${phase}`));
      const { lastUpgrade } = (await stage.read(NAME)).status!;
      const about = { namespace: NAMESPACE, name: NAME, uid, sequence: 1, from: FROM, to: TO };
      const since = lastUpgrade!['finishedAt'];
      expect(found.at(-1)!.event).toEqual({ ...about, phase: 'Complete', reason: 'VersionUpgrade', since });
      reconciler.crash();
      const again = await stage.eventually('the event', async () => {
        const now = await eventsSoFar();
        return now.length > 0 && now;
      });
      expect(again).toEqual([found.at(-1)]);
    });

    it('has declared the messaging topology, and declares it again when its ConfigMap changes, as far as it can', async () => {
      expect(await manage<Listed>('GET', 'queues/%2F/letters')).toMatchObject({ type: 'quorum' });
      const says = (): Promise<string> =>
        stage.read(NAME).then(({ status }) => {
          const found = status!.conditions!.find(({ type }) => type === 'TopologyApplied')!;
          return `${found.status} ${found.reason} ${found.message}`;
        });
      expect(await says()).toBe(
        'True Applied shop/messaging.yaml is declared: 6 of 6 exchanges, queues and bindings were made',
      );
      /** A change of the RabbitMq has it looked at sooner than in 30 s. */
      const change = async (text: string): Promise<void> => {
        await stage.api.patch(topology(''), topology(text));
        await stage.annotate(NAME, { 'example.com/file': text });
      };
      await change('exchanges: [{ name: shop, kind: fanout }, { name: never }]');
      await stage.untilCondition(NAME, 'TopologyApplied', 'Conflict');
      expect(await says()).toContain('exchange "shop": type: the file has fanout, the broker has topic');
      await expect(manage('GET', 'exchanges/%2F/never')).rejects.toThrow('404');
      await change('vhost: nova\nexchanges: [{ name: topics }]');
      await stage.untilCondition(NAME, 'TopologyApplied', 'Applied');
      expect(await says()).toContain(': 0 of 1 ');
      expect(await manage<Listed>('GET', 'queues/%2F/letters')).toMatchObject({ type: 'quorum' });
    });

    it('made the cluster once, from empty storage, with the proxy beside RabbitMQ', async () => {
      const { metadata, spec } = await stage.api.read<KubeObject & { spec: Record<string, unknown> }>(
        clusterRef(NAME),
      );
      expect(metadata.uid).not.toBe(before.uid);
      expect(metadata.annotations).toMatchObject({
        [UPGRADE_ANNOTATION.stamp]: '1',
        [ANNOTATION.inject]: 'true',
      });
      expect(metadata.annotations).not.toHaveProperty([UPGRADE_ANNOTATION.storageWipeNeeded]);
      expect(spec).toMatchObject({
        image: `rabbitmq:${TO}-management`,
        replicas: 1,
        terminationGracePeriodSeconds: 1,
      });
      const { template } = (await stage.api.read<StatefulSet>(setRef)).spec;
      expect(namesOf(template.spec.initContainers)[0]).toBe(WIPE_CONTAINER);
      expect(namesOf(template.spec.containers)).toEqual(['rabbitmq', PROXY_CONTAINER]);
      expect(await stage.did('delete', 'rabbitmqclusters', NAME, 200)).toBe(1);
      expect(await stage.did('create', 'rabbitmqclusters', NAME, 201)).toBe(1);
    });

    it('is over for good when clients are reconfigured: the proxy leaves, and the definitions stay', async () => {
      await stage.annotate(NAME, { [ANNOTATION.clientsReconfigured]: 'true' });
      const { status } = await stage.until(
        NAME,
        'needs no proxy',
        ({ conditions }, { metadata }) =>
          metadata.annotations?.[ANNOTATION.clientsReconfigured] === undefined &&
          conditions?.find(({ type }) => type === 'ProxyActive')?.reason === 'NotRequired',
        90_000,
      );
      expect(status).toMatchObject({ proxyRequired: false, currentVersion: TO });
      expect(JSON.stringify(await stage.api.read(clusterRef(NAME)))).not.toContain(PROXY_CONTAINER);
      const { template } = (await stage.api.read<StatefulSet>(setRef)).spec;
      expect(namesOf(template.spec.containers)).toEqual(['rabbitmq']);
      await stage.untilCondition(NAME, 'Ready', 'ClusterReady', 90_000);
      const orders = await outlasting(() => manage<Listed>('GET', 'queues/nova/orders'));
      expect(orders).toMatchObject({ type: 'quorum' });
      const reasons = (await stage.events(NAME)).map(({ reason }) => reason);
      expect(reasons).toEqual(expect.arrayContaining(['ProxyNotRequired', 'ProxyRemoved']));
    });

    it('was made with the rights of the manifests, and nothing secret was said', async () => {
      const audited = await stage.audited();
      expect(audited.length).toBeGreaterThan(50);
      expect(audited.filter(({ responseStatus }) => responseStatus?.code === 403)).toEqual([]);
      const users = await outlasting(() => manage<{ password_hash: string }[]>('GET', 'users'));
      const hashes = users.map(({ password_hash: hash }) => hash);
      expect(hashes).toHaveLength(2);
      const said = `${stage.said}${await stage.told(NAME)}`;
      for (const secret of [PASSWORD, before.credentials.password, ...hashes])
        expect(said).not.toContain(secret);
      expect(reconciler.log.filter(({ level }) => level === 'error' || level === 'fatal')).toEqual([]);
      expect(await stage.api.find(rabbitMqRef(NAME))).toBeDefined();
    });
  },
);
