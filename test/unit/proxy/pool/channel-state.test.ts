import { describe, expect, it } from 'vitest';
import { FRAME_BODY, FRAME_HEADER, FRAME_METHOD, METHOD } from '../../../../amqp/constants.ts';
import { ChannelState } from '../../../../proxy/pool/channel-state.ts';
import {
  basicConsume,
  basicQos,
  entry,
  frame,
  longstr,
  method,
  queueDeclare,
  shortstr,
} from '../../../support/amqp-frames.ts';
import {
  basicAck,
  basicCancel,
  basicGet,
  basicRecover,
  confirmSelect,
  prefetch,
  queueBind,
  queueDelete,
} from '../../../support/amqp-methods.ts';

const DURABLE = 2;
const EXCLUSIVE = 4;
const NO_WAIT = 16;

const PUBLISH = method(
  1,
  60,
  40,
  Buffer.concat([Buffer.alloc(2), shortstr(''), shortstr('q'), Buffer.of(0)]),
);

function sent(state: ChannelState, ...frames: Buffer[]): void {
  for (const octets of frames) state.sent(octets.readUInt32BE(7), octets, 0, octets.length);
}

function heard(state: ChannelState, ...frames: Buffer[]): void {
  for (const octets of frames) {
    const type = octets[0]!;
    state.heard(type, type === FRAME_METHOD ? octets.readUInt32BE(7) : 0, octets, 0, octets.length);
  }
}

function tag(number: number | bigint, flags = 0): Buffer {
  const octets = Buffer.alloc(9);
  octets.writeBigUInt64BE(BigInt(number));
  octets[8] = flags;
  return octets;
}

function header(size: number, properties = Buffer.alloc(2)): Buffer {
  const octets = Buffer.alloc(12);
  octets.writeUInt16BE(60);
  octets.writeBigUInt64BE(BigInt(size), 4);
  return frame(FRAME_HEADER, 1, Buffer.concat([octets, properties]));
}

function deliver(consumer: string, number: number): Buffer {
  return method(1, 60, 60, Buffer.concat([shortstr(consumer), tag(number), shortstr(''), shortstr('q')]));
}

function getOk(number: number): Buffer {
  return method(1, 60, 71, Buffer.concat([tag(number), shortstr(''), shortstr('q'), Buffer.alloc(4)]));
}

const declareOk = (name: string): Buffer =>
  method(1, 50, 11, Buffer.concat([shortstr(name), Buffer.alloc(8)]));
const consumeOk = (name: string): Buffer => method(1, 60, 21, shortstr(name));
const confirmed = (number: number, multiple = false): Buffer =>
  method(1, 60, 80, tag(number, multiple ? 1 : 0));
const body = (text: string): Buffer => frame(FRAME_BODY, 1, Buffer.from(text));

/** In the order of the specification: class.method, with what a test asks about. */
function told(octets: Uint8Array): string {
  const buffer = Buffer.from(octets);
  return `${buffer.readUInt16BE(1)}: ${buffer.readUInt16BE(7)}.${buffer.readUInt16BE(9)} ${buffer.toString('hex', 11, buffer.length - 1)}`;
}

