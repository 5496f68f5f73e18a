// queue.declare of new queues, row by row of the table of what brokers answer to legacy clients: what the broker says
// directly, and that it works through the proxy.
import { describe, expect, it } from 'vitest';
import { basicConsume, type Entry, entry, longstr, queueDeclare } from '../../support/amqp-frames.ts';
import {
  basicGet,
  basicPublish,
  channelCloseOk,
  confirmSelect,
  queueBind,
  queueDelete,
  queuePurge,
} from '../../support/amqp-methods.ts';
import type { BrokerVersion } from '../../support/broker.ts';
import { describeBrokers } from '../../support/describe-brokers.ts';
import { useProxiedBroker } from '../../support/proxied-broker.ts';
import { RawClient } from '../../support/raw-client.ts';

const PASSIVE = 1;
const DURABLE = 2;
const EXCLUSIVE = 4;
const AUTO_DELETE = 8;
const NO_WAIT = 16;

const OK = /^queue\.declare-ok /;
const DENIED = /^connection\.close 541 INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated/s;
const LOCATOR_DENIED =
  /^connection\.close 541 INTERNAL_ERROR - Feature `queue_master_locator` is deprecated/s;

function invalid(property: string): RegExp {
  return new RegExp(`^channel\\.close 406 PRECONDITION_FAILED - invalid property '${property}' for queue`);
}

function illegal(argument: string): RegExp {
  const text = `^channel\\.close 406 PRECONDITION_FAILED - invalid arg '${argument}' for queue '.*' in vhost '/'`;
  return new RegExp(`${text} of queue type rabbit_quorum_queue`);
}

const NAMELESS_QUORUM =
  /^channel\.close 406 PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue/;

const TYPE = { quorum: type('quorum'), classic: type('classic'), none: type('') };

function type(name: string): Entry {
  return entry('x-queue-type', longstr(name));
}

function int(key: string, value: number): Entry {
  return entry(key, { tag: 'I', value });
}

function text(key: string, value: string): Entry {
  return entry(key, longstr(value));
}

interface Row {
  readonly row: string;
  readonly flags: number;
  readonly entries?: readonly Entry[];
  /** Without a name. */
  readonly nameless?: true;
  /** What each broker says without the proxy. */
  readonly directly: Readonly<Record<BrokerVersion, RegExp>>;
}

function everywhere(answer: RegExp): Record<BrokerVersion, RegExp> {
  return { '3.10': answer, '4.0': answer, '4.3': answer };
}

/** Failures on 4.3 alone. */
function since43(answer: RegExp): Record<BrokerVersion, RegExp> {
  return { '3.10': OK, '4.0': OK, '4.3': answer };
}

