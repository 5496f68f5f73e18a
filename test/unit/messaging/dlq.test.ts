import { PassThrough } from 'node:stream';
import { text as textOf } from 'node:stream/consumers';
import type { ConsumeMessage } from 'amqplib';
import { describe, expect, it } from 'vitest';
import { dlqOptions } from '../../../cli/dlq.ts';
import { parseMessaging } from '../../../messaging/config.ts';
import { parseFilter } from '../../../messaging/dlq/filter.ts';
import { letterOf, propertiesOfRedriven } from '../../../messaging/dlq/letter.ts';
import { ProgressWriter, progressText } from '../../../messaging/dlq/progress.ts';
import { deadLetterQueue, deadLetterQueues } from '../../../messaging/dlq/queues.ts';
import { listText, purgedText, redrivenText, showDocument, showText } from '../../../messaging/dlq/text.ts';
import { EVENTS } from '../../support/messaging-files.ts';

const DIED = 1_700_000_000;

function message(headers: Record<string, unknown>, properties: Record<string, unknown> = {}): ConsumeMessage {
  return {
    content: Buffer.from('secret'),
    fields: { deliveryTag: 1, redelivered: false, exchange: 'dlx', routingKey: 'key', consumerTag: 't' },
    properties: { messageId: 'm', contentType: 'text/plain', headers, ...properties },
  } as unknown as ConsumeMessage;
}

const death = (queue: string, reason = 'rejected', more: Record<string, unknown> = {}) => ({
  queue,
  reason,
  count: 1,
  exchange: 'e',
  'routing-keys': ['k'],
  time: { '!': 'timestamp', value: DIED },
  ...more,
});

describe('queues for dead letters', () => {
  it('are found with all queues whose dead letters they get', () => {
    const config = parseMessaging('m.yaml', EVENTS, {});
    // Both are bound to the one fanout exchange.
    const feeders = ['user.password.updated', 'user.created'];
    expect(deadLetterQueues(config)).toEqual([
      { name: 'auth.dlq', feeders },
      { name: 'user.created.dlq', feeders },
    ]);
    expect(() => deadLetterQueue(config, 'other')).toThrow(
      'option --queue: the file has no queue other for dead letters; it has auth.dlq, user.created.dlq',
    );
  });

  it('are those bound to an exchange of the file, and those of given arguments, too', () => {
    const text = `exchanges:
  - { name: dead, kind: fanout, queues: [{ name: morgue }] }
  - { name: '', queues: [{ name: a, dlx_name: dead }, { name: b, arguments: { x-dead-letter-exchange: dead } }] }`;
    expect(deadLetterQueues(parseMessaging('m.yaml', text, {}))).toEqual([
      { name: 'morgue', feeders: ['a', 'b'] },
    ]);
    expect(listText([])).toContain('no queues for dead letters');
  });

  it('are listed with what they hold, as far as the broker tells', () => {
    const queue = { name: 'd', feeders: ['a'] };
    expect(listText([{ ...queue, messages: 5, consumers: 0 }])).toBe(
      '"d": 5 messages; dead letters of "a"\n',
    );
    expect(listText([{ ...queue, messages: 5, consumers: 2 }])).toBe(
      '"d": 5 messages, and what its 2 consumers hold; dead letters of "a"\n',
    );
    expect(listText([{ ...queue, messages: undefined, consumers: undefined }])).toBe(
      '"d": is not there; dead letters of "a"\n',
    );
  });
});

