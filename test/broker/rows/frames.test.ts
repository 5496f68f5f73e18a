// What clients hear frame by frame when they don't wait for answers, declare in storms, and meet channel errors: what a
// broker would have said that accepts their declarations. RabbitMQ 3.10 is one, and is held to it without the proxy.
import { describe, expect, it } from 'vitest';
import {
  basicConsume,
  entry,
  exchangeDeclare,
  frame,
  longstr,
  method,
  queueDeclare,
} from '../../support/amqp-frames.ts';
import {
  basicGet,
  basicPublish,
  channelClose,
  channelCloseOk,
  channelOpen,
  connectionClose,
  queueBind,
  queueDelete,
} from '../../support/amqp-methods.ts';
import { describeBrokers } from '../../support/describe-brokers.ts';
import { useProxiedBroker } from '../../support/proxied-broker.ts';
import { RawClient } from '../../support/raw-client.ts';

const PASSIVE = 1;
const DURABLE = 2;
const EXCLUSIVE = 4;
const NO_WAIT = 16;

function ttl(value: number) {
  return [entry('x-message-ttl', { tag: 'I', value } as const)];
}

/** What was heard on each channel, in its order. */
function byChannel(heard: readonly string[]): Record<string, string[]> {
  const channels: Record<string, string[]> = {};
  for (const line of heard) {
    const at = line.indexOf(' ');
    (channels[line.slice(0, at)] ??= []).push(line.slice(at + 1));
  }
  return channels;
}