const ROWS: Row[] = [
  { row: '1.1 transient', flags: 0, directly: since43(DENIED) },
  { row: '1.1 transient, classic', flags: 0, entries: [TYPE.classic], directly: since43(DENIED) },
  { row: '1.2 transient, auto-delete', flags: AUTO_DELETE, directly: since43(DENIED) },
  { row: '1.5 durable, auto-delete', flags: DURABLE | AUTO_DELETE, directly: everywhere(OK) },
  {
    row: '1.7, 11.1 transient, quorum',
    flags: 0,
    entries: [TYPE.quorum],
    directly: { '3.10': invalid('non-durable'), '4.0': invalid('non-durable'), '4.3': DENIED },
  },
  {
    row: '1.8 durable, auto-delete, quorum',
    flags: DURABLE | AUTO_DELETE,
    entries: [TYPE.quorum],
    directly: everywhere(invalid('auto-delete')),
  },
  {
    row: '1.8, 11.1 transient, auto-delete, quorum',
    flags: AUTO_DELETE,
    entries: [TYPE.quorum],
    directly: { '3.10': invalid('.*'), '4.0': invalid('.*'), '4.3': DENIED },
  },
  {
    row: '1.11 durable, its type empty',
    flags: DURABLE,
    entries: [TYPE.none],
    directly: { '3.10': /unsupported queue type/, '4.0': /unsupported queue type/, '4.3': OK },
  },
  {
    row: '1.11 transient, its type empty',
    flags: 0,
    entries: [TYPE.none],
    directly: { '3.10': /unsupported queue type/, '4.0': /unsupported queue type/, '4.3': DENIED },
  },
  { row: '1.14 transient, no name', flags: 0, nameless: true, directly: since43(DENIED) },
  {
    row: '1.14 transient, auto-delete, no name',
    flags: AUTO_DELETE,
    nameless: true,
    directly: since43(DENIED),
  },
  { row: '1.15 durable, no name', flags: DURABLE, nameless: true, directly: everywhere(OK) },
  ...(
    [
      ['4.9', int('x-max-priority', 10)],
      ['4.10', text('x-queue-mode', 'lazy')],
      ['4.11', int('x-queue-version', 2)],
      ['4.12', text('x-queue-master-locator', 'min-masters')],
    ] as const
  ).map(([row, argument]): Row => ({
    row: `${row} ${argument.key.toString()} on a quorum queue`,
    flags: DURABLE,
    entries: [TYPE.quorum, argument],
    directly: everywhere(illegal(argument.key.toString())),
  })),
  {
    row: '4.13 durable, x-queue-master-locator',
    flags: DURABLE,
    entries: [text('x-queue-master-locator', 'min-masters')],
    directly: since43(LOCATOR_DENIED),
  },
  { row: '1.3 exclusive', flags: EXCLUSIVE, directly: everywhere(OK) },
  { row: '1.13 exclusive, no name', flags: EXCLUSIVE, nameless: true, directly: everywhere(OK) },
  ...[true, undefined].flatMap((nameless) =>
    (
      [
        [int('x-queue-version', 1), /^channel\.close 406 .*unsupported queue version '1'/],
        [int('x-consumer-timeout', 60_000), /^channel\.close 406 .*invalid arg 'x-consumer-timeout'/],
        [text('x-queue-master-locator', 'client-local'), LOCATOR_DENIED],
      ] as const
    ).map(([argument, refusal]): Row => ({
      row: `${nameless ? '1.13, 4.13' : '1.3, 4.13'} exclusive, ${argument.key.toString()}${nameless ? ', no name' : ''}`,
      flags: EXCLUSIVE,
      entries: [argument],
      ...(nameless ? { nameless } : {}),
      directly: since43(refusal),
    })),
  ),
];

