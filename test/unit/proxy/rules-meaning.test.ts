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

/** As in rules.test.ts, the numbers are rows of what brokers answered to legacy clients. */

const DURABLE = 2;
const EXCLUSIVE = 4;
const AUTO_DELETE = 8;
const NO_WAIT = 16;

const QUORUM = entry('x-queue-type', longstr('quorum'));
const EXPIRES = entry('x-expires', { tag: 'I', value: 1_800_000 });
const PRIORITY = entry('x-max-priority', { tag: 'I', value: 10 });
const FAILOVER = entry('x-cancel-on-ha-failover', { tag: 't', value: 1 });

function rewrite(frame: Buffer): { edited: Buffer; same: boolean; changes: MeaningChange[] } {
  const changes: MeaningChange[] = [];
  const edited = ruleFor(frame.readUInt32BE(7))!.rewrite(frame, (change) => changes.push(change));
  return { edited: Buffer.from(edited), same: edited === frame, changes };
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

  it.each([6, 8])('of %i octets is malformed', (length) => {
    expect(() => rewrite(method(1, 60, 10, Buffer.alloc(length)))).toThrow(
      expect.objectContaining({ replyCode: 502 }),
    );
  });
});

describe('basic.consume', () => {
  it('5.6 is sent without x-cancel-on-ha-failover, and every other octet as it was', () => {
    const other = entry('x-priority', { tag: 's', value: 3 });
    const consume = { name: 'queue', tag: 'tag', flags: 6 };
    const { edited, changes } = rewrite(basicConsume({ ...consume, entries: [FAILOVER, other] }));
    expect(edited).toEqual(basicConsume({ ...consume, entries: [other] }));
    expect(changes).toEqual([]);
  });

  it('is otherwise left alone', () => {
    expect(rewrite(basicConsume({ tag: 'tag', entries: [EXPIRES] })).same).toBe(true);
  });
});

describe('a change of meaning', () => {
  it.each<[string, Buffer, MeaningChange[]]>([
    ['auto-delete', queueDeclare({ flags: AUTO_DELETE }), ['auto-delete']],
    ['x-max-priority', queueDeclare({ entries: [PRIORITY] }), ['priority']],
    [
      'reject-publish-dlx',
      queueDeclare({ entries: [entry('x-overflow', longstr('reject-publish-dlx'))] }),
      ['overflow-dead-letter'],
    ],
    [
      'all of them',
      queueDeclare({
        flags: AUTO_DELETE,
        entries: [PRIORITY, entry('x-overflow', longstr('reject-publish-dlx'))],
      }),
      ['priority', 'overflow-dead-letter', 'auto-delete'],
    ],
  ])('is reported: %s', (_name, frame, changes) => {
    expect(rewrite(frame).changes).toEqual(changes);
  });

  it.each<[string, Buffer]>([
    ['a transient queue', queueDeclare({})],
    ['x-queue-mode', queueDeclare({ entries: [entry('x-queue-mode', longstr('lazy'))] })],
    ['an exclusive queue with priorities', queueDeclare({ flags: EXCLUSIVE, entries: [PRIORITY] })],
    ['a transient exchange', exchangeDeclare({})],
  ])('is not reported where there is none: %s', (_name, frame) => {
    expect(rewrite(frame).changes).toEqual([]);
  });
});
