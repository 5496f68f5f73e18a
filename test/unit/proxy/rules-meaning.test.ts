import { describe, expect, it } from 'vitest';
import { ruleFor } from '../../../proxy/rules/index.ts';
import type { MeaningChange } from '../../../proxy/rules/rule.ts';
import {
  basicConsume,
  basicQos,
  type Entry,
  entry,
  exchangeDeclare,
  longstr,
  method,
  queueDeclare,
  readQueueDeclare,
} from '../../support/amqp-frames.ts';
import { ruleContext } from '../../support/rule-context.ts';

/** As in rules.test.ts, the numbers are rows of what brokers answered to legacy clients. */

const DURABLE = 2;
const EXCLUSIVE = 4;
const AUTO_DELETE = 8;
const NO_WAIT = 16;

const QUORUM = entry('x-queue-type', longstr('quorum'));
const EXPIRES = entry('x-expires', { tag: 'I', value: 1_800_000 });
const PRIORITY = entry('x-max-priority', { tag: 'I', value: 10 });
const LIMIT = entry('x-delivery-limit', { tag: 'I', value: -1 });
const MODE = entry('x-queue-mode', longstr('lazy'));
const FAILOVER = entry('x-cancel-on-ha-failover', { tag: 't', value: 1 });

function rewrite(frame: Buffer, broker = '4.0'): { edited: Buffer; same: boolean; changes: MeaningChange[] } {
  const context = ruleContext(broker);
  const edited = ruleFor(frame.readUInt32BE(7))!.rewrite(frame, context);
  return { edited: Buffer.from(edited), same: edited === frame, changes: context.changes };
}

describe('queue.declare of a queue without a name', () => {
  const cases: [row: string, flags: number, entries: Entry[], after: Entry[]][] = [
    ['1.14 d=0 e=0 a=0', 0, [], [QUORUM, EXPIRES]],
    ['1.14 d=0 e=0 a=1', AUTO_DELETE, [], [QUORUM, EXPIRES]],
    ['1.14 no-wait', NO_WAIT, [], [QUORUM, EXPIRES]],
    [
      '1.14 with a lifetime of its own',
      0,
      [entry('x-expires', { tag: 'l', value: 5n })],
      [entry('x-expires', { tag: 'l', value: 5n }), QUORUM],
    ],
    ['1.15 durable', DURABLE, [], [QUORUM]],
    ['1.15 durable, auto-delete', DURABLE | AUTO_DELETE, [], [QUORUM, EXPIRES]],
    ['1.14 type classic', 0, [entry('x-queue-type', longstr('classic'))], [QUORUM, EXPIRES]],
  ];

  it.each(cases)('%s: a durable quorum queue with a name of the proxy', (_row, flags, entries, after) => {
    const { edited, changes } = rewrite(queueDeclare({ name: '', flags, entries, channel: 7 }));
    const { name, flags: flagsAfter, entries: entriesAfter } = readQueueDeclare(edited);
    expect(name.toString()).toMatch(/^quorumbridge\.gen-[\w-]{22}$/);
    expect(flagsAfter).toBe((flags | DURABLE) & ~AUTO_DELETE);
    expect(entriesAfter).toEqual(after);
    expect(edited.readUInt16BE(1)).toBe(7);
    expect(changes).toContain('server-named');
  });

  it('gets another name each time', () => {
    const names = Array.from(
      { length: 100 },
      () => readQueueDeclare(rewrite(queueDeclare({ name: '' })).edited).name,
    );
    expect(new Set(names.map(String)).size).toBe(100);
  });
});

describe('basic.qos', () => {
  it.each([
    ['5.3 global becomes one for each consumer', basicQos(0, 5, 1), basicQos(0, 5, 0), ['global-prefetch']],
    ['5.3 not global is left alone', basicQos(0, 5, 0), undefined, []],
    ['5.4 global without a limit is left alone', basicQos(0, 0, 1), undefined, []],
    [
      '5.4 a prefetch size is kept, for the broker to refuse',
      basicQos(100, 5, 1),
      basicQos(100, 5, 0),
      ['global-prefetch'],
    ],
  ] as const)('%s', (_row, frame, after, changes) => {
    const result = rewrite(frame);
    expect(result.same).toBe(after === undefined);
    expect(result.edited).toEqual(after ?? frame);
    expect(result.changes).toEqual(changes);
  });

  it('5.3 global is left to RabbitMQ 4.3, which takes it for one per consumer itself, and is told as that', () => {
    const { same, changes } = rewrite(basicQos(0, 5, 1), '4.3');
    expect(same).toBe(true);
    expect(changes).toEqual(['global-prefetch']);
  });

  it.each([6, 8])('of %i octets is malformed', (length) => {
    expect(() => rewrite(method(1, 60, 10, Buffer.alloc(length)))).toThrow(
      expect.objectContaining({ replyCode: 502 }),
    );
  });
});