/** consume-ok comes from the queue and may overtake what the channel answers itself. */
function apart(heard: readonly string[]): { ordered: string[]; consumed: string[] } {
  const isOfQueue = (line: string) => line.includes('basic.consume-ok');
  return { ordered: heard.filter((line) => !isOfQueue(line)), consumed: heard.filter(isOfQueue) };
}

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  const at = useProxiedBroker(version);

  async function client(port: number, ...channels: number[]): Promise<RawClient> {
    const opened = await RawClient.connect(port);
    await opened.channels(...channels);
    return opened;
  }

  /** Where the script is to be heard: through the proxy, and directly where the broker accepts what legacy clients declare. */
  const places: [where: string, port: () => number, prefix: string][] = [
    ['through the proxy', () => at.through, 'through'],
    ...(version === '3.10'
      ? [
          ['directly, from a broker that accepts them', () => at.direct, 'direct'] as [
            string,
            () => number,
            string,
          ],
        ]
      : []),
  ];

  describe.each(places)('%s', (_where, port, prefix) => {
    it('a storm: 1000 declares of 10 queues on 5 channels in one go are answered in their order', async () => {
      await using legacy = await client(port(), 1, 2, 3, 4, 5);
      const expected: Record<string, string[]> = {};
      const storm: Buffer[] = [];
      for (let i = 0; i < 1000; i++) {
        const channel = 1 + (i % 5);
        const name = `${prefix} storm ${(i * 7) % 10}`;
        storm.push(queueDeclare({ channel, name }));
        (expected[channel] ??= []).push(`queue.declare-ok ${name} 0 0`);
      }
      legacy.send(...storm);
      expect(byChannel(await legacy.hears(1000))).toEqual(expected);
    });

    it('a storm of new queues and exchanges, bound and used behind their declares', async () => {
      await using legacy = await client(port(), 1, 2);
      const count = 60;
      for (let i = 0; i < count; i++) {
        const name = `${prefix} new ${i}`;
        legacy.send(
          exchangeDeclare({ name, type: 'fanout' }),
          queueDeclare({ name }),
          queueBind(1, name, name, ''),
          basicConsume({ name, tag: `c${i}`, flags: 2 }),
        );
      }
      const { ordered, consumed } = apart(await legacy.hears(4 * count));
      expect(ordered).toEqual(
        Array.from({ length: count }, (_, i) => [
          '1 exchange.declare-ok',
          `1 queue.declare-ok ${prefix} new ${i} 0 0`,
          '1 queue.bind-ok',
        ]).flat(),
      );
      expect(consumed).toHaveLength(count);
      for (let i = 0; i < count; i++)
        legacy.send(basicPublish(2, '', String(i), { exchange: `${prefix} new ${i}` }));
      const delivered = await legacy.hears(count);
      expect(delivered.map((line) => line.replace(/ \d+ 0 /, ' ')).sort()).toEqual(
        Array.from({ length: count }, (_, i) => `1 basic.deliver c${i} ${i}`).sort(),
      );
    });

    it('declares without waiting are not answered, and what comes behind them finds the queue', async () => {
      await using legacy = await client(port(), 1);
      const name = `${prefix} no wait`;
      legacy.send(
        exchangeDeclare({ name, type: 'direct', flags: NO_WAIT }),
        queueDeclare({ name, flags: NO_WAIT }),
        queueDeclare({ name, flags: NO_WAIT }),
        queueBind(1, name, name, 'k'),
        basicPublish(1, 'k', 'first', { exchange: name }),
        queueDeclare({ name, flags: NO_WAIT }),
      );
      expect(await legacy.hear(1)).toBe('queue.bind-ok');
      await expect
        .poll(() => legacy.ask(basicGet(1, name)), { interval: 20 })
        .toMatch(/^basic\.get-ok \d+ 0 first$/);
      expect(await legacy.ask(queueDelete(1, name))).toBe('queue.delete-ok 0');
    });

    it('an unequal declare in the middle: nothing behind it happens on its channel, and the others go on', async () => {
      await using legacy = await client(port(), 1, 2);
      const [first, second, other] = ['first', 'second', 'other'].map((name) => `${prefix} ${name}`) as [
        string,
        string,
        string,
      ];
      legacy.send(
        queueDeclare({ name: first, entries: ttl(60_000) }),
        queueDeclare({ channel: 2, name: other }),
        queueDeclare({ name: first, entries: ttl(30_000) }),
        queueDeclare({ name: second }),
        exchangeDeclare({ name: second }),
        basicPublish(1, first, 'lost'),
        basicGet(1, first),
        basicPublish(2, other, 'kept'),
        basicConsume({ channel: 2, name: other, tag: 'c', flags: 2 }),
        queueDeclare({ channel: 2, name: other }),
      );
      const heard = byChannel(await legacy.hears(6));
      expect(heard['1']).toEqual([
        `queue.declare-ok ${first} 0 0`,
        expect.stringMatching(
          new RegExp(
            `^channel\\.close 406 PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '${first}' in vhost '/': ` +
              "received '?(the value '?)?30000.* but current is .*60000.* \\(50\\.10\\)$",
          ),
        ) as string,
      ]);
      expect(heard['2']).toContain('basic.deliver c 1 0 kept');
      expect(heard['2']).toContain('basic.consume-ok c');
      expect(heard['2']!.filter((text) => text.startsWith('queue.declare-ok'))).toEqual([
        `queue.declare-ok ${other} 0 0`,
        expect.stringMatching(new RegExp(`^queue\\.declare-ok ${other} [01] 1$`)) as string,
      ]);
      // The channel is the client's again once it has said so.
      legacy.send(channelCloseOk(1), channelOpen(1), queueDeclare({ name: first, flags: PASSIVE }));
      expect(await legacy.hears(2)).toEqual(['1 channel.open-ok', `1 queue.declare-ok ${first} 0 0`]);
      expect(await legacy.ask(queueDeclare({ name: second, flags: PASSIVE }))).toBe(
        `channel.close 404 NOT_FOUND - no queue '${second}' in vhost '/' (50.10)`,
      );
      legacy.send(channelCloseOk(1), channelOpen(1));
      expect(await legacy.hear(1)).toBe('channel.open-ok');
      expect(await legacy.ask(exchangeDeclare({ name: second, flags: PASSIVE }))).toBe(
        `channel.close 404 NOT_FOUND - no exchange '${second}' in vhost '/' (40.10)`,
      );
    });

    /** Whether the broker has made none of the queues. */
    async function noneOf(names: readonly string[]): Promise<void> {
      for (const name of names) {
        await using witness = await client(at.direct, 1);
        expect(await witness.ask(queueDeclare({ name, flags: PASSIVE }))).toMatch(/^channel\.close 404/);
      }
    }

    it('declares on a channel that the broker has closed are not made, until the client says close-ok', async () => {
      await using legacy = await client(port(), 1);
      const names = Array.from({ length: 5 }, (_, i) => `${prefix} on a closed channel ${i}`);
      const nothing = `${prefix} nothing`;
      expect(await legacy.ask(basicConsume({ name: nothing }))).toBe(
        `channel.close 404 NOT_FOUND - no queue '${nothing}' in vhost '/' (60.20)`,
      );
      legacy.send(...names.map((name) => queueDeclare({ name })));
      legacy.send(channelCloseOk(1));
      await legacy.channels(1);
      await noneOf(names);
    });

    it('declares right behind a method that closes their channel are not made', async () => {
      await using legacy = await client(port(), 1);
      const names = Array.from({ length: 5 }, (_, i) => `${prefix} too late ${i}`);
      legacy.send(
        basicConsume({ name: `${prefix} nothing` }),
        ...names.map((name) => queueDeclare({ name })),
      );
      expect(await legacy.hear(1)).toMatch(/^channel\.close 404 .* \(60\.20\)$/);
      legacy.send(channelCloseOk(1));
      await legacy.channels(1);
      await noneOf(names);
    });

    it.each([
      [
        '404 for a passive declare',
        (name: string) => queueDeclare({ name, flags: PASSIVE }),
        (name: string) => `channel.close 404 NOT_FOUND - no queue '${name}' in vhost '/' (50.10)`,
      ],
      [
        '404 for an exchange',
        (name: string) => exchangeDeclare({ name, flags: PASSIVE }),
        (name: string) => `channel.close 404 NOT_FOUND - no exchange '${name}' in vhost '/' (40.10)`,
      ],
      [
        '403 for a reserved name',
        (name: string) => queueDeclare({ name: `amq.${name}` }),
        (name: string) =>
          `channel.close 403 ACCESS_REFUSED - queue name 'amq.${name}' contains reserved prefix 'amq.*' (50.10)`,
      ],
      [
        '406 for an exchange of another type',
        () => exchangeDeclare({ name: 'amq.topic', type: 'direct', flags: DURABLE }),
        () =>
          "channel.close 406 PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.topic' in vhost '/': received " +
          "'direct' but current is 'topic' (40.10)",
      ],
    ])(
      '%s: is heard once, the other channels live, and the channel may be opened again',
      async (what, build, says) => {
        const name = `${prefix} ${what}`;
        await using legacy = await client(port(), 1, 2);
        for (let round = 0; round < 3; round++) {
          expect(await legacy.ask(build(name))).toBe(says(name));
          const other = queueDeclare({ channel: 2, name: `${name}, other` });
          expect(await legacy.ask(other)).toBe(`queue.declare-ok ${name}, other 0 0`);
          legacy.send(channelCloseOk(1));
          await legacy.channels(1);
        }
        expect(await legacy.ask(queueDeclare({ name: `${name}, at last` }))).toMatch(/^queue\.declare-ok/);
        expect(await legacy.overhears(150)).toEqual([]);
      },
    );

    it('405 for the queue of another connection: heard once, and the channel may be opened again', async () => {
      const name = `${prefix} of another`;
      await using owner = await client(port(), 1);
      expect(await owner.ask(queueDeclare({ name, flags: EXCLUSIVE }))).toBe(`queue.declare-ok ${name} 0 0`);
      await using legacy = await client(port(), 1, 2);
      for (const flags of [EXCLUSIVE, 0, PASSIVE]) {
        expect(await legacy.ask(queueDeclare({ name, flags }))).toMatch(
          new RegExp(`^channel\\.close 405 RESOURCE_LOCKED - .* locked queue '${name}' .*\\(50\\.10\\)$`),
        );
        expect(await legacy.ask(queueDeclare({ channel: 2, name: `${name}, other` }))).toMatch(
          /^queue\.declare-ok/,
        );
        legacy.send(channelCloseOk(1));
        await legacy.channels(1);
      }
    });

    it('many channels with an error each: one close for each, and the rest of the connection is untouched', async () => {
      const channels = Array.from({ length: 30 }, (_, i) => i + 1);
      await using legacy = await client(port(), ...channels);
      const name = `${prefix} many`;
      const asEver = queueDeclare({ channel: 30, name, entries: ttl(60_000) });
      expect(await legacy.ask(asEver)).toBe(`queue.declare-ok ${name} 0 0`);
      legacy.send(
        ...channels.slice(0, -1).map((channel) => queueDeclare({ channel, name, entries: ttl(channel) })),
        asEver,
      );
      const heard = byChannel(await legacy.hears(30));
      for (const channel of channels.slice(0, -1)) {
        expect(heard[channel]).toHaveLength(1);
        expect(heard[channel]![0]).toMatch(
          new RegExp(`^channel\\.close 406 .*received .*\\b${channel}\\b.* \\(50\\.10\\)$`),
        );
      }
      expect(heard['30']).toEqual([`queue.declare-ok ${name} 0 0`]);
      legacy.send(...channels.slice(0, -1).map(channelCloseOk));
      await legacy.channels(...channels.slice(0, -1));
      expect(await legacy.ask(queueDeclare({ name, entries: ttl(60_000) }))).toBe(
        `queue.declare-ok ${name} 0 0`,
      );
    });

    it('a close behind a declare: both are answered, of the channel and of the connection', async () => {
      const legacy = await client(port(), 1, 2);
      const name = `${prefix} closed behind`;
      legacy.send(queueDeclare({ name }), channelClose(1), queueDeclare({ channel: 2, name: `${name} too` }));
      expect(byChannel(await legacy.hears(3))).toEqual({
        1: [`queue.declare-ok ${name} 0 0`, 'channel.close-ok'],
        2: [`queue.declare-ok ${name} too 0 0`],
      });
      legacy.send(queueDeclare({ channel: 2, name: `${name} the connection` }), connectionClose());
      const last = await legacy.overhears(500);
      expect(last.filter((line) => line !== '0 closed')).toEqual(
        expect.arrayContaining(['0 connection.close-ok']) as string[],
      );
      await using witness = await client(at.direct, 1);
      expect(await witness.ask(queueDeclare({ name: `${name} the connection`, flags: PASSIVE }))).toMatch(
        /^queue\.declare-ok/,
      );
    });

    it('a declare between the frames of a message on another channel leaves the message whole', async () => {
      await using legacy = await client(port(), 1, 2);
      const name = `${prefix} interleaved`;
      expect(await legacy.ask(queueDeclare({ name }))).toBe(`queue.declare-ok ${name} 0 0`);
      const header = Buffer.alloc(14);
      header.writeUInt16BE(60, 0);
      header.writeBigUInt64BE(6n, 4);
      const publish = Buffer.concat([
        Buffer.alloc(3),
        Buffer.of(name.length),
        Buffer.from(name),
        Buffer.of(0),
      ]);
      const between = (i: number) => queueDeclare({ channel: 2, name: `${name} ${i}` });
      legacy.send(
        method(1, 60, 40, publish),
        between(1),
        frame(2, 1, header),
        between(2),
        frame(3, 1, Buffer.from('abc')),
        between(3),
        frame(3, 1, Buffer.from('def')),
        basicConsume({ name, tag: 'c', flags: 2 }),
      );
      expect(byChannel(await legacy.hears(5))).toEqual({
        1: ['basic.consume-ok c', 'basic.deliver c 1 0 abcdef'],
        2: [1, 2, 3].map((i) => `queue.declare-ok ${name} ${i} 0 0`),
      });
    });

    it('octet by octet: what is sent in the smallest pieces is answered alike', async () => {
      await using legacy = await client(port(), 1);
      const name = `${prefix} in pieces`;
      const octets = Buffer.concat([
        queueDeclare({ name, entries: [...ttl(60_000), entry('x-queue-mode', longstr('lazy'))] }),
        queueBind(1, name, 'amq.direct', 'k'),
        queueDeclare({ name, entries: ttl(60_000), flags: DURABLE | PASSIVE }),
      ]);
      for (const octet of octets) {
        legacy.send(Buffer.of(octet));
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(await legacy.hears(3)).toEqual([
        `1 queue.declare-ok ${name} 0 0`,
        '1 queue.bind-ok',
        `1 queue.declare-ok ${name} 0 0`,
      ]);
    });
  });
});