describe('a channel that may be given to another client', () => {
  it('is one that nothing was sent on', () => {
    const state = new ChannelState({ resume: false });
    expect([state.isReusable, state.isRestorable, state.hasPublished]).toEqual([true, true, false]);
  });

  it('has only published and got without acknowledgements, and has got all of it', () => {
    const state = new ChannelState({ resume: false });
    sent(state, PUBLISH, basicGet(1, 'q'));
    expect(state.isReusable).toBe(false);
    heard(state, getOk(1));
    expect([state.midContent, state.isReusable, state.isRestorable]).toEqual([true, false, false]);
    heard(state, header(5), body('abc'));
    expect([state.midContent, state.isReusable, state.isRestorable]).toEqual([true, false, false]);
    heard(state, body('de'));
    expect([state.midContent, state.isReusable, state.isRestorable]).toEqual([false, true, true]);
    expect(state.lastDelivery).toBe(1);
  });

  it.each([
    ['a declare, since an empty name means its queue', [queueDeclare({})], [declareOk('q')]],
    ['prefetch', [prefetch(1, 1, false)], [method(1, 60, 11)]],
    ['confirm mode', [confirmSelect(1)], [method(1, 85, 11)]],
    ['a transaction', [method(1, 90, 10)], [method(1, 90, 11)]],
    ['channel.flow', [method(1, 20, 20, Buffer.of(1))], [method(1, 20, 21, Buffer.of(1))]],
    ['a get to be acknowledged', [basicGet(1, 'q', false)], [getOk(1), header(0)]],
    [
      'a get to be acknowledged that got nothing',
      [basicGet(1, 'q', false)],
      [method(1, 60, 72, shortstr(''))],
    ],
    ['a binding', [queueBind(1, 'q', 'x', '')], [method(1, 50, 21)]],
    ['flow of the broker', [], [method(1, 20, 20, Buffer.of(0))]],
    ['an acknowledgement of nothing', [basicAck(1, 1)], []],
    ['a method that nobody knows', [method(1, 77, 10)], []],
  ])('is none with %s', (_, client, broker) => {
    const state = new ChannelState({ resume: true });
    sent(state, ...client);
    heard(state, ...broker);
    expect(state.isReusable).toBe(false);
  });

  it('goes on counting deliveries, and the next client gets them from 1 on', () => {
    const state = new ChannelState({ resume: false });
    state.follow(41);
    sent(state, basicGet(1, 'q', false));
    const got = getOk(42);
    heard(state, got, header(0));
    expect(got).toEqual(getOk(1));
    const ack = basicAck(1, 1);
    expect(state.outgoing(METHOD.basicAck, ack, 0, ack.length)).toBe(true);
    expect(ack).toEqual(basicAck(1, 42));
    sent(state, ack);
    expect(state.isRestorable).toBe(true);
  });
});

describe('a channel that can be made anew', () => {
  it('is one with configuration only, which is sent again', () => {
    const state = new ChannelState({ resume: false });
    sent(
      state,
      prefetch(1, 9, false),
      prefetch(1, 7, false),
      prefetch(1, 5, true),
      confirmSelect(1),
      queueDeclare({ name: '', flags: DURABLE }),
    );
    expect(state.isRestorable).toBe(false);
    heard(
      state,
      method(1, 60, 11),
      method(1, 60, 11),
      method(1, 60, 11),
      method(1, 85, 11),
      declareOk('amq.gen-1'),
    );
    expect(state.isRestorable).toBe(true);
    expect(state.restore(300).map((one) => [told(one.frame), one.answer])).toEqual([
      ['300: 85.10 00', METHOD.confirmSelectOk],
      [`300: 50.10 000009${Buffer.from('amq.gen-1').toString('hex')}0100000000`, METHOD.queueDeclareOk],
      ['300: 60.10 00000000000501', METHOD.basicQosOk],
      ['300: 60.10 00000000000700', METHOD.basicQosOk],
    ]);
  });

  it.each([
    ['an exclusive queue', [queueDeclare({ flags: EXCLUSIVE })], [declareOk('q')]],
    [
      'a queue whose name only the broker knows',
      [queueDeclare({ name: '', flags: NO_WAIT }), queueBind(1, 'q', 'x', '')],
      [method(1, 50, 21)],
    ],
    [
      'the queue declared last deleted',
      [queueDeclare({}), queueDelete(1, '')],
      [declareOk('q'), method(1, 50, 41, Buffer.alloc(4))],
    ],
    [
      'a bind that was not proven done',
      [queueBind(1, 'q', 'x', ''), queueDeclare({ flags: NO_WAIT })],
      [method(1, 50, 21)],
    ],
    ['flow of the broker', [], [method(1, 20, 20, Buffer.of(1))]],
    ['recover-async, whose effect nobody tells', [method(1, 60, 100, Buffer.of(1))], []],
    ['an answer to nothing', [], [method(1, 60, 11)]],
    [
      'a consumer without an answer whose tag nobody knows',
      [basicConsume({ flags: 8 }), basicQos(0, 1, 0)],
      [method(1, 60, 11)],
    ],
    [
      'a delivery that counts backwards',
      [basicGet(1, 'q'), basicGet(1, 'q')],
      [getOk(2), header(0), getOk(1), header(0)],
    ],
  ])('is none with %s', (_, client, broker) => {
    const state = new ChannelState({ resume: true });
    sent(state, ...client);
    heard(state, ...broker);
    expect([state.isAsking, state.isRestorable, state.isResumable]).toEqual([false, false, false]);
    expect(() => state.restore(1)).toThrow("can't be made anew");
  });

  it('is one behind an answer that proves what has none', () => {
    const state = new ChannelState({ resume: false });
    sent(state, queueDeclare({ flags: NO_WAIT }), queueBind(1, 'q', 'x', ''));
    heard(state, method(1, 50, 21));
    expect(state.isRestorable).toBe(true);
  });

  it('is one in a transaction mode without a transaction', () => {
    const state = new ChannelState({ resume: true });
    sent(state, method(1, 90, 10), PUBLISH);
    heard(state, method(1, 90, 11));
    expect(state.isRestorable).toBe(false);
    sent(state, method(1, 90, 20));
    heard(state, method(1, 90, 21));
    expect([state.isRestorable, state.isResumable]).toEqual([true, false]);
    expect(state.restore(1).map(({ answer }) => answer)).toEqual([METHOD.txSelectOk]);
  });

  it('is none when what a transaction acknowledged may come back', () => {
    const state = new ChannelState({ resume: true });
    sent(state, method(1, 90, 10), basicGet(1, 'q', false));
    heard(state, method(1, 90, 11), getOk(1), header(0));
    sent(state, basicAck(1, 1), method(1, 90, 30));
    heard(state, method(1, 90, 31));
    expect([state.isAsking, state.isRestorable, state.isResumable]).toEqual([false, false, false]);
  });

  it('is one again when all was acknowledged', () => {
    const state = new ChannelState({ resume: false });
    sent(state, basicConsume({ tag: 't' }));
    heard(
      state,
      consumeOk('t'),
      deliver('t', 1),
      header(0),
      deliver('t', 2),
      header(0),
      deliver('t', 3),
      header(0),
    );
    sent(state, basicCancel(1, 't'));
    heard(state, method(1, 60, 31, shortstr('t')));
    sent(state, method(1, 60, 80, tag(2, 1)));
    expect(state.isRestorable).toBe(false);
    sent(state, basicAck(1, 9), method(1, 60, 80, tag(9, 1))); // refused by the broker
    expect(state.isRestorable).toBe(false);
    sent(state, basicAck(1, 3));
    expect(state.isRestorable).toBe(true);
  });
});

