// Consuming, acknowledging and deleting: sections 5 and 6 of the table of what brokers answer to legacy clients.
import { describe, expect, it } from 'vitest';
import { basicConsume, entry, longstr, queueDeclare } from '../../support/amqp-frames.ts';
import {
  basicAck,
  basicCancel,
  basicNack,
  basicPublish,
  basicRecover,
  basicReject,
  channelClose,
  channelCloseOk,
  confirmSelect,
  prefetch,
  queueDelete,
} from '../../support/amqp-methods.ts';
import { describeBrokers } from '../../support/describe-brokers.ts';
import { counted, useProxiedBroker } from '../../support/proxied-broker.ts';
import { RawClient } from '../../support/raw-client.ts';

const DURABLE = 2;
const QUORUM = entry('x-queue-type', longstr('quorum'));
const IF_UNUSED = 1;
const IF_EMPTY = 2;

/** The vhost whose queues have no delivery limit. */
const PATIENT = 'patient';

/** More than the 21 deliveries that RabbitMQ 4 allows by default. */
const ENDLESS = 30;
const LIMIT = 21;

/** How a consumer gives a message back without having worked on it. Returns the consumer that goes on. */
type Requeue = (consumer: RawClient, tag: number, again: () => Promise<RawClient>) => Promise<RawClient>;

function frameOf(build: (channel: number, tag: number) => Buffer): Requeue {
  return async (consumer, tag) => {
    consumer.send(build(1, tag));
    return Promise.resolve(consumer);
  };
}

