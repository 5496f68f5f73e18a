// Arguments of queues, and the size of messages: section 4 and rows 8.8 and 11.4 to 11.6 of the table of what brokers answer to
// legacy clients.
import { connect } from 'amqplib';
import { describe, expect, it } from 'vitest';
import { basicConsume, type Entry, entry, longstr, queueDeclare } from '../../support/amqp-frames.ts';
import { basicGet, basicPublish, confirmSelect, queueDelete } from '../../support/amqp-methods.ts';
import { describeBrokers } from '../../support/describe-brokers.ts';
import { counted, useProxiedBroker } from '../../support/proxied-broker.ts';
import { RawClient } from '../../support/raw-client.ts';

const DURABLE = 2;
const OK = /^queue\.declare-ok /;

function int(key: string, value: number): Entry {
  return entry(key, { tag: 'I', value });
}

function text(key: string, value: string): Entry {
  return entry(key, longstr(value));
}

/** More than RabbitMQ 4 takes by default. */
const SIZE = 17_000_000;

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  const at = useProxiedBroker(version);

  async function client(port: number): Promise<RawClient> {
    const opened = await RawClient.connect(port);
    await opened.channels(1);
    return opened;
  }

  describe('arguments', () => {
    it('4, 11.5 of every wire type arrive as they were sent, around those that go', async () => {
      const legacy = await client(at.through);
      const entries: Entry[] = [
        entry('x-message-ttl', { tag: 'u', value: 60_000 }),
        int('x-max-priority', 5),
        entry('x-max-length', { tag: 'L', value: 1000n }),
        entry('x-first', { tag: 'B', value: 255 }),
        text('x-queue-mode', 'lazy'),
        entry('x-second', { tag: 'i', value: 4_000_000_000 }),
        entry('x-third', { tag: 'A', value: [{ tag: 't', value: 1 }, longstr('in a list')] }),
        entry('x-octets', { tag: 'S', value: Buffer.of(0xff, 0xfe) }),
        entry('x-fourth', { tag: 'F', value: [entry('x-max-priority', { tag: 'b', value: -1 })] }),
        entry('x-expires', { tag: 'l', value: 3_600_000n }),
      ];
      const asked = { name: 'wire types', entries };
      expect(await legacy.ask(queueDeclare(asked))).toMatch(OK);
      expect(await legacy.ask(queueDeclare(asked))).toMatch(OK);
      const { arguments: kept } = await at.broker.management.queue('wire types');
      expect(kept).toEqual({
        'x-message-ttl': 60_000,
        'x-max-length': 1000,
        'x-first': 255,
        'x-second': 4_000_000_000,
        'x-third': [true, 'in a list'],
        'x-octets': expect.any(String) as string,
        'x-fourth': { 'x-max-priority': -1 },
        'x-expires': 3_600_000,
        'x-queue-type': 'quorum',
      });
      await legacy.close();
    });

    it('11.6 a key that is not UTF-8 is passed on', async () => {
      await using legacy = await client(at.through);
      const odd: Entry = { key: Buffer.of(0x78, 0xff, 0xfe), field: { tag: 'I', value: 1 } };
      const asked = { name: 'odd key', entries: [odd, int('x-max-priority', 5)] };
      expect(await legacy.ask(queueDeclare(asked))).toMatch(OK);
      expect(await legacy.ask(queueDeclare(asked))).toMatch(OK);
      // The management API answers 500 while there is such a queue.
      expect(await legacy.ask(queueDelete(1, 'odd key'))).toBe('queue.delete-ok 0');
    });

    it('11.4 a queue name that is not UTF-8 ends the connection as ever', async () => {
      const frame = queueDeclare({ name: Buffer.of(0x70, 0xff, 0xfe) });
      const direct = await client(at.direct);
      const legacy = await client(at.through);
      const refusal = await direct.ask(frame);
      expect(refusal).toMatch(/^connection\.close 501 .*Malformed UTF-8 in shortstr/s);
      expect(await legacy.ask(frame)).toBe(refusal);
    });

    it('4.5 x-overflow=reject-publish-dlx: what is over the limit is refused, and none of what was taken is lost', async () => {
      const entries = [int('x-max-length', 2), text('x-overflow', 'reject-publish-dlx')];
      /** The messages that were confirmed, those that were refused, and those that the queue holds, by number. */
      const filled = async (raw: RawClient, declare: Buffer) => {
        expect(await raw.ask(declare)).toMatch(OK);
        expect(await raw.ask(confirmSelect(1))).toBe('confirm.select-ok');
        const confirmed: string[] = [];
        const refused: string[] = [];
        for (let i = 1; i <= 8; i++) {
          const verdict = await raw.ask(basicPublish(1, 'overflow', String(i)));
          (verdict === `basic.ack ${i}` ? confirmed : refused).push(String(i));
        }
        const held: string[] = [];
        for (;;) {
          const got = await raw.ask(basicGet(1, 'overflow'));
          if (got === 'basic.get-empty') break;
          held.push(got.split(' ').at(-1)!);
        }
        expect(await raw.ask(queueDelete(1, 'overflow'))).toBe('queue.delete-ok 0');
        await raw.close();
        return { confirmed, refused, held };
      };
      const lossy = {
        name: 'overflow',
        flags: DURABLE,
        entries: [text('x-queue-type', 'quorum'), ...entries],
      };
      const directly = await filled(await client(at.direct), queueDeclare(lossy));
      expect(directly).toMatchObject({ refused: [], held: ['7', '8'] });

      const before = await counted(
        at.proxy,
        'quorumbridge_proxy_meaning_changes_total{change="overflow-dead-letter"}',
      );
      const { confirmed, refused, held } = await filled(
        await client(at.through),
        queueDeclare({ name: 'overflow', entries }),
      );
      expect(held).toEqual(confirmed);
      expect(refused).toContain('8');
      expect(
        await counted(at.proxy, 'quorumbridge_proxy_meaning_changes_total{change="overflow-dead-letter"}'),
      ).toBe(before + 1);
    });

    it('4.9 x-max-priority: messages of all priorities arrive, and the change is counted', async () => {
      const sample = 'quorumbridge_proxy_meaning_changes_total{change="priority"}';
      const before = await counted(at.proxy, sample);
      await using legacy = await client(at.through);
      const name = 'priorities';
      expect(await legacy.ask(queueDeclare({ name, entries: [int('x-max-priority', 10)] }))).toMatch(OK);
      expect(await counted(at.proxy, sample)).toBe(before + 1);
      expect(await legacy.ask(confirmSelect(1))).toBe('confirm.select-ok');
      const priorities = [0, 9, 4, 5, undefined, 1];
      for (const [i, priority] of priorities.entries())
        expect(await legacy.ask(basicPublish(1, name, String(priority), { priority }))).toBe(
          `basic.ack ${i + 1}`,
        );
      expect(await legacy.ask(basicConsume({ name, tag: 'c', flags: 2 }))).toBe('basic.consume-ok c');
      const got = (await legacy.hears(priorities.length)).map((heard) => heard.split(' ').at(-1)!);
      expect(got.sort()).toEqual(priorities.map(String).sort());
    });
  });

  /** What comes of a large message: its size as the consumer got it, or the refusal. */
  async function sent(port: number): Promise<number | string> {
    const model = await connect(`amqp://guest:guest@127.0.0.1:${port}/`);
    model.on('error', () => {});
    const channel = await model.createConfirmChannel();
    const refused = new Promise<string>((resolve) => {
      channel.on('error', (error: Error) => resolve(error.message));
    });
    const { queue } = await channel.assertQueue('large', { durable: true });
    channel.sendToQueue(queue, Buffer.alloc(SIZE, 'abc'));
    const outcome = await Promise.race([channel.waitForConfirms().then(() => ''), refused]).catch(
      () => refused,
    );
    if (outcome !== '') {
      await model.close();
      return outcome;
    }
    const got = new Promise<Buffer>((resolve) => {
      void channel.consume(
        queue,
        (message) => {
          if (message !== null) resolve(message.content); // null: its queue is deleted below
        },
        { noAck: true },
      );
    });
    const body = await got;
    await channel.deleteQueue(queue);
    await model.close();
    return body.equals(Buffer.alloc(SIZE, 'abc')) ? body.length : 'the message was changed';
  }

  it('8.8 a message of 17 MB: RabbitMQ 4 refuses it by default, with and without the proxy', async () => {
    const expected =
      version === '3.10' ? /^17000000$/ : /message size 17000000 is larger than configured max size 16777216/;
    expect(String(await sent(at.direct))).toMatch(expected);
    expect(String(await sent(at.through))).toMatch(expected);
  });

  it('8.8 with max_message_size as it was, the message comes through the proxy whole', async () => {
    await at.broker.restart({ conf: 'max_message_size = 134217728' });
    expect(await sent(at.through)).toBe(SIZE);
  }, 120_000);
});
