// What 3.10 has is brought to 4.0 and 4.3: exported, translated, imported and compared, and then used by old and new clients.
import { once } from 'node:events';
import { createConnection, createServer } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { type ChannelModel, connect } from 'amqplib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createBroker } from '../../reconciler/broker/access.ts';
import { compareDefinitions } from '../../reconciler/broker/compare.ts';
import { type ExportedDefinitions, exportDefinitions } from '../../reconciler/broker/definitions.ts';
import { parseExact } from '../../reconciler/broker/exact-json.ts';
import { importDefinitions } from '../../reconciler/broker/import.ts';
import { inventoryOf, observeBroker } from '../../reconciler/broker/inventory.ts';
import { idOf, nameOf } from '../../reconciler/broker/kinds.ts';
import { type Management, connectManagement } from '../../reconciler/broker/management.ts';
import { reportOf, settledOutcomes } from '../../reconciler/broker/report.ts';
import { type Translation, translateDefinitions } from '../../reconciler/broker/translate.ts';
import type { ObservedPod } from '../../reconciler/types.ts';
import type { JsonObject } from '../../common/kube/types.ts';
import { parseVersion } from '../../common/version.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import {
  EXCHANGES,
  PASSWORDS,
  QUEUES,
  SHOVEL_PASSWORD,
  fillBroker,
  leaveMessages,
} from '../support/filled-broker.ts';
import { startTestProxy, type TestProxy } from '../support/peers.ts';
import { counted } from '../support/proxied-broker.ts';

const signal = AbortSignal.timeout(600_000);

function managementOf(broker: Broker, username = 'guest', password = 'guest'): Management {
  return connectManagement({
    endpoints: [{ pod: 'rabbit-server-0', url: broker.managementUrl }],
    credentials: { username, password },
    credentialsFrom: 'Secret ns/rabbit-default-user',
    timeoutMs: 10_000,
  });
}

/** Hands connections to an address that a pod could have on to a port of loopback. */
async function relayTo(
  host: string,
  port: number,
  target: number,
): Promise<AsyncDisposable & { host: string }> {
  const server = createServer((socket) => {
    const behind = createConnection(target, '127.0.0.1');
    pipeline(socket, behind, socket).catch(() => {});
  });
  server.listen(port, host);
  await once(server, 'listening');
  return { host, [Symbol.asyncDispose]: async () => void server.close() };
}

function pod(name: string, ip: string | undefined): ObservedPod {
  const facts = { isReady: true, deleting: undefined, hasSkipLabel: false, hasProxy: true };
  return { name, uid: name, ip, ...facts };
}

