// Rules by name against real brokers: what a rules file and the preset for Celery make of queues, and what they do then.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Channel, type ChannelModel, connect } from 'amqplib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Broker, runClient, startBroker, startClient } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { startTestProxy, type TestProxy } from '../support/peers.ts';
import { HOME } from '../support/processes.ts';
import { type ProxyProcess, startProxyProcess } from '../support/service.ts';

const RULES = `
rules:
  - match: {queue: "jobs.*"}
    action: classic-durable
  - match: {queue: "left.*"}
    action: leave
  - match: {exchange: "left.*"}
    action: leave
  - match: {queue: "endless.*", broker: ">=4.0"}
    action: quorum
    arguments:
      set: {x-delivery-limit: -1}
  - match: {queue: "mine", user: "gu?st", vhost: "/other"}
    action: classic-durable
  - match: {queue: "mine", user: "somebody else"}
    action: leave
  - match: {queue: "ledger"}
    action: quorum
    expires: 2h
    arguments:
      set: {x-single-active-consumer: true}
      remove: x-max-length
`;

/** More than the 20 deliveries that quorum queues of RabbitMQ 4 allow by themselves. */
const REQUEUES = 30;

const POLICIES = [
  ...readFileSync(join(HOME, 'docs/rules.md'), 'utf8').matchAll(/^ *rabbitmqctl (set_policy .*)$/gm),
].map((line) => line[1]!.split(/\s+(?=(?:[^']*'[^']*')*[^']*$)/).map((word) => word.replaceAll("'", '')));

await describeBrokers(
  ['4.0', '4.3'],
  (version) => {
    let folder: string;
    let broker: Broker;
    let proxy: TestProxy;
    const clients: ChannelModel[] = [];
    /** What ended connections of a test's clients. */
    const errors: string[] = [];

    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'quorumbridge-policy-'));
      const rules = join(folder, 'rules.yaml');
      writeFileSync(rules, RULES);
      broker = await startBroker(version);
      proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, rules });
    });
    afterEach(async () => {
      errors.length = 0;
      for (const client of clients.splice(0)) await client.close().catch(() => {});
    });
    afterAll(async () => {
      await proxy?.[Symbol.asyncDispose]();
      await broker?.stop();
      rmSync(folder, { recursive: true });
    });

    async function openChannel(port = proxy.port, vhost = '/'): Promise<Channel> {
      const client = await connect(`amqp://guest:guest@127.0.0.1:${port}/${encodeURIComponent(vhost)}`);
      client.on('error', (error: Error) => errors.push(error.message));
      clients.push(client);
      const channel = await client.createConfirmChannel();
      channel.on('error', () => {});
      return channel;
    }

    async function publish(channel: Channel, queue: string, text: string, priority?: number): Promise<void> {
      channel.sendToQueue(queue, Buffer.from(text), priority === undefined ? {} : { priority });
      await (channel as Channel & { waitForConfirms(): Promise<void> }).waitForConfirms();
    }

    /** Takes the queue's one message and puts it back, again and again. @returns how often it was there */
    async function requeues(channel: Channel, queue: string): Promise<number> {
      await publish(channel, queue, 'again');
      return new Promise((resolve, reject) => {
        let times = 0;
        let quiet: NodeJS.Timeout | undefined;
        const consumer = channel.consume(queue, (message) => {
          if (message === null) return;
          times++;
          clearTimeout(quiet);
          channel.reject(message, times <= REQUEUES);
          quiet = setTimeout(() => resolve(times), 2000);
        });
        consumer.catch(reject);
      });
    }

    describe('classic-durable', () => {
      it('keeps the order of priorities, and an auto-delete queue goes with its last consumer', async () => {
        const channel = await openChannel();
        const declare = { durable: false, autoDelete: true, maxPriority: 10 };
        await channel.assertQueue('jobs.1', declare);
        expect(await broker.management.queue('jobs.1')).toMatchObject({
          type: 'classic',
          durable: true,
          auto_delete: true,
          arguments: { 'x-max-priority': 10, 'x-queue-type': 'classic' },
        });
        for (const priority of [0, 9, 4, 5, undefined, 1])
          await publish(channel, 'jobs.1', String(priority ?? 'none'), priority);
        const order: string[] = [];
        const all = new Promise<string>((resolve) => {
          void channel.consume(
            'jobs.1',
            (message) => {
              if (order.push(message!.content.toString()) === 6) resolve(message!.fields.consumerTag);
            },
            { noAck: true },
          );
        });
        const tag = await all;
        expect(order).toEqual(['9', '5', '4', '1', '0', 'none']);
        await (await openChannel()).assertQueue('jobs.1', { ...declare, durable: true });
        await channel.cancel(tag);
        await expect(channel.checkQueue('jobs.1')).rejects.toThrow('NOT_FOUND');
      });

      it('takes clients that declare the name auto-delete or not, and uses the queue of the first', async () => {
        const channel = await openChannel();
        await channel.assertQueue('jobs.2', { durable: false, autoDelete: true });
        await channel.assertQueue('jobs.2', { durable: true });
        expect(await broker.management.queue('jobs.2')).toMatchObject({ type: 'classic', auto_delete: true });
      });
    });

    describe('leave', () => {
      it('leaves a queue and an exchange what the client says', async () => {
        const channel = await openChannel();
        await channel.assertQueue('left.durable', { durable: true, maxPriority: 3 });
        expect(await broker.management.queue('left.durable')).toMatchObject({
          type: 'classic',
          arguments: { 'x-max-priority': 3 },
        });
        await channel.assertExchange('left.topic', 'topic', { durable: false });
        expect(await broker.management.exchange('left.topic')).toMatchObject({ durable: false });
      });

      it('leaves it to RabbitMQ to refuse a transient queue', async () => {
        const channel = await openChannel();
        const declared = channel.assertQueue('left.transient', { durable: false });
        const taken = await declared.then(
          () => true,
          () => false,
        );
        expect(taken).toBe(version === '4.0');
        const refused = /INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated/;
        await expect.poll(() => errors.join('\n')).toMatch(taken ? /^$/ : refused);
      });
    });

    describe('x-delivery-limit', () => {
      it('-1 lets a message be requeued for ever, and without it it is dropped', async () => {
        const channel = await openChannel();
        for (const queue of ['endless.1', 'limited.1']) await channel.assertQueue(queue, { durable: false });
        expect(await broker.management.queue('endless.1')).toMatchObject({
          type: 'quorum',
          arguments: { 'x-delivery-limit': -1, 'x-queue-type': 'quorum' },
        });
        expect(await requeues(channel, 'endless.1')).toBe(REQUEUES + 1);
        expect(await requeues(await openChannel(), 'limited.1')).toBe(21);
      });

      it('is not asked of a queue that exists without it: that is used, and the log says so', async () => {
        const direct = await openChannel(broker.port);
        await direct.assertQueue('endless.old', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
        const channel = await openChannel();
        await channel.assertQueue('endless.old', { durable: false });
        await publish(channel, 'endless.old', 'works');
        expect(JSON.stringify(proxy.log())).toContain(
          "inequivalent arg 'x-delivery-limit' for queue 'endless.old'",
        );
      });
    });

    it('a rule for a user in a virtual host is for its clients alone', async () => {
      await broker.ctl('add_vhost', '/other');
      await broker.ctl('set_permissions', '-p', '/other', 'guest', '.*', '.*', '.*');
      const types: string[] = [];
      for (const vhost of ['/', '/other']) {
        const channel = await openChannel(proxy.port, vhost);
        await channel.assertQueue('mine', { durable: false });
        types.push(await broker.ctl('list_queues', '-q', '-p', vhost, 'name', 'type'));
      }
      expect(types[0]).toMatch(/^mine\tquorum$/m);
      expect(types[1]).toMatch(/^mine\tclassic$/m);
    });

    it('x-single-active-consumer lets the second consumer wait for the first', async () => {
      const channel = await openChannel();
      await channel.assertQueue('ledger', { durable: false, maxLength: 1 });
      expect(await broker.management.queue('ledger')).toMatchObject({
        arguments: { 'x-single-active-consumer': true, 'x-expires': 7_200_000, 'x-queue-type': 'quorum' },
      });
      const got: string[] = [];
      const consume = (name: string): Promise<unknown> =>
        channel.consume('ledger', (message) => void got.push(`${name} ${message!.content.toString()}`), {
          noAck: true,
          consumerTag: name,
        });
      await consume('first');
      await consume('second');
      await publish(channel, 'ledger', '1');
      await publish(channel, 'ledger', '2');
      await expect.poll(() => got).toEqual(['first 1', 'first 2']);
      await channel.cancel('first');
      await publish(channel, 'ledger', '3');
      await expect.poll(() => got).toEqual(['first 1', 'first 2', 'second 3']);
    });

    it('the policies of docs/rules.md do the same without arguments', async () => {
      const channel = await openChannel();
      await channel.assertQueue('billing.1', { durable: false });
      expect(POLICIES.map(([, name]) => name)).toEqual(['unlimited', 'passing']);
      for (const words of POLICIES) await broker.ctl(...words);
      await channel.assertQueue('reply_1', { durable: false });
      expect((await broker.management.queue('reply_1')).arguments).toEqual({ 'x-queue-type': 'quorum' });
      const policies = await broker.ctl('list_queues', 'name', 'effective_policy_definition');
      expect(policies).toMatch(/^reply_1\b.*expires.*1800000/m);
      expect(await requeues(channel, 'billing.1')).toBe(REQUEUES + 1);
    });

    describe('the preset for Celery', () => {
      let celery: ProxyProcess;
      beforeAll(async () => {
        await broker.ctl('add_vhost', 'celery');
        await broker.ctl('set_permissions', '-p', 'celery', 'guest', '.*', '.*', '.*');
        celery = await startProxyProcess(broker.port, ['--preset=celery']);
      });
      afterAll(() => celery?.stop());

      /** Queues of the virtual host: name, type, durable, auto-delete. */
      async function queues(): Promise<string[]> {
        const table = await broker.ctl(
          'list_queues',
          '-q',
          '-p',
          'celery',
          'name',
          'type',
          'durable',
          'auto_delete',
        );
        const lines = table.split('\n').filter((line) => /\t/.test(line) && !line.startsWith('name\t'));
        const uuid = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;
        return lines.map((line) =>
          line
            .replaceAll(uuid, 'UUID')
            .replace(/^celery@[^\t]*\.celery/, 'celery@HOST.celery')
            .trim(),
        );
      }

      it('keeps the queues of a worker and its client classic, and they go with them', async () => {
        const lines: string[] = [];
        const program = (name: string): string => join(HOME, `test/broker/${name}.py`);
        const args = [String(celery.port), 'celery'];
        const worker = startClient('kombu', program('celery_worker'), args, (line) => lines.push(line));
        try {
          await worker.waitFor(
            'ready',
            30_000,
            () => lines.some((line) => line.includes(' ready.')) || undefined,
          );
          expect((await queues()).sort()).toEqual([
            'celery\tquorum\ttrue\tfalse',
            'celery@HOST.celery.pidbox\tclassic\ttrue\ttrue',
            'celeryev.UUID\tclassic\ttrue\ttrue',
          ]);
          expect(JSON.parse(await runClient('kombu', program('celery_client'), args))).toMatchObject({
            task: 5,
            retry: 1,
            ping: [{ ok: 'pong' }],
          });
        } finally {
          worker.end();
          const timer = setTimeout(() => worker.kill('SIGKILL'), 30_000);
          await worker.exited;
          clearTimeout(timer);
        }
        expect(lines.filter((line) => /\b(ERROR|CRITICAL|Traceback)\b/.test(line))).toEqual([]);
        await expect
          .poll(queues, { timeout: 20_000, interval: 500 })
          .toEqual(['celery\tquorum\ttrue\tfalse']);
      });
    });
  },
  ['kombu'],
);