/** Declares that brokers refused before, too: the client hears what it always heard. */
const REFUSED: (Omit<Row, 'directly'> & { says: RegExp })[] = [
  {
    row: '1.9 exclusive, quorum',
    flags: EXCLUSIVE,
    entries: [TYPE.quorum],
    says: invalid('exclusive-owner'),
  },
  {
    row: '1.10 stream, auto-delete',
    flags: DURABLE | AUTO_DELETE,
    entries: [type('stream')],
    says: invalid('auto-delete'),
  },
  ...['lazy', 'QUORUM'].map((name) => ({
    row: `1.12 the type '${name}'`,
    flags: DURABLE,
    entries: [type(name)],
    says: /unsupported queue type/,
  })),
  {
    row: '1.12 a number as type',
    flags: DURABLE,
    entries: [int('x-queue-type', 7)],
    says: /unacceptable_type,signedint/,
  },
  {
    row: '1.16 durable, quorum, no name',
    flags: DURABLE,
    entries: [TYPE.quorum],
    nameless: true,
    says: NAMELESS_QUORUM,
  },
  {
    row: '4.6 an overflow that there is not',
    flags: DURABLE,
    entries: [TYPE.quorum, text('x-overflow', 'spill')],
    says: /invalid arg 'x-overflow'.*invalid_overflow/,
  },
  {
    row: '4.8 a dead letter key without an exchange',
    flags: DURABLE,
    entries: [TYPE.quorum, text('x-dead-letter-routing-key', 'k')],
    says: /routing_key_but_no_dlx_defined/,
  },
];

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  const at = useProxiedBroker(version);

  async function client(port: number): Promise<RawClient> {
    const opened = await RawClient.connect(port);
    await opened.channels(1);
    return opened;
  }

  /** A message goes into the queue and comes out to a consumer. */
  async function carries(raw: RawClient, queue: string): Promise<void> {
    expect(await raw.ask(confirmSelect(1))).toBe('confirm.select-ok');
    expect(await raw.ask(basicPublish(1, queue, 'carried'))).toBe('basic.ack 1');
    expect(await raw.ask(basicConsume({ name: queue, tag: 'c', flags: 2 }))).toBe('basic.consume-ok c');
    expect(await raw.hear(1)).toBe('basic.deliver c 1 0 carried');
  }

  describe('queue.declare', () => {
    it.each(ROWS)('$row: works through the proxy', async (row) => {
      const { flags, entries = [], directly, nameless } = row;
      const direct = await client(at.direct);
      const named = { flags, entries, name: nameless ? '' : `directly ${row.row}` };
      expect(await direct.ask(queueDeclare(named))).toMatch(directly[version]);
      direct.reset();

      const legacy = await client(at.through);
      const asked = { flags, entries, name: nameless ? '' : `row ${row.row}` };
      const answer = await legacy.ask(queueDeclare(asked));
      expect(answer).toMatch(/ 0 0$/);
      const name = /^queue\.declare-ok (.+) 0 0$/.exec(answer)![1]!;
      // Names that the broker chose were never the client's to declare again (1.17).
      const again = nameless ? { name, flags: PASSIVE } : asked;
      expect(await legacy.ask(queueDeclare(again))).toBe(answer);
      await carries(legacy, name);
      await legacy.close();
    });

    it.each(REFUSED)('$row: is refused as ever', async ({ row, flags, entries = [], nameless, says }) => {
      const frame = queueDeclare({ flags, entries, name: nameless ? '' : row });
      const direct = await client(at.direct);
      const legacy = await client(at.through);
      const refusal = await direct.ask(frame);
      expect(refusal).toMatch(says);
      expect(await legacy.ask(frame)).toBe(refusal);
      await direct.close();
      await legacy.close();
    });

    it('1.20 without waiting: is not answered, and the queue is there for what comes next', async () => {
      await using legacy = await client(at.through);
      const name = 'not waited for';
      legacy.send(
        queueDeclare({ name, flags: NO_WAIT }),
        queueDeclare({ name, flags: NO_WAIT | DURABLE }),
        basicPublish(1, name, 'behind it'),
        basicConsume({ name, tag: 'c', flags: 2 }),
      );
      expect(await legacy.hears(2)).toEqual(['1 basic.consume-ok c', '1 basic.deliver c 1 0 behind it']);
    });

    it('1.20 without waiting, unequal: the channel is closed as with an answer', async () => {
      const refusals: string[] = [];
      for (const flags of [0, NO_WAIT]) {
        await using legacy = await client(at.through);
        expect(await legacy.ask(queueDeclare({ name: 'unequal', flags: DURABLE }))).toMatch(OK);
        refusals.push(
          await legacy.ask(queueDeclare({ name: 'unequal', flags, entries: [int('x-message-ttl', 5)] })),
        );
      }
      expect(refusals[0]).toMatch(
        /^channel\.close 406 PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'unequal'/,
      );
      expect(refusals[1]).toBe(refusals[0]);
    });

    it('1.20 without waiting and without a name: the queue is the one that the empty name means', async () => {
      await using legacy = await client(at.through);
      legacy.send(queueDeclare({ name: '', flags: NO_WAIT }));
      expect(await legacy.ask(queueBind(1, '', 'amq.fanout', 'nameless'))).toBe('queue.bind-ok');
      expect(await legacy.ask(basicConsume({ name: '', tag: 'c', flags: 2 }))).toBe('basic.consume-ok c');
      legacy.send(basicPublish(1, '', 'for all', { exchange: 'amq.fanout' }));
      expect(await legacy.hear(1)).toBe('basic.deliver c 1 0 for all');
      expect(await legacy.ask(queueDelete(1, ''))).toBe('queue.delete-ok 0');
    });

    it('1.21 the empty name is the queue that the channel declared last, named or not', async () => {
      await using legacy = await client(at.through);
      for (const name of ['', 'declared last', '']) {
        const answer = await legacy.ask(queueDeclare({ name }));
        const real = /^queue\.declare-ok (.+) 0 0$/.exec(answer)![1]!;
        expect(await legacy.ask(queueBind(1, '', 'amq.direct', 'one-and-twenty'))).toBe('queue.bind-ok');
        legacy.send(basicPublish(1, 'one-and-twenty', 'x', { exchange: 'amq.direct' }));
        await expect.poll(() => legacy.ask(basicGet(1, ''))).toMatch(/^basic\.get-ok .* x$/);
        expect(await legacy.ask(queuePurge(1, ''))).toBe('queue.purge-ok 0');
        expect(await legacy.ask(queueDeclare({ name: real, flags: PASSIVE }))).toBe(answer);
        expect(await legacy.ask(queueDelete(1, ''))).toBe('queue.delete-ok 0');
        expect(await legacy.ask(queueDeclare({ name: real, flags: PASSIVE }))).toMatch(
          /^channel\.close 404 NOT_FOUND/,
        );
        legacy.send(channelCloseOk(1));
        await legacy.channels(1);
      }
    });
  });
});
