// What exists already and is declared again, by old and new clients, through the proxy and past it: sections 3 and 7 of
// the table of what brokers answer to legacy clients, and vhosts whose queues are quorum by default (8.9).
import { describe, expect, it } from 'vitest';
import {
  basicConsume,
  type Entry,
  entry,
  exchangeDeclare,
  longstr,
  queueDeclare,
} from '../../support/amqp-frames.ts';
import { basicPublish, channelCloseOk, confirmSelect, queueBind } from '../../support/amqp-methods.ts';
import { describeBrokers } from '../../support/describe-brokers.ts';
import { counted, useProxiedBroker } from '../../support/proxied-broker.ts';
import { RawClient } from '../../support/raw-client.ts';

const DURABLE = 2;
const AUTO_DELETE = 8;
const QUORUM = entry('x-queue-type', longstr('quorum'));
const CLASSIC = entry('x-queue-type', longstr('classic'));

interface Declare {
  readonly flags: number;
  readonly entries?: readonly Entry[];
}

/** How old clients declare a queue that is to last; all of them mean the same one. */
const OLD: Record<string, Declare> = {
  'transient, no type': { flags: 0 },
  'transient, classic': { flags: 0, entries: [CLASSIC] },
  'durable, no type': { flags: DURABLE },
  'durable, classic': { flags: DURABLE, entries: [CLASSIC] },
  'transient, quorum': { flags: 0, entries: [QUORUM] },
  'durable, lazy': { flags: DURABLE, entries: [entry('x-queue-mode', longstr('lazy'))] },
  'durable, priorities': { flags: DURABLE, entries: [entry('x-max-priority', { tag: 'I', value: 9 })] },
};

/** What a client that knows quorum queues declares. */
const MODERN: Declare = { flags: DURABLE, entries: [QUORUM] };

const LASTING: Record<string, Declare> = { ...OLD, 'durable, quorum': MODERN };