describe('consumers', () => {
  const headers = Buffer.concat([Buffer.of(0x20, 0), Buffer.alloc(4), shortstr('x-stream-offset')]);

  it.each([
    ['an exclusive one', basicConsume({ tag: 't', flags: 4 }), header(0)],
    [
      'one that begins in a stream',
      basicConsume({ tag: 't', entries: [entry('x-stream-offset', longstr('first'))] }),
      header(0),
    ],
    [
      'one of direct reply-to',
      basicConsume({ tag: 't', name: 'amq.rabbitmq.reply-to', flags: 2 }),
      header(0),
    ],
    ['one that a stream delivers to', basicConsume({ tag: 't' }), header(0, headers)],
  ])("can't be made anew: %s", (_, consume, content) => {
    const state = new ChannelState({ resume: true });
    sent(state, consume);
    heard(state, consumeOk('t'), deliver('t', 1), content);
    expect(state.isResumable).toBe(false);
  });

  it('are made anew only where that is asked for', () => {
    for (const resume of [false, true]) {
      const state = new ChannelState({ resume });
      sent(state, basicConsume({ tag: '', flags: 2 }));
      expect(state.isStarting('')).toBe(true);
      heard(state, consumeOk('made'));
      expect([state.hasConsumer('made'), state.isStarting(''), state.isRestorable]).toEqual([
        true,
        false,
        false,
      ]);
      expect([...state.consumerTags]).toEqual(['made']);
      expect(state.isResumable).toBe(resume);
    }
  });

  it('are started in their order, each under its prefetch, on the queue that an empty name meant', () => {
    const state = new ChannelState({ resume: true });
    sent(
      state,
      queueDeclare({ name: '' }),
      prefetch(1, 1, false),
      basicConsume({ name: '', tag: 'a', flags: 8 }),
      queueDeclare({ name: 'r' }),
      prefetch(1, 2, false),
      basicConsume({ name: '', tag: '' }),
      prefetch(1, 3, false),
    );
    heard(
      state,
      declareOk('made'),
      method(1, 60, 11),
      declareOk('r'),
      method(1, 60, 11),
      method(1, 60, 11),
      consumeOk('b'),
    );
    const restorations = state.restore(2).map(({ frame: octets }) => Buffer.from(octets));
    expect(restorations.map((octets) => octets.readUInt32BE(7))).toEqual([
      METHOD.queueDeclare,
      METHOD.basicQos,
      METHOD.basicConsume,
      METHOD.basicQos,
      METHOD.basicConsume,
      METHOD.basicQos,
    ]);
    expect(restorations[2]).toEqual(basicConsume({ channel: 2, name: 'made', tag: 'a' }));
    expect(restorations[4]).toEqual(basicConsume({ channel: 2, name: 'r', tag: 'b' }));
  });
});