await describeBrokers(
  ['4.0', '4.3'],
  (version) => {
    let old: Broker;
    let broker: Broker;
    let proxy: TestProxy;
    let client: AsyncDisposable;
    let exported: ExportedDefinitions;

    beforeAll(async () => {
      [old, broker] = await Promise.all([
        startBroker('3.10', { plugins: ['rabbitmq_shovel'] }),
        startBroker(version),
      ]);
      await fillBroker(old);
      client = await leaveMessages(old);
      exported = await exportDefinitions(managementOf(old), signal);
      proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    });
    afterAll(async () => {
      await client?.[Symbol.asyncDispose]();
      await proxy?.[Symbol.asyncDispose]();
      await old?.stop();
      await broker?.stop();
    });

    const translated = async (form: 'quorum' | 'classic' = 'quorum'): Promise<Translation> => {
      const target = parseVersion((await managementOf(broker).overview(signal)).version)!;
      return translateDefinitions(parseExact(exported.text) as JsonObject, { form, target });
    };

    /** Declares the queues and exchanges of a virtual host, each on a channel of its own; names those that are refused. */
    async function refusedDeclares(port: number, queues: typeof QUEUES, exchanges: typeof EXCHANGES) {
      const refused: string[] = [];
      const models = new Map<string, ChannelModel>();
      const attempt = async (
        vhost: string,
        what: string,
        declare: (channel: Awaited<ReturnType<ChannelModel['createChannel']>>) => Promise<unknown>,
      ): Promise<void> => {
        const known = models.get(vhost);
        const model =
          known ?? (await connect(`amqp://guest:guest@127.0.0.1:${port}/${encodeURIComponent(vhost)}`));
        models.set(vhost, model);
        const channel = await model.createChannel();
        channel.on('error', () => {});
        try {
          await declare(channel);
          await channel.close();
        } catch (error) {
          refused.push(`${what}: ${(error as Error).message}`);
        }
      };
      for (const { vhost, name, arguments: args, ...flags } of queues) {
        await attempt(vhost, name, (channel) => channel.assertQueue(name, { ...flags, arguments: args }));
      }
      for (const { vhost, name, type, arguments: args, ...flags } of exchanges) {
        await attempt(vhost, name, (channel) =>
          channel.assertExchange(name, type, { ...flags, arguments: args }),
        );
      }
      for (const model of models.values()) await model.close();
      return refused;
    }

    it('exports everything, and what 3.10 keeps to itself about virtual hosts', () => {
      const definitions = parseExact(exported.text) as Record<string, JsonObject[]>;
      expect(exported.brokerVersion).toMatch(/^3\.10\./);
      expect(exported.counts.queues).toBe(QUEUES.length + 1);
      expect(exported.counts.exchanges).toBe(EXCHANGES.length);
      expect(definitions['vhosts']).toContainEqual({
        name: 'a/b',
        metadata: { description: 'of a/b', tags: ['x', 'y'] },
      });
      expect(exported.sha256).toMatch(/^[0-9a-f]{64}$/);
      expect(exported.text).not.toContain('"exclusive"');
    });

    it('counts what a wipe loses, and nothing that a restart loses', async () => {
      await expect
        .poll(async () => inventoryOf(await managementOf(old).queues(signal)), { timeout: 20_000 })
        .toEqual({
          holding: [
            { vhost: '/', name: 'plain', messages: 2 },
            { vhost: '/', name: 'quorum', messages: 2 },
            { vhost: '/', name: 'stream', messages: 1 },
          ],
          messages: 5,
        });
      expect(await observeBroker(managementOf(old), signal)).toMatchObject({
        state: 'known',
        version: expect.stringMatching(/^3\.10\./),
        running: 1,
        nodes: 1,
        messages: 5,
        queues: 3,
      });
    });

    it('brings back all but what the broker has no plugin for, and says so without its password', async () => {
      const management = managementOf(broker);
      const { definitions, outcomes } = await translated();
      const refusals = await importDefinitions(management, definitions, signal);
      expect(refusals.map(({ definition }) => nameOf(definition))).toEqual(['shovel away']);
      const differences = await compareDefinitions(management, definitions, signal);
      expect(differences).toEqual([{ definition: refusals[0]!.definition, fields: undefined }]);
      const report = reportOf(settledOutcomes(outcomes, refusals, differences));
      expect(report.counts).toMatchObject({ refused: 1, different: 0, missing: 0 });
      expect(JSON.stringify(report)).not.toContain(SHOVEL_PASSWORD);
      const dropped = report.groups.filter(({ result }) => result === 'dropped');
      expect(dropped.map(({ kind, count }) => ({ kind, count }))).toEqual([
        { kind: 'global_parameters', count: 1 },
        { kind: 'policies', count: 1 },
        { kind: 'queues', count: 1 },
        { kind: 'bindings', count: 1 },
      ]);
    });

    it('lets users in with the passwords that they had', async () => {
      for (const [username, password] of Object.entries(PASSWORDS)) {
        const model = await connect({ hostname: '127.0.0.1', port: broker.port, username, password });
        await model.close();
      }
      await expect(managementOf(broker, 'alice', 'wrong').whoami(signal)).rejects.toThrow(
        /answered 401 to GET \/api\/whoami: the credentials of Secret ns\/rabbit-default-user are not accepted/,
      );
      await expect(exportDefinitions(managementOf(broker, 'monitor', 'm'), signal)).rejects.toThrow(
        'definitions cannot be exported: user monitor has to have the tag administrator',
      );
    });

    it('is what old clients declare, by way of the proxy, and nothing had to be forgiven them', async () => {
      expect(await refusedDeclares(proxy.port, QUEUES, EXCHANGES)).toEqual([]);
      const changes = (change: string) =>
        counted(proxy, `quorumbridge_proxy_meaning_changes_total{change="${change}"}`);
      expect(await changes('existing')).toBe(0);
      expect(await changes('auto-delete')).toBe(QUEUES.filter(({ autoDelete }) => autoDelete).length);
    });

    it('is what reconfigured clients declare, without the proxy', async () => {
      const { definitions } = (await translated()) as unknown as {
        definitions: Record<string, (typeof QUEUES & typeof EXCHANGES)[number][]>;
      };
      const flagged = (objects: JsonObject[]) =>
        objects.map((object) => ({ ...object, autoDelete: object['auto_delete'] === true }));
      const queues = flagged(definitions['queues'] as unknown as JsonObject[]) as unknown as typeof QUEUES;
      const exchanges = flagged(
        definitions['exchanges'] as unknown as JsonObject[],
      ) as unknown as typeof EXCHANGES;
      expect(queues).toHaveLength(QUEUES.length);
      expect(await refusedDeclares(broker.port, queues, exchanges)).toEqual([]);
    });

    it('changes nothing when it is done again', async () => {
      const management = managementOf(broker);
      const { definitions } = await translated();
      const refusals = await importDefinitions(management, definitions, signal);
      const differences = await compareDefinitions(management, definitions, signal);
      expect(differences.map(({ definition }) => definition)).toEqual(
        refusals.map(({ definition }) => definition),
      );
    });

    it('is exported from the new broker as it was brought in', async () => {
      const { definitions } = await translated();
      const again = parseExact((await exportDefinitions(managementOf(broker), signal)).text) as JsonObject;
      for (const kind of ['queues', 'exchanges', 'bindings', 'users', 'vhosts'] as const) {
        const ids = (from: JsonObject) =>
          (from[kind] as JsonObject[]).map((object) => idOf({ kind, object })).sort();
        expect(ids(again)).toEqual(ids(definitions));
      }
    });

    it('is brought back as the reconciler does it: by the addresses of pods and a Secret', async () => {
      await using relay = await relayTo('127.77.7.1', 15_672, broker.managementPort);
      const pods = [pod('rabbit-server-0', undefined), pod('rabbit-server-1', relay.host)];
      const access = createBroker({ get: () => Promise.reject(new Error('no Secret is needed')) });
      const cluster = {
        apiVersion: 'rabbitmq.com/v1beta1',
        kind: 'RabbitmqCluster',
        metadata: { namespace: 'ns', name: 'rabbit' },
        spec: {},
      };
      const secret = {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { namespace: 'ns', name: 'rabbit-default-user' },
        data: { username: btoa('guest'), password: btoa('guest') },
      };
      expect(await access.observe(cluster, pods, secret, signal)).toMatchObject({ state: 'known', nodes: 1 });
      const saved = { definitions: parseExact(exported.text) as JsonObject };
      const back = await access.bringBack({ cluster, pods, secret, saved, queueType: 'Quorum' }, signal);
      expect(back.counts).toMatchObject({ dropped: 4, refused: 1 });
      expect(back.firstRefused).toBe('shovel away of parameters of virtual host /: the broker refuses it');
      const again = await access.export(cluster, pods, secret, signal);
      expect(again.definitions.counts.queues).toBe(QUEUES.length);
      // A queue counts as one that may hold something until the broker has counted.
      await expect
        .poll(async () => (await access.export(cluster, pods, secret, signal)).inventory, { timeout: 20_000 })
        .toEqual({ holding: [], messages: 0 });
    });

    describe('with spec.queueType None', () => {
      it('keeps classic queues classic, and durable', async () => {
        const management = managementOf(broker);
        await broker.replace({});
        const { definitions } = await translated('classic');
        const refusals = await importDefinitions(management, definitions, signal);
        expect(refusals.map(({ definition }) => nameOf(definition))).toEqual(['shovel away']);
        const differences = await compareDefinitions(management, definitions, signal);
        expect(differences.map(({ definition }) => nameOf(definition))).toEqual(['shovel away']);
        const types = (await management.queues(signal)).map(({ type }) => type).sort();
        expect(types.filter((type) => type === 'classic')).toHaveLength(QUEUES.length - 3);
      });
    });
  },
  ['3.10'],
);