describe('basic.consume', () => {
  it('5.6 is sent to RabbitMQ 3 without x-cancel-on-ha-failover, and every other octet as it was', () => {
    const other = entry('x-priority', { tag: 's', value: 3 });
    const consume = { name: 'queue', tag: 'tag', flags: 6 };
    const { edited, changes } = rewrite(basicConsume({ ...consume, entries: [FAILOVER, other] }), '3.10');
    expect(edited).toEqual(basicConsume({ ...consume, entries: [other] }));
    expect(changes).toEqual([]);
  });

  it('5.6 is left alone on RabbitMQ 4, which ignores x-cancel-on-ha-failover', () => {
    expect(rewrite(basicConsume({ tag: 'tag', entries: [FAILOVER] }), '4.0').same).toBe(true);
  });

  it('is otherwise left alone', () => {
    expect(rewrite(basicConsume({ tag: 'tag', entries: [EXPIRES] }), '3.10').same).toBe(true);
  });
});

describe('a change of meaning', () => {
  it.each<[string, Buffer, MeaningChange[]]>([
    ['a transient queue', queueDeclare({}), ['delivery-limit']],
    ['auto-delete', queueDeclare({ flags: AUTO_DELETE }), ['delivery-limit', 'auto-delete']],
    ['x-max-priority', queueDeclare({ entries: [PRIORITY] }), ['priority', 'delivery-limit']],
    [
      'reject-publish-dlx',
      queueDeclare({ entries: [entry('x-overflow', longstr('reject-publish-dlx'))] }),
      ['overflow-dead-letter', 'delivery-limit'],
    ],
    [
      'all of them',
      queueDeclare({
        flags: AUTO_DELETE,
        entries: [PRIORITY, entry('x-overflow', longstr('reject-publish-dlx'))],
      }),
      ['priority', 'overflow-dead-letter', 'delivery-limit', 'auto-delete'],
    ],
  ])('is reported: %s', (_name, frame, changes) => {
    expect(rewrite(frame).changes).toEqual(changes);
  });

  it.each<[string, Buffer]>([
    ['a delivery limit of its own', queueDeclare({ entries: [LIMIT, MODE] })],
    ['a quorum queue already', queueDeclare({ entries: [QUORUM, MODE] })],
    ['an exclusive queue with priorities', queueDeclare({ flags: EXCLUSIVE, entries: [PRIORITY] })],
    ['a transient exchange', exchangeDeclare({})],
  ])('is not reported where there is none: %s', (_name, frame) => {
    expect(rewrite(frame).changes).toEqual([]);
  });

  it('5.1 is not a delivery limit before RabbitMQ 4, where messages are requeued for ever', () => {
    expect(rewrite(queueDeclare({}), '3.10').changes).toEqual([]);
  });
});

describe('by the version of the broker', () => {
  const locator = queueDeclare({
    flags: EXCLUSIVE,
    entries: [entry('x-queue-master-locator', longstr('min-masters'))],
  });

  it.each(['3.10', '4.0'])('4.13 an exclusive queue keeps its x-queue-master-locator on %s', (broker) => {
    expect(rewrite(locator, broker).same).toBe(true);
  });

  it.each(['4.1', '4.2', '4.3', '5.0'])('4.13 it loses it on %s', (broker) => {
    expect(rewrite(locator, broker).edited).toEqual(queueDeclare({ flags: EXCLUSIVE }));
  });

  it('declares are left alone before RabbitMQ 3.8, which has no quorum queues', () => {
    expect(rewrite(queueDeclare({}), '3.7').same).toBe(true);
    expect(rewrite(queueDeclare({}), '3.8').same).toBe(false);
  });
});