describe('a consumer that the broker cancels', () => {
  const cancelled = method(1, 60, 30, Buffer.concat([shortstr('t'), Buffer.of(1)]));

  it('is gone', () => {
    const state = new ChannelState({ resume: false });
    sent(state, basicConsume({ tag: 't', flags: 2 }));
    heard(state, consumeOk('t'), cancelled);
    expect([state.hasConsumer('t'), state.hasConsumers, state.isRestorable]).toEqual([false, false, true]);
  });

  it.each([0, 8])('is the old one while it may be the one that was cancelled before (flags %i)', (flags) => {
    const state = new ChannelState({ resume: false });
    sent(state, basicConsume({ tag: 't', flags: 2 }));
    heard(state, consumeOk('t'));
    sent(state, basicCancel(1, 't', { noWait: flags === 8 }), basicConsume({ tag: 't', flags: 2 | flags }));
    heard(state, cancelled);
    expect([state.hasConsumer('t'), state.hasConsumers, state.isRestorable]).toEqual([true, true, false]);
  });

  it("can't be made anew while it isn't known which of two was cancelled", () => {
    const state = new ChannelState({ resume: true });
    sent(state, basicConsume({ tag: 't' }), basicCancel(1, 't'), basicConsume({ tag: 't' }));
    heard(state, consumeOk('t'), consumeOk('t'));
    heard(state, cancelled, method(1, 60, 31, shortstr('t')));
    expect([state.hasConsumer('t'), state.isResumable]).toEqual([true, false]);
  });

  it('is unknown where two of its tag are being cancelled', () => {
    const state = new ChannelState({ resume: false });
    const again = [basicCancel(1, 't'), basicConsume({ tag: 't', flags: 2 })];
    sent(state, basicConsume({ tag: 't', flags: 2 }), ...again, ...again);
    const cancelOk = method(1, 60, 31, shortstr('t'));
    heard(state, consumeOk('t'), cancelOk, consumeOk('t'), cancelled, cancelOk, consumeOk('t'));
    expect([state.hasConsumers, state.isRestorable]).toEqual([true, false]);
  });

  it('is the new one where the old one is known to be gone', () => {
    const state = new ChannelState({ resume: false });
    sent(
      state,
      basicConsume({ tag: 't', flags: 2 }),
      basicCancel(1, 't', { noWait: true }),
      basicConsume({ tag: 't', flags: 10 }),
      basicQos(0, 1, 0),
    );
    heard(state, consumeOk('t'), cancelled);
    expect([state.hasConsumer('t'), state.isRestorable]).toEqual([true, false]);
    heard(state, method(1, 60, 11), cancelled);
    expect([state.hasConsumer('t'), state.isRestorable]).toEqual([false, true]);
  });
});

describe('publishes without an answer', () => {
  it('are nacked to the client, each run between answered ones in a frame', () => {
    const state = new ChannelState({ resume: false });
    sent(state, PUBLISH, confirmSelect(1), ...Array.from({ length: 9 }, () => PUBLISH));
    heard(state, method(1, 85, 11), confirmed(2, true), confirmed(5), confirmed(7), confirmed(9));
    expect([state.confirms, state.unconfirmed, state.isRestorable]).toEqual([true, 4, false]);
    expect(state.lost(7).map(told)).toEqual([
      '7: 60.120 000000000000000401',
      '7: 60.120 000000000000000600',
      '7: 60.120 000000000000000800',
    ]);
    expect([state.unconfirmed, state.isRestorable, state.lost(7)]).toEqual([0, true, []]);
    state.restore(1);
    sent(state, PUBLISH);
    const ack = confirmed(1);
    heard(state, ack);
    expect(ack).toEqual(confirmed(10));
    expect(state.unconfirmed).toBe(0);
  });

  it("don't take an answer of what was never published", () => {
    const state = new ChannelState({ resume: false });
    sent(state, confirmSelect(1), PUBLISH);
    heard(state, method(1, 85, 11), method(1, 60, 80, tag(2n ** 64n - 1n, 1)));
    expect([state.unconfirmed, state.isRestorable]).toEqual([1, false]);
  });
});