/** What a strict broker says of a quorum queue that is declared so (rows 3.2 to 3.4). */
const CLASHES: [row: string, declare: Declare, refusal: RegExp][] = [
  ['3.2 durable, no type', { flags: DURABLE }, /inequivalent arg 'x-queue-type'/],
  ['3.2 durable, classic', { flags: DURABLE, entries: [CLASSIC] }, /inequivalent arg 'x-queue-type'/],
  ['3.3 transient', { flags: 0 }, /inequivalent arg 'durable'.* received 'false' but current is 'true'/],
  ['3.3 transient, auto-delete', { flags: AUTO_DELETE }, /inequivalent arg 'durable'/],
  ['3.4 durable, auto-delete', { flags: DURABLE | AUTO_DELETE }, /inequivalent arg 'auto_delete'/],
  ['3.6 transient, quorum', { flags: 0, entries: [QUORUM] }, /inequivalent arg 'durable'/],
  [
    '3.6 durable, auto-delete, quorum',
    { flags: DURABLE | AUTO_DELETE, entries: [QUORUM] },
    /inequivalent arg 'auto_delete'/,
  ],
];

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  const at = useProxiedBroker(version);

  async function client(port: number, virtualHost = '/'): Promise<RawClient> {
    const opened = await RawClient.connect(port, { virtualHost });
    await opened.channels(1);
    return opened;
  }

  describe('a queue that a client of today declared past the proxy', () => {
    it.each(CLASHES)('%s: an old client declares it through the proxy', async (row, declare, refusal) => {
      const name = `modern ${row}`;
      await using modern = await client(at.direct);
      expect(await modern.ask(queueDeclare({ name, ...MODERN }))).toBe(`queue.declare-ok ${name} 0 0`);
      await using unproxied = await client(at.direct);
      expect(await unproxied.ask(queueDeclare({ name, ...declare }))).toMatch(refusal);
      await using legacy = await client(at.through);
      expect(await legacy.ask(queueDeclare({ name, ...declare }))).toBe(`queue.declare-ok ${name} 0 0`);
      expect(await legacy.ask(queueDeclare({ name, ...declare }))).toBe(`queue.declare-ok ${name} 0 0`);
      expect(await modern.ask(queueDeclare({ name, ...MODERN }))).toBe(`queue.declare-ok ${name} 0 0`);
    });
  });

  describe('3 whoever declares it first', () => {
    it.each(Object.entries(LASTING))(
      '%s: all others may declare it their way, and today’s clients past the proxy',
      async (first, declare) => {
        const name = `first ${first}`;
        const ok = `queue.declare-ok ${name} 0 0`;
        await using creator = await client(at.through);
        expect(await creator.ask(queueDeclare({ name, ...declare }))).toBe(ok);
        await using modern = await client(at.direct);
        expect(await modern.ask(queueDeclare({ name, ...MODERN }))).toBe(ok);
        await using legacy = await client(at.through);
        for (const other of Object.values(LASTING))
          expect(await legacy.ask(queueDeclare({ name, ...other }))).toBe(ok);
        expect(await at.broker.management.queue(name)).toMatchObject({
          durable: true,
          auto_delete: false,
          arguments: { 'x-queue-type': 'quorum' },
        });
      },
    );

    it('auto-delete: other old clients may declare it, with and without auto-delete', async () => {
      const name = 'first auto-delete';
      const ok = `queue.declare-ok ${name} 0 0`;
      await using creator = await client(at.through);
      expect(await creator.ask(queueDeclare({ name, flags: AUTO_DELETE }))).toBe(ok);
      await using legacy = await client(at.through);
      const all = [...Object.values(OLD), { flags: AUTO_DELETE }, { flags: DURABLE | AUTO_DELETE }];
      for (const other of all) expect(await legacy.ask(queueDeclare({ name, ...other }))).toBe(ok);
      // The price of the expiry: who leaves the proxy has to declare it, too.
      await using modern = await client(at.direct);
      const entries = [QUORUM, entry('x-expires', { tag: 'I', value: 1_800_000 })];
      expect(await modern.ask(queueDeclare({ name, flags: DURABLE, entries }))).toBe(ok);
      expect(await modern.ask(queueDeclare({ name, ...MODERN }))).toMatch(/inequivalent arg 'x-expires'/);
    });

    it('an expiry of its own: the same one is equal in all wire types, and another is refused as ever', async () => {
      const name = 'own expiry';
      const ok = `queue.declare-ok ${name} 0 0`;
      const expires = (value: number) => entry('x-expires', { tag: 'I', value });
      await using legacy = await client(at.through);
      expect(await legacy.ask(queueDeclare({ name, flags: 0, entries: [expires(600_000)] }))).toBe(ok);
      const long = entry('x-expires', { tag: 'l', value: 600_000n });
      expect(await legacy.ask(queueDeclare({ name, flags: DURABLE, entries: [long] }))).toBe(ok);
      await using modern = await client(at.direct);
      const modernly = { name, flags: DURABLE, entries: [QUORUM, expires(600_000)] };
      expect(await modern.ask(queueDeclare(modernly))).toBe(ok);
      expect(await legacy.ask(queueDeclare({ name, flags: 0, entries: [expires(60_000)] }))).toMatch(
        /^channel\.close 406 .*inequivalent arg 'x-expires' .* received '?.*60000/,
      );
    });
  });

  describe('what was left behind', () => {
    /** What this broker lets clients declare that go past the proxy. */
    const left: [row: string, declare: Declare][] = [
      ['3.7 a durable classic queue', { flags: DURABLE, entries: [CLASSIC] }],
      ['3.7 a durable queue without a type', { flags: DURABLE }],
      ['3.7 a durable auto-delete queue', { flags: DURABLE | AUTO_DELETE }],
      [
        '3.10 a quorum queue with an expiry that old clients do not know of',
        { flags: DURABLE, entries: [QUORUM, entry('x-expires', { tag: 'I', value: 600_000 })] },
      ],
      ...(version === '4.3'
        ? []
        : ([
            ['3.8 a transient queue', { flags: 0 }],
            ['3.8 a transient auto-delete queue', { flags: AUTO_DELETE }],
          ] as [string, Declare][])),
    ];

    it.each(left)('%s does not lock old clients out: they use it as it is', async (row, declare) => {
      const name = `left ${row}`;
      const ok = `queue.declare-ok ${name} 0 0`;
      await using owner = await client(at.direct);
      expect(await owner.ask(queueDeclare({ name, ...declare }))).toBe(ok);
      await using legacy = await client(at.through);
      const others = { ...OLD, 'auto-delete': { flags: AUTO_DELETE } };
      for (const other of Object.values(others))
        expect(await legacy.ask(queueDeclare({ name, ...other }))).toBe(ok);
      expect(await owner.ask(queueDeclare({ name, ...declare }))).toBe(ok);
      expect(await legacy.ask(confirmSelect(1))).toBe('confirm.select-ok');
      expect(await legacy.ask(basicPublish(1, name, 'used'))).toBe('basic.ack 1');
      expect(await legacy.ask(basicConsume({ name, tag: 'c', flags: 2 }))).toBe('basic.consume-ok c');
      expect(await legacy.hear(1)).toBe('basic.deliver c 1 0 used');
    });

    it('7.2 a transient exchange: the broker refuses a durable one, and old clients use it as it is', async () => {
      const name = 'left exchange';
      await using owner = await client(at.direct);
      expect(await owner.ask(exchangeDeclare({ name, type: 'topic' }))).toBe('exchange.declare-ok');
      await using modern = await client(at.direct);
      expect(await modern.ask(exchangeDeclare({ name, type: 'topic', flags: DURABLE }))).toMatch(
        /^channel\.close 406 .*inequivalent arg 'durable' for exchange 'left exchange'/,
      );
      await using legacy = await client(at.through);
      for (let times = 0; times < 2; times++)
        expect(await legacy.ask(exchangeDeclare({ name, type: 'topic' }))).toBe('exchange.declare-ok');
      expect(await legacy.ask(queueDeclare({ name: 'bound to it' }))).toMatch(/^queue\.declare-ok/);
      expect(await legacy.ask(queueBind(1, 'bound to it', name, '#'))).toBe('queue.bind-ok');
      legacy.send(basicPublish(1, 'any', 'x', { exchange: name }));
      expect(await legacy.ask(basicConsume({ name: 'bound to it', tag: 'c', flags: 2 }))).toBe(
        'basic.consume-ok c',
      );
      expect(await legacy.hear(1)).toBe('basic.deliver c 1 0 x');
    });

    it('7.2 a durable exchange: old clients may declare it transient', async () => {
      const name = 'durable exchange';
      await using modern = await client(at.direct);
      const answer = await modern.ask(exchangeDeclare({ name, flags: DURABLE }));
      expect(answer).toBe('exchange.declare-ok');
      await using unproxied = await client(at.direct);
      expect(await unproxied.ask(exchangeDeclare({ name }))).toMatch(/inequivalent arg 'durable'/);
      await using legacy = await client(at.through);
      expect(await legacy.ask(exchangeDeclare({ name }))).toBe('exchange.declare-ok');
    });

    it('7.10 a transient exchange that outlives a restart of the broker on 4.3 locks nobody out', async () => {
      const name = 'from before the restart';
      const owner = await client(at.direct);
      expect(await owner.ask(exchangeDeclare({ name }))).toBe('exchange.declare-ok');
      await owner.close();
      await at.broker.restart({});
      await using witness = await client(at.direct);
      expect(await witness.ask(exchangeDeclare({ name, flags: 1 }))).toMatch(
        version === '4.3' ? /^exchange\.declare-ok/ : /^channel\.close 404 NOT_FOUND/,
      );
      await using legacy = await client(at.through);
      expect(await legacy.ask(exchangeDeclare({ name }))).toBe('exchange.declare-ok');
      expect(await at.broker.management.exchange(name)).toMatchObject({ durable: version !== '4.3' });
    }, 120_000);
  });

  it('3.13 x-consumer-timeout, which 4.3 compares and older brokers do not know, keeps nobody out', async () => {
    const timeout = entry('x-consumer-timeout', { tag: 'I', value: 3_600_000 });
    for (const [name, first, second] of [
      ['timeout first', [timeout], []],
      ['timeout second', [], [timeout]],
    ] as const) {
      const declare = (entries: readonly Entry[]) =>
        queueDeclare({ name, flags: DURABLE, entries: [QUORUM, ...entries] });
      await using creator = await client(at.direct);
      expect(await creator.ask(declare(first))).toBe(`queue.declare-ok ${name} 0 0`);
      expect(await creator.ask(declare(second))).toMatch(
        version === '4.3' ? /inequivalent arg 'x-consumer-timeout'/ : /^queue\.declare-ok/,
      );
      await using legacy = await client(at.through);
      expect(await legacy.ask(queueDeclare({ name, entries: second }))).toBe(`queue.declare-ok ${name} 0 0`);
    }
  });

  it('7.6 an exchange type that there is not: the refusal is the broker’s own', async () => {
    for (const flags of [0, DURABLE]) {
      const frame = exchangeDeclare({ name: 'delayed', type: 'x-nope', flags });
      await using direct = await client(at.direct);
      await using legacy = await client(at.through);
      const refusal = await direct.ask(frame);
      expect(refusal).toMatch(
        version === '3.10'
          ? /^connection\.close 503 COMMAND_INVALID - unknown exchange type 'x-nope'/
          : /^channel\.close 406 PRECONDITION_FAILED - unknown exchange type 'x-nope'/,
      );
      expect(await legacy.ask(frame)).toBe(refusal);
    }
  });

  it('what exists is counted as a change of meaning', async () => {
    const sample = 'quorumbridge_proxy_meaning_changes_total{change="existing"}';
    const name = 'counted';
    await using owner = await client(at.direct);
    expect(await owner.ask(queueDeclare({ name, flags: DURABLE }))).toMatch(/^queue\.declare-ok/);
    const before = await counted(at.proxy, sample);
    await using legacy = await client(at.through);
    expect(await legacy.ask(queueDeclare({ name }))).toMatch(/^queue\.declare-ok/);
    expect(await counted(at.proxy, sample)).toBe(before + 1);
  });

  describe('8.9 in a vhost whose queues are quorum by default', () => {
    const virtualHost = 'quorum';
    const ready = async () => {
      if ((await at.broker.ctl('-q', 'list_vhosts', 'name')).split('\n').includes(virtualHost)) return;
      await at.broker.ctl('add_vhost', virtualHost, '--default-queue-type', 'quorum');
      await at.broker.ctl('set_permissions', '-p', virtualHost, 'guest', '.*', '.*', '.*');
    };

    it.each([
      ['1.1 transient', { flags: 0 }],
      ['1.2 transient, auto-delete', { flags: AUTO_DELETE }],
      ['1.4 durable', { flags: DURABLE }],
      ['1.3 exclusive', { flags: 4 }],
      ['1.14 transient, no name', { flags: 0, name: '' }],
      ['1.15 durable, no name', { flags: DURABLE, name: '' }],
      [
        '4.9 durable, x-max-priority',
        { flags: DURABLE, entries: [entry('x-max-priority', { tag: 'I', value: 3 } as const)] },
      ],
      ['4.10 durable, lazy', { flags: DURABLE, entries: [entry('x-queue-mode', longstr('lazy'))] }],
    ])('%s works through the proxy', async (row, declare) => {
      await ready();
      await using legacy = await client(at.through, virtualHost);
      const answer = await legacy.ask(queueDeclare({ name: row, ...declare }));
      expect(answer).toMatch(/^queue\.declare-ok .+ 0 0$/);
    });

    it('8.10 what was declared there without a type is a quorum queue to everybody', async () => {
      await ready();
      const name = 'ours';
      const ok = `queue.declare-ok ${name} 0 0`;
      await using direct = await client(at.direct, virtualHost);
      expect(await direct.ask(queueDeclare({ name, flags: DURABLE }))).toBe(ok);
      await using legacy = await client(at.through, virtualHost);
      for (const other of Object.values(LASTING))
        expect(await legacy.ask(queueDeclare({ name, ...other }))).toBe(ok);
      for (const modern of [{ flags: DURABLE }, MODERN])
        expect(await direct.ask(queueDeclare({ name, ...modern }))).toBe(ok);
    });

    it('1.16, 4.9 directly the broker refuses what it took in other vhosts, and 4.3 what it refuses there', async () => {
      await ready();
      await using transient = await client(at.direct, virtualHost);
      expect(await transient.ask(queueDeclare({ name: 'transient' }))).toMatch(
        version === '4.3' ? /^connection\.close 541 INTERNAL_ERROR/ : /^queue\.declare-ok/,
      );
      await using direct = await client(at.direct, virtualHost);
      expect(await direct.ask(queueDeclare({ name: '', flags: DURABLE }))).toMatch(
        /^channel\.close 406 .*Cannot declare a server-named queue for type rabbit_quorum_queue/,
      );
      direct.send(channelCloseOk(1));
      await direct.channels(1);
      const entries = [entry('x-max-priority', { tag: 'I', value: 3 })];
      expect(await direct.ask(queueDeclare({ name: 'direct', flags: DURABLE, entries }))).toMatch(
        /^channel\.close 406 .*invalid arg 'x-max-priority'/,
      );
    });
  });
});