describe('a dead letter', () => {
  it('died in the queue whose dead letters come here, whatever it waited in before', () => {
    const headers = { 'x-death': [death('q.retry.5s', 'expired'), death('q'), death('older')] };
    expect(letterOf(message(headers), ['q', 'older'])).toMatchObject({
      isOfFeeder: true,
      death: { queue: 'q', reason: 'rejected', at: DIED * 1000, exchange: 'e', routingKey: 'k' },
    });
    expect(letterOf(message(headers), ['x'])).toMatchObject({
      isOfFeeder: false,
      death: { queue: 'q.retry.5s' },
    });
  });

  it('that a consumer rejected with a reason tells that', () => {
    const rejectedAt = { '!': 'timestamp', value: DIED };
    const headers = { 'x-rejected-queue': 'q', 'x-rejected-reason': 'why', 'x-rejected-at': rejectedAt };
    const letter = letterOf(message(headers), ['q']);
    expect(letter).toMatchObject({
      isOfFeeder: true,
      rejection: 'why',
      death: { queue: 'q', reason: 'rejected', at: DIED * 1000, routingKey: 'key' },
    });
    const isOlder = (now: number) => parseFilter('older-than=1h')(letter, now);
    expect([3_600_000, 3_599_999].map((age) => isOlder(DIED * 1000 + age))).toEqual([true, false]);
  });

  it.each([
    {},
    { 'x-death': 'x' },
    { 'x-death': [null] },
    { 'x-death': [{ count: 'x', time: {} }] },
    { 'x-death': [{ time: { value: 1e18 } }] },
  ])('whose headers %j say nothing is from nowhere', (headers) => {
    const { isOfFeeder, death: nothing } = letterOf(message(headers), ['q']);
    expect([isOfFeeder, nothing.queue, nothing.count, nothing.at]).toEqual([
      false,
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('is redriven as it was, without what counts its attempts', () => {
    const dead = message(
      {
        own: 1,
        CC: ['x'],
        'x-death': [death('q')],
        'x-first-death-queue': 'q',
        'x-delivery-count': 3,
        'x-attempt': 3,
        'x-rejected-reason': 'r',
        'x-rejected-queue': 'q',
        'x-rejected-at': { '!': 'timestamp', value: DIED },
        'x-redriven-count': 2,
      },
      { userId: 'u', expiration: '5', priority: 4, deliveryMode: 2 },
    );
    const properties = propertiesOfRedriven(dead, letterOf(dead, ['q']), 'q.dead');
    expect(properties).toEqual({
      id: expect.any(String),
      mandatory: true,
      messageId: 'm',
      contentType: 'text/plain',
      priority: 4,
      deliveryMode: 2,
      headers: { own: 1, 'x-redriven-count': 3, 'x-redriven-from': 'q.dead', 'x-redriven-id': properties.id },
    });
  });
});

describe('a filter', () => {
  const dead = letterOf(message({ 'x-death': [death('q', 'expired')], n: 5, s: 'a=b', o: {} }), ['q']);
  const now = DIED * 1000 + 3_600_000;

  it.each([
    ['reason=expired', true],
    ['reason=rejected', false],
    ['queue=q', true],
    ['queue=', false],
    ['id=m', true],
    ['id=n', false],
    ['header.n=5', true],
    ['header.s=a=b', true],
    ['header.o=[object Object]', false],
    ['header.constructor=x', false],
    ['older-than=1h', true],
    ['older-than=61m', false],
  ])('%s holds: %s', (text, holds) => {
    expect(parseFilter(text)(dead, now)).toBe(holds);
  });

  it('by age leaves out what does not tell its age', () => {
    expect(parseFilter('older-than=0')(letterOf(message({}), []), now)).toBe(false);
  });

  it.each(['', 'reason', '=x', 'colour=red', 'header.=x', 'older-than=soon', 'older-than=5'])(
    '%j is refused with what is expected',
    (text) => {
      expect(() => parseFilter(text)).toThrow(
        `option --filter: ${JSON.stringify(text)} is not valid: expected reason=WORD, queue=NAME, id=MESSAGEID`,
      );
    },
  );
});

describe('a rate', () => {
  it.each([
    ['50', 50],
    ['0.2', 0.2],
    ['0.001', 0.001],
  ])('%s is one', (text, rate) => {
    expect(dlqOptions.rate.parse(text)).toBe(rate);
  });

  it.each(['0', '-1', '.5', '1e3', '0.0001', '2000000', '5/m', ''])('%j is none', (text) => {
    expect(() => dlqOptions.rate.parse(text)).toThrow('expected a number from 0.001 to 1000000');
  });
});

describe('the texts', () => {
  const letter = letterOf(
    message({ 'x-death': [death('q\u001b[2J', 'expired', { count: 2 })] }, { messageId: '\u202eid' }),
    [],
  );
  const shown = {
    queue: 'dlq',
    found: 3,
    letters: [{ ...letter, position: 2, content: Buffer.from('se\u0007c') }],
  };

  it('have no character that moves the cursor or turns the line', () => {
    expect(showText(shown, true)).toBe(
      `"dlq" holds 3 messages, 1 of them are shown.
2. "\\u{202e}id": expired in queue "q\\u001b[2J" 2 times at 2023-11-14T22:13:20.000Z, from exchange "e", routing key "k"; 6 octets of text/plain
   content: "se\\u0007c"
`,
    );
  });

  it('have contents and headers only where they are asked for', () => {
    expect(showText(shown, false) + showDocument(shown, false)).not.toMatch(/se.{1,6}c|x-death/);
    expect(JSON.parse(showDocument(shown, true))).toMatchObject({
      letters: [{ position: 2, content: 'se\u0007c' }],
    });
  });

  it('tell how a redrive ended', () => {
    const redriven = {
      queue: 'dlq',
      isDryRun: false,
      found: 9,
      matched: 5,
      redriven: { 'queue "a"': 2, 'queue "b"': 1 },
      failed: 2,
      failures: [{ messageId: undefined, reason: 'no\nroute' }],
      ended: 'it was interrupted',
    };
    expect(redrivenText(redriven)).toBe(`Ended early: it was interrupted. What was not redriven is in "dlq".
2 redriven to queue "a"
1 redriven to queue "b"
stays: a message without an id: no\\u{a}route
stay: 1 more
"dlq" held 9 messages: 5 were meant, 3 are redriven, 2 stayed of them.
`);
    expect(redrivenText({ ...redriven, isDryRun: true, ended: undefined })).toContain(
      '2 would be redriven to queue "a"',
    );
  });

  it('say what a purge would take, and what ended it', () => {
    const purged = { queue: 'dlq', found: 9, purged: 4, isDone: true, ended: 'gone' };
    expect(purgedText(purged)).toBe('Ended early: gone.\n4 of 9 messages in "dlq" are purged.\n');
    expect(purgedText({ ...purged, isDone: false })).toContain(
      '4 of 9 messages in "dlq" would be lost for good',
    );
  });
});

describe('progress', () => {
  it('tells how far, how fast and how long', () => {
    expect(progressText(250, 1000, 5000)).toBe('[######------------------] 250 of 1000, 50/s, 15 s left');
    expect(progressText(0, 10, 2000)).toBe('[------------------------] 0 of 10, 0.0/s');
    expect(progressText(3, 10, 500)).toBe('[#######-----------------] 3 of 10');
  });

  it('is a bar in place on a terminal, and a line now and then elsewhere', async () => {
    const written = (isTTY: boolean): Promise<string> => {
      let now = 0;
      const out = Object.assign(new PassThrough(), { isTTY });
      const writer = new ProgressWriter(out, () => now);
      for (let done = 1; done <= 4; done++) {
        now += 2000;
        writer.report('looking', done, 4);
      }
      // What was begun later has its own speed.
      writer.report('giving back', 1, 2);
      now += 5000;
      writer.report('giving back', 2, 2);
      writer.end();
      out.end();
      return textOf(out);
    };
    expect(await written(false)).toMatch(
      /^looking: \[#+-+\] 3 of 4, [^\n]*\ngiving back: \[#+\] 2 of 2, 0\.4\/s, 0 s left\n$/,
    );
    expect(await written(true)).toMatch(
      /^(?:\rlooking: \[[#-]+\] \d of 4, [^\r\n]*){4}\rgiving back: [^\r\n]*\r +\r$/,
    );
  });
});