describe('what clients say of deliveries', () => {
  function resumed(): ChannelState {
    const state = new ChannelState({ resume: true });
    sent(state, basicConsume({ tag: 't' }));
    heard(state, consumeOk('t'), deliver('t', 1), header(0), deliver('t', 2), header(0));
    state.lost(1);
    state.restore(1);
    return state;
  }
  const passes = (state: ChannelState, octets: Buffer): boolean =>
    state.outgoing(octets.readUInt32BE(7), octets, 0, octets.length);

  it('goes nowhere where all of it is of before the loss', () => {
    const state = resumed();
    expect(passes(state, basicAck(1, 2))).toBe(false);
    expect(passes(state, method(1, 60, 80, tag(0, 1)))).toBe(false);
    expect(passes(state, method(1, 60, 120, tag(2, 3)))).toBe(false);
    expect(passes(state, basicQos(0, 1, 0))).toBe(true);
    const first = deliver('t', 1);
    heard(state, first, header(0));
    expect(first.readBigUInt64BE(13)).toBe(3n);
    expect(first[21]).toBe(1);
    expect(passes(state, method(1, 60, 80, tag(0, 1)))).toBe(true);
    const reject = method(1, 60, 90, tag(3, 1));
    expect(passes(state, reject)).toBe(true);
    expect(reject).toEqual(method(1, 60, 90, tag(1, 1)));
  });

  it('leaves as many to be marked as redelivered as were not acknowledged', () => {
    const state = new ChannelState({ resume: true });
    sent(state, basicConsume({ tag: 't' }));
    heard(state, consumeOk('t'), ...[1, 2, 3].flatMap((number) => [deliver('t', number), header(0)]));
    sent(state, method(1, 60, 80, tag(2, 1)));
    state.lost(1);
    state.restore(1);
    const again = [deliver('t', 1), deliver('t', 2)];
    heard(state, again[0]!, header(0), again[1]!, header(0));
    expect(again.map((octets) => [octets.readBigUInt64BE(13), octets[21]])).toEqual([
      [4n, 1],
      [5n, 0],
    ]);
  });

  it('is nothing any more when all was put back', () => {
    const state = new ChannelState({ resume: false });
    sent(state, basicGet(1, 'q', false));
    heard(state, getOk(1), header(0));
    sent(state, basicRecover(1));
    expect(state.isRestorable).toBe(false);
    heard(state, method(1, 60, 111));
    expect(state.isRestorable).toBe(true);
  });

  it('is left to the broker where the tag is made up', () => {
    const ack = method(1, 60, 80, tag(2n ** 64n - 1n));
    expect(passes(resumed(), ack)).toBe(true);
    expect(ack).toEqual(method(1, 60, 80, tag(2n ** 64n - 1n)));
  });
});

describe("the broker's frames", () => {
  it.each([
    ['a body without a header', [getOk(1), body('a')], 505],
    ['more body than was announced', [getOk(1), header(1), body('ab')], 505],
    ['a method amid content', [getOk(1), method(1, 60, 11)], 505],
    ['a header out of nowhere', [header(0)], 505],
    ['a header cut off', [getOk(1), frame(FRAME_HEADER, 1, Buffer.alloc(3))], 505],
    ['a delivery cut off', [method(1, 60, 60, Buffer.concat([shortstr('t'), Buffer.alloc(8)]))], 502],
    ['a get-ok cut off', [method(1, 60, 71, Buffer.alloc(8))], 502],
    ['a confirm cut off', [method(1, 60, 80, Buffer.alloc(8))], 502],
    ['a name cut off', [method(1, 60, 21, Buffer.of(9))], 502],
  ])('are refused: %s', (_, frames, replyCode) => {
    const state = new ChannelState({ resume: true });
    sent(state, basicGet(1, 'q'));
    expect(() => heard(state, ...frames)).toThrow(expect.objectContaining({ replyCode }));
  });
});