const REQUEUES: [row: string, requeue: Requeue, endlessOn43: boolean][] = [
  ['5.1 basic.reject', frameOf(basicReject), false],
  ['5.1b basic.nack', frameOf(basicNack), true],
  ['5.1b basic.recover', frameOf(basicRecover), true],
  [
    '5.1c the close of its channel',
    async (consumer) => {
      expect(await consumer.ask(channelClose(1))).toBe('channel.close-ok');
      await consumer.channels(1);
      return consumer;
    },
    false,
  ],
  [
    '5.1c the close of its connection',
    async (consumer, _tag, again) => {
      await consumer.close();
      return again();
    },
    false,
  ],
  [
    '5.1c a TCP reset',
    async (consumer, _tag, again) => {
      consumer.reset();
      return again();
    },
    false,
  ],
];

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  const at = useProxiedBroker(version);

  async function client(port = at.through, virtualHost = '/'): Promise<RawClient> {
    const opened = await RawClient.connect(port, { virtualHost });
    await opened.channels(1);
    return opened;
  }

  async function declared(raw: RawClient, frame: Buffer): Promise<void> {
    expect(await raw.ask(frame)).toMatch(/^queue\.declare-ok /);
  }

  describe('5.1 a message that is given back again and again', () => {
    /** How often the queue's one message is delivered, at most `times`, when it is given back each time. */
    async function deliveries(
      [port, virtualHost]: [port: number, virtualHost: string],
      [name, declare]: [name: string, declare: Buffer],
      requeue: Requeue,
      times: number,
    ): Promise<number> {
      const again = () => client(port, virtualHost);
      let consumer = await again();
      await declared(consumer, declare);
      expect(await consumer.ask(confirmSelect(1))).toBe('confirm.select-ok');
      expect(await consumer.ask(basicPublish(1, name, 'poison'))).toBe('basic.ack 1');
      let consuming: RawClient | undefined;
      for (let count = 0; ; count++) {
        const tagsAgain = requeue === REQUEUES[3]![1] || consuming !== consumer;
        if (tagsAgain) consumer.send(basicConsume({ name, tag: 'c' }));
        consuming = consumer;
        let heard = await consumer.hearWithin(2500);
        while (heard !== undefined && !heard.startsWith('basic.deliver'))
          heard = await consumer.hearWithin(2500);
        const tag = Number(heard?.split(' ')[2]);
        if (heard === undefined || count + 1 === times) {
          if (heard !== undefined) consumer.send(basicAck(1, tag));
          await consumer.close();
          return heard === undefined ? count : times;
        }
        consumer = await requeue(consumer, tag, again);
      }
    }

    it.each(REQUEUES)(
      '%s: for ever, through the proxy, where a policy sets no limit',
      async (row, requeue) => {
        if (!(await at.broker.ctl('-q', 'list_vhosts', 'name')).split('\n').includes(PATIENT)) {
          await at.broker.ctl('add_vhost', PATIENT);
          await at.broker.ctl('set_permissions', '-p', PATIENT, 'guest', '.*', '.*', '.*');
          // 3.10 knows no limit but an explicit one, and refuses a policy of -1.
          const policy = [
            'set_policy',
            '-p',
            PATIENT,
            'unlimited',
            '.*',
            '{"delivery-limit":-1}',
            '--apply-to',
            'queues',
          ];
          if (version !== '3.10') await at.broker.ctl(...policy);
        }
        const name = `patient ${row}`;
        expect(
          await deliveries([at.through, PATIENT], [name, queueDeclare({ name })], requeue, ENDLESS),
        ).toBe(ENDLESS);
      },
    );

    it.each(REQUEUES)(
      '%s: without the policy, as often as the broker allows',
      async (row, requeue, endlessOn43) => {
        const name = `limited ${row}`;
        const declare = queueDeclare({ name, flags: DURABLE, entries: [QUORUM] });
        const endless = version === '3.10' || (version === '4.3' && endlessOn43);
        expect(await deliveries([at.direct, '/'], [name, declare], requeue, ENDLESS)).toBe(
          endless ? ENDLESS : LIMIT,
        );
      },
    );

    it('is counted as a change of meaning when the queue is declared without a limit', async () => {
      const sample = 'quorumbridge_proxy_meaning_changes_total{change="delivery-limit"}';
      const before = await counted(at.proxy, sample);
      await using legacy = await client();
      await declared(legacy, queueDeclare({ name: 'counted once' }));
      const limit = entry('x-delivery-limit', { tag: 'I', value: 5 });
      await declared(legacy, queueDeclare({ name: 'its own limit', entries: [limit] }));
      await declared(legacy, queueDeclare({ name: 'modern', flags: DURABLE, entries: [QUORUM] }));
      expect(await counted(at.proxy, sample)).toBe(before + (version === '3.10' ? 0 : 1));
    });
  });

  describe('5.3 a prefetch for the whole channel', () => {
    it('ends the connection of a client that then consumes from a quorum queue, before 4.3', async () => {
      await using direct = await client(at.direct);
      await declared(direct, queueDeclare({ name: 'directly', flags: DURABLE, entries: [QUORUM] }));
      expect(await direct.ask(prefetch(1, 2, true))).toBe('basic.qos-ok');
      expect(await direct.ask(basicConsume({ name: 'directly', tag: 'c' }))).toMatch(
        version === '4.3'
          ? /^basic\.consume-ok c$/
          : /^connection\.close 540 NOT_IMPLEMENTED - queue 'directly' in vhost '\/' does not support global qos/,
      );
    });

    it('works through the proxy: each consumer has it, and the change is counted', async () => {
      const sample = 'quorumbridge_proxy_meaning_changes_total{change="global-prefetch"}';
      const before = await counted(at.proxy, sample);
      await using legacy = await client();
      await declared(legacy, queueDeclare({ name: 'prefetched' }));
      expect(await legacy.ask(prefetch(1, 2, true))).toBe('basic.qos-ok');
      expect(await counted(at.proxy, sample)).toBe(before + 1);
      for (const tag of ['a', 'b'])
        expect(await legacy.ask(basicConsume({ name: 'prefetched', tag }))).toBe(`basic.consume-ok ${tag}`);
      for (let i = 0; i < 8; i++) legacy.send(basicPublish(1, 'prefetched', String(i)));
      const tags = (await legacy.overhears(1500)).map((heard) => heard.split(' ').slice(0, 3).join(' '));
      expect(tags.sort()).toEqual([
        '1 basic.deliver a',
        '1 basic.deliver a',
        '1 basic.deliver b',
        '1 basic.deliver b',
      ]);
    });
  });

  it('5.6 x-cancel-on-ha-failover: is accepted through the proxy, which 3.10 refuses on quorum queues', async () => {
    const entries = [entry('x-cancel-on-ha-failover', { tag: 't', value: 1 })];
    const name = 'failover';
    await using direct = await client(at.direct);
    await declared(direct, queueDeclare({ name, flags: DURABLE, entries: [QUORUM] }));
    expect(await direct.ask(basicConsume({ name, tag: 'c', entries }))).toMatch(
      version === '3.10'
        ? /^channel\.close 406 .*invalid arg 'x-cancel-on-ha-failover'/
        : /^basic\.consume-ok c$/,
    );
    await using legacy = await client();
    await declared(legacy, queueDeclare({ name }));
    expect(await legacy.ask(basicConsume({ name, tag: 'd', entries }))).toBe('basic.consume-ok d');
  });

  describe('6.2 queue.delete with a condition', () => {
    it('ends the connection of a client that goes past the proxy', async () => {
      const name = 'directly conditional';
      await using direct = await client(at.direct);
      await declared(direct, queueDeclare({ name, flags: DURABLE, entries: [QUORUM] }));
      expect(await direct.ask(queueDelete(1, name, IF_UNUSED))).toMatch(
        /^connection\.close 540 NOT_IMPLEMENTED - cannot delete queue .*with if-unused flag set are not supported by quorum queues/,
      );
    });

    it.each([
      ['the queue that the channel declared last, by its empty name', 'last', ''],
      ['a queue by its name', 'by name', 'by name'],
      ['the last one, which has no name of the client’s', '', ''],
    ])('%s: goes when it holds, and else the channel is closed', async (_what, declare, asked) => {
      await using legacy = await client();
      const answer = await legacy.ask(queueDeclare({ name: declare }));
      const name = /^queue\.declare-ok (.+) 0 0$/.exec(answer)![1]!;
      // Passive where the name is not the client's: that makes it the channel's last one, too.
      const again = queueDeclare({ name, flags: declare === '' ? 1 : 0 });
      await using user = await client();
      expect(await user.ask(confirmSelect(1))).toBe('confirm.select-ok');
      expect(await user.ask(basicPublish(1, name, 'x'))).toBe('basic.ack 1');
      const refusal = (why: string) =>
        `channel.close 406 PRECONDITION_FAILED - queue '${name}' in vhost '/' ${why} (50.40)`;
      await legacy.channels(2);
      expect(await legacy.ask(queueDelete(1, asked, IF_EMPTY))).toBe(refusal('not empty'));
      legacy.send(channelCloseOk(1));
      await legacy.channels(1);
      await declared(legacy, again);
      expect(await user.ask(basicConsume({ name, tag: 'c', flags: 2 }))).toBe('basic.consume-ok c');
      expect(await user.hear(1)).toBe('basic.deliver c 1 0 x');
      expect(await legacy.ask(queueDelete(1, asked, IF_UNUSED | IF_EMPTY))).toBe(refusal('in use'));
      legacy.send(channelCloseOk(1));
      await legacy.channels(1);
      await declared(legacy, again);
      expect(await user.ask(basicCancel(1, 'c'))).toBe('basic.cancel-ok c');
      expect(await legacy.ask(queueDelete(1, asked, IF_UNUSED | IF_EMPTY))).toBe('queue.delete-ok 0');
      expect(await legacy.ask(queueDeclare({ channel: 2, name, flags: 1 }))).toMatch(/^channel\.close 404/);
    });

    it('of an exclusive queue, which stays classic, and of one that there is not', async () => {
      await using legacy = await client();
      await declared(legacy, queueDeclare({ name: 'own', flags: 4 }));
      expect(await legacy.ask(queueDelete(1, 'own', IF_UNUSED))).toBe('queue.delete-ok 0');
      expect(await legacy.ask(queueDelete(1, 'own', IF_UNUSED))).toBe('queue.delete-ok 0');
    });

    it('without waiting: deletes where it holds, and is not answered', async () => {
      await using legacy = await client();
      await declared(legacy, queueDeclare({ name: 'not waited for' }));
      legacy.send(queueDelete(1, 'not waited for', IF_UNUSED | 4));
      expect(await legacy.ask(queueDeclare({ name: 'not waited for', flags: 1 }))).toMatch(
        /^channel\.close 404/,
      );
    });
  });
});
