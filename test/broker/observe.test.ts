// Mode observe in front of the old broker: clients work as they do directly, and the report says what breaks on RabbitMQ 4.
import amqplib from 'amqplib';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { Finding, Report, ReportClient } from '../../cli/report/judge.ts';
import { runClient, startBroker, startClient } from '../support/broker.ts';
import type { Broker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { Child, HOME } from '../support/processes.ts';
import { startProxyProcess } from '../support/service.ts';
import type { ProxyProcess } from '../support/service.ts';

const START_MS = 30_000;

function programOf(name: string): string {
  return join(HOME, `test/broker/${name}.py`);
}

await describeBrokers(
  ['3.10'],
  (version) => {
    let broker: Broker;
    let proxy: ProxyProcess;
    beforeAll(async () => {
      broker = await startBroker(version);
      proxy = await startProxyProcess(broker.port, ['--mode=observe', '--stats-interval=1']);
    });
    afterAll(async () => {
      await proxy?.stop();
      await broker?.stop();
    });

    /** `quorumbridge report` on the proxy: its exit code and what it printed. */
    async function report(...args: string[]): Promise<{ code: number | null; text: string }> {
      const lines: string[] = [];
      const from = `--from=${proxy.adminUrl}`;
      const child = new Child('report', process.execPath, ['cli/quorumbridge.mjs', 'report', from, ...args], {
        onLine: (line) => lines.push(line),
      });
      const { code } = await child.exited;
      return { code, text: lines.join('\n') };
    }

    async function clientsOn(
      target: string,
    ): Promise<{ code: number | null; clients: readonly ReportClient[] }> {
      const { code, text } = await report(`--target=${target}`, '--json');
      return { code, clients: (JSON.parse(text) as Report).clients };
    }

    /** What is said of the clients of a product, by usage. */
    function findingsOf(
      clients: readonly ReportClient[],
      product: string,
      name?: string,
    ): Map<string, Finding> {
      const found = clients.filter(
        (client) => client.product === product && (name === undefined || client.connectionName === name),
      );
      expect(found.length).toBeGreaterThan(0);
      return new Map(found.flatMap(({ findings }) => findings.map((finding) => [finding.usage, finding])));
    }

    it('a report before any client came says that nobody was seen, and breaks nothing', async () => {
      const { code, text } = await report('--target=4.3');
      expect(code).toBe(0);
      expect(text).toContain('No client was seen, so nothing is known.');
      expect(text).toContain('has watched for less than a minute');
    });

    it('oslo.messaging calls, casts and notifies as directly, on queues as it declares them', async () => {
      const args = [String(proxy.port), '', 'one'];
      const lines: string[] = [];
      const servers = startClient('oslo', programOf('oslo_server'), args, (line) => lines.push(line));
      let queues;
      try {
        await servers.waitFor('start', START_MS, () => (lines.includes('started') ? true : undefined));
        const answers = await runClient('oslo', programOf('oslo_client'), args);
        expect(JSON.parse(answers.split('\n')[0]!)).toEqual(
          Array.from({ length: 20 }, (_, number) => number + 1),
        );
        queues = await broker.management.queues();
      } finally {
        servers.end();
        await servers.exited;
      }
      expect(lines.filter((line) => /\b(ERROR|CRITICAL|Traceback)\b/.test(line))).toEqual([]);
      expect(lines).toContain('stopped');
      expect(queues.map(({ name }) => name)).toEqual(expect.arrayContaining(['compute', 'compute.first']));
      for (const queue of queues)
        expect(queue).toMatchObject({
          type: 'classic',
          durable: false,
          auto_delete: false,
          exclusive: false,
        });
      expect(await broker.management.exchange('openstack')).toMatchObject({ durable: false });
    });

    it('pika and kombu work as directly', async () => {
      expect(
        await runClient('pika', programOf('pika_acceptance'), [String(proxy.port), 'seen', '50']),
      ).toContain('received 50');
      const counts = await runClient('kombu', programOf('kombu_client'), [String(proxy.port), '', '50']);
      expect(JSON.parse(counts)).toEqual({ 'simple-queue': 50, 'simple-buffer': 50, topic: 50 });
    });

    it('amqplib with a small frame_max works as directly, large messages included', async () => {
      const connection = await amqplib.connect(`amqp://guest:guest@127.0.0.1:${proxy.port}/?frameMax=4096`, {
        clientProperties: { connection_name: 'small' },
      });
      try {
        const channel = await connection.createChannel();
        await channel.prefetch(5, true);
        const { queue } = await channel.assertQueue('', { exclusive: true, maxPriority: 5 });
        const body = Buffer.alloc(100_000, 'x');
        const got = new Promise<Buffer>((resolve) => {
          void channel.consume(queue, (message) => resolve(message!.content), { noAck: true });
        });
        channel.sendToQueue(queue, body);
        expect((await got).equals(body)).toBe(true);
      } finally {
        await connection.close();
      }
    });

    it('a client that declares quorum queues and durable exchanges only is let be', async () => {
      const connection = await amqplib.connect(`amqp://guest:guest@127.0.0.1:${proxy.port}/`, {
        clientProperties: { connection_name: 'ready' },
      });
      const channel = await connection.createChannel();
      await channel.assertQueue('orders', {
        arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 10 },
      });
      await channel.assertExchange('shop', 'topic');
      await channel.bindQueue('orders', 'shop', '#');
      await connection.close();
      const { clients } = await clientsOn('4.3');
      expect(findingsOf(clients, 'amqplib', 'ready')).toEqual(new Map());
      expect(clients.find(({ connectionName }) => connectionName === 'ready')).toMatchObject({
        effect: 'fine',
      });
    });

    it('the report for 4.3 says of each what breaks, and ends with 1', async () => {
      const { code, clients } = await clientsOn('4.3');
      expect(code).toBe(1);
      expect(clients.map(({ effect }) => effect)).toEqual(clients.map(({ effect }) => effect).sort());

      const oslo = clients.filter(({ library }) => library === 'oslo.messaging');
      expect(new Set(oslo.map(({ connectionName }) => connectionName))).toEqual(
        new Set(['oslo_client.py:*:*', 'oslo_server.py:*:*']),
      );
      for (const client of oslo) {
        expect(client).toMatchObject({
          product: 'py-amqp',
          version: '5.1.1',
          user: 'guest',
          effect: 'breaks',
        });
        const [transient] = client.findings;
        expect(transient).toMatchObject({ usage: 'transient-queue', effect: 'breaks', source: 'measured' });
        expect(transient!.what).toContain('541 INTERNAL_ERROR - Feature `transient_nonexcl_queues`');
        expect(transient!.libraryFix).toContain('rabbit_transient_quorum_queue=true');
        expect(client.findings.map(({ usage }) => usage)).toContain('transient-exchange');
      }

      const pika = findingsOf(clients, 'Pika Python Client Library');
      expect(pika.get('transient-queue')).toMatchObject({
        effect: 'breaks',
        count: 1,
        example: "queue 'seen-queue' (transient, auto-delete)",
        libraryFix: expect.stringContaining('queue_declare('),
      });
      expect(pika.get('transient-exchange')).toMatchObject({ effect: 'changes' });

      const kombu = clients.filter(({ library }) => library === 'kombu (py-amqp)');
      expect(kombu.map(({ effect, findings }) => [effect, findings.map(({ usage }) => usage)])).toEqual([
        ['breaks', ['transient-queue', 'auto-delete-queue', 'durable-classic-queue', 'transient-exchange']],
      ]);

      const small = findingsOf(clients, 'amqplib', 'small');
      expect(small.get('small-frame-max')).toMatchObject({
        effect: 'breaks',
        example: 'frame_max 4096',
        libraryFix: expect.stringContaining('0.10.7'),
      });
      expect(small.get('global-qos')).toMatchObject({ effect: 'changes' });
      expect(small.get('max-priority')).toMatchObject({ effect: 'fine' });
    });

    it('nothing breaks yet on 4.0, and only the small frame_max on 4.1', async () => {
      expect((await clientsOn('4.0')).code).toBe(0);
      const { code, clients } = await clientsOn('4.1');
      expect(code).toBe(1);
      const breaking = clients.filter(({ effect }) => effect === 'breaks');
      expect(breaking.map(({ connectionName }) => connectionName)).toEqual(['small']);
    });

    it('the proxy rewrote nothing, and its log says that clients would need it', async () => {
      const response = await fetch(`${proxy.adminUrl}/metrics`);
      const rewrites = (await response.text()).split('\n').filter((line) => /_rewrites_total\{/.test(line));
      expect(rewrites.length).toBeGreaterThan(0);
      expect(rewrites.filter((line) => !line.endsWith(' 0'))).toEqual([]);
      const answer = await (await fetch(`${proxy.adminUrl}/clients`)).text();
      expect(JSON.parse(answer)).toMatchObject({
        mode: 'observe',
        broker: { version: '3.10.8' },
        evicted: 0,
      });
      // It says so once a second.
      await vi.waitFor(() => expect(proxy.log()).toMatch(/"clients":"[^"]*RabbitMQ 4 refuses/), 10_000);
    });
  },
  ['kombu', 'oslo', 'pika'],
);
