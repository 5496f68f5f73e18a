// What quorum queues don't do by themselves: going with their last consumer, and keeping others away from an exclusive one.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  basicConsume,
  entry,
  longstr,
  queueDeclare,
  readQueueDeclare,
  shortstr,
} from '../../support/amqp-frames.ts';
import {
  basicCancel,
  channelClose,
  channelCloseOk,
  connectionClose,
  queueDelete,
} from '../../support/amqp-methods.ts';
import {
  frame,
  method,
  openThrough,
  type Peer,
  readCloseFrame,
  ScriptedBroker,
  startTestProxy,
  type TestProxy,
} from '../../support/peers.ts';

const PASSIVE = 1;
const AUTO_DELETE = 8;
const EXCLUSIVE_QUEUE = 4;
const EXCLUSIVE_CONSUMER = 4;
const NO_WAIT = 8;
/** The channel that is the proxy's: above the client's channel_max. */
const OWN = 11;

let broker: ScriptedBroker;
let proxy: TestProxy;
let client: Peer;
let upstream: Peer;

beforeEach(async () => {
  broker = await new ScriptedBroker().start();
  proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, drainTimeout: '0' });
  ({ client, upstream } = await openThrough(broker, proxy.port, 131_072, OWN - 1));
});

afterEach(async () => {
  await proxy[Symbol.asyncDispose]();
  await broker[Symbol.asyncDispose]();
});

const QUORUM = entry('x-queue-type', longstr('quorum'));
const openOwn = method(OWN, 20, 10, Buffer.of(0));
const passive = queueDeclare({ channel: OWN, name: 'q', flags: PASSIVE });
const cancelOk = (channel: number, tag: string): Buffer => method(channel, 60, 31, shortstr(tag));
const consumeOk = (channel: number, tag: string): Buffer => method(channel, 60, 21, shortstr(tag));
const deleteOk = method(OWN, 50, 41, Buffer.alloc(4));
const consume = (channel: number, tag: string, flags = 0): Buffer =>
  basicConsume({ channel, name: 'q', tag, flags });

function declareOk(consumers: number): Buffer {
  const counts = Buffer.alloc(8);
  counts.writeUInt32BE(consumers, 4);
  return method(OWN, 50, 11, Buffer.concat([shortstr('q'), counts]));
}

function refusal(channel: number, code: number, text: string): Buffer {
  return method(
    channel,
    20,
    40,
    Buffer.concat([Buffer.of(code >> 8, code), shortstr(text), Buffer.alloc(4)]),
  );
}

async function expectSent(...frames: Buffer[]): Promise<void> {
  for (const one of frames) expect(await upstream.frame()).toEqual(one);
}

/** Declares the auto-delete queue q on channel 1; the proxy's channel is open then. */
async function declares(): Promise<void> {
  client.write(queueDeclare({ channel: 1, name: 'q', flags: AUTO_DELETE }));
  await expectSent(openOwn);
  upstream.write(method(OWN, 20, 11, Buffer.alloc(4)));
  expect(readQueueDeclare(await upstream.frame()).flags & PASSIVE).toBe(PASSIVE);
  upstream.write(declareOk(0)); // it exists
  expect(readQueueDeclare(await upstream.frame()).flags & PASSIVE).toBe(0);
  upstream.write(declareOk(0)); // as it is declared
  const { flags } = readQueueDeclare(await upstream.frame());
  expect(flags & AUTO_DELETE).toBe(0);
}

/** A consumer that the broker lets begin. */
async function consumes(channel: number, tag: string): Promise<void> {
  client.write(consume(channel, tag));
  await expectSent(consume(channel, tag));
  upstream.write(consumeOk(channel, tag));
  expect(await client.frame()).toEqual(consumeOk(channel, tag));
}

/** The broker says that nobody consumes from q, and gets and answers queue.delete. */
async function expectDeleted(): Promise<void> {
  await expectSent(passive);
  upstream.write(declareOk(0));
  await expectSent(queueDelete(OWN, 'q'));
  upstream.write(deleteOk);
}

async function expectSilence(peer: Peer): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(peer.received).toEqual(Buffer.alloc(0));
}

describe('6.1 a queue that was declared auto-delete', () => {
  it('is deleted when its last consumer is cancelled, and that is counted', async () => {
    await declares();
    await consumes(1, 'tag');
    client.write(basicCancel(1, 'tag'));
    await expectSent(basicCancel(1, 'tag'));
    upstream.write(cancelOk(1, 'tag'));
    expect(await client.frame()).toEqual(cancelOk(1, 'tag'));
    await expectDeleted();
    await expect.poll(() => proxy.metric('quorumbridge_proxy_queues_deleted_total')).toEqual([' 1']);
  });

  it('stays while the broker counts consumers, which it does a little longer than they live: it is asked again', async () => {
    await declares();
    await consumes(1, 'tag');
    client.write(basicCancel(1, 'tag'));
    await expectSent(basicCancel(1, 'tag'));
    upstream.write(cancelOk(1, 'tag'));
    for (let times = 0; times < 4; times++) {
      await expectSent(passive);
      upstream.write(declareOk(1));
    }
    await expectSilence(upstream);
    // Nothing is held back any more.
    client.write(connectionClose());
    await expectSent(connectionClose());
  });

  it('stays while the proxy knows of another consumer, of whatever connection', async () => {
    await declares();
    await consumes(1, 'tag');
    const other = await openThrough(broker, proxy.port, 131_072, OWN - 1);
    other.client.write(consume(1, 'other'));
    expect(await other.upstream.frame()).toEqual(consume(1, 'other'));
    other.upstream.write(consumeOk(1, 'other'));
    client.write(basicCancel(1, 'tag'));
    await expectSent(basicCancel(1, 'tag'));
    upstream.write(cancelOk(1, 'tag'));
    await expectSilence(upstream);
    other.client.write(channelClose(1));
    expect(await other.upstream.frame()).toEqual(basicCancel(1, 'other'));
    expect(await other.upstream.frame()).toEqual(channelClose(1));
    other.upstream.write(cancelOk(1, 'other'), channelCloseOk(1));
    expect(await other.upstream.frame()).toEqual(openOwn);
  });

  it('is deleted behind a cancel that wants no answer, and the client gets none', async () => {
    await declares();
    await consumes(1, 'tag');
    client.write(basicCancel(1, 'tag', { noWait: true }));
    await expectSent(basicCancel(1, 'tag'));
    upstream.write(cancelOk(1, 'tag'));
    await expectDeleted();
    await expectSilence(client);
  });

  it('is deleted behind a consumer that leaves its tag to the broker', async () => {
    await declares();
    client.write(consume(1, ''));
    const sent = await upstream.frame();
    const tag = sent.toString('latin1', 16, 16 + sent.readUInt8(15));
    expect(tag).toMatch(/^quorumbridge\.ctag-[\w-]{16}$/);
    expect(sent).toEqual(consume(1, tag));
    upstream.write(consumeOk(1, tag));
    expect(await client.frame()).toEqual(consumeOk(1, tag));
    client.write(basicCancel(1, tag));
    await expectSent(basicCancel(1, tag));
    upstream.write(cancelOk(1, tag));
    await expectDeleted();
  });

  it('1.21 is deleted behind a consumer that names it by an empty name', async () => {
    await declares();
    const nameless = basicConsume({ channel: 1, name: '', tag: 'tag' });
    client.write(nameless, basicCancel(1, 'tag'));
    await expectSent(nameless, basicCancel(1, 'tag'));
    upstream.write(consumeOk(1, 'tag'), cancelOk(1, 'tag'));
    await expectDeleted();
  });

  it('is deleted before a declare that the client sends right behind the cancel', async () => {
    await declares();
    await consumes(1, 'tag');
    const again = queueDeclare({ channel: 1, name: 'q', flags: AUTO_DELETE });
    client.write(Buffer.concat([basicCancel(1, 'tag'), again]));
    await expectSent(basicCancel(1, 'tag'));
    await expectSilence(upstream);
    upstream.write(cancelOk(1, 'tag'));
    await expectDeleted();
    const question = await upstream.frame();
    expect([question.readUInt16BE(1), readQueueDeclare(question).flags & PASSIVE]).toEqual([OWN, PASSIVE]);
    upstream.write(refusal(OWN, 404, "NOT_FOUND - no queue 'q' in vhost '/'"));
    await expectSent(method(OWN, 20, 41));
    const declare = await upstream.frame();
    expect(declare.readUInt16BE(1)).toBe(1);
    expect(readQueueDeclare(declare).name.toString()).toBe('q');
  });

  it('is deleted before another connection of the proxy declares it again', async () => {
    await declares();
    await consumes(1, 'tag');
    const other = await openThrough(broker, proxy.port, 131_072, OWN - 1);
    client.socket.resetAndDestroy();
    await expectSent(basicCancel(1, 'tag'));
    upstream.write(cancelOk(1, 'tag'));
    await expectSent(passive);
    other.client.write(queueDeclare({ channel: 1, name: 'q', flags: AUTO_DELETE }));
    await expectSilence(other.upstream);
    upstream.write(declareOk(0));
    await expectSent(queueDelete(OWN, 'q'));
    expect(other.upstream.received).toEqual(Buffer.alloc(0));
    upstream.write(deleteOk);
    expect(await other.upstream.frame()).toEqual(openOwn);
  });

  it('lets another connection go on when the one that was to delete it is lost', async () => {
    await declares();
    await consumes(1, 'tag');
    const other = await openThrough(broker, proxy.port, 131_072, OWN - 1);
    client.socket.resetAndDestroy();
    await expectSent(basicCancel(1, 'tag'));
    upstream.write(cancelOk(1, 'tag'));
    await expectSent(passive);
    other.client.write(queueDeclare({ channel: 1, name: 'q', flags: AUTO_DELETE }));
    await expectSilence(other.upstream);
    upstream.socket.end();
    expect(await other.upstream.frame()).toEqual(openOwn);
  });

  it.each([
    [
      'declared again as one that stays',
      queueDeclare({ channel: 3, name: 'q', flags: 2, entries: [QUORUM] }),
    ],
    ['deleted by a client, and may be another one by now', queueDelete(3, 'q')],
  ])('is left alone when it was %s', async (_what, frame) => {
    await declares();
    client.write(frame);
    await expectSent(frame);
    client.write(consume(1, 'tag'), channelClose(1));
    await expectSent(consume(1, 'tag'), channelClose(1));
    upstream.write(consumeOk(1, 'tag'), channelCloseOk(1));
    expect(await client.frame()).toEqual(consumeOk(1, 'tag'));
    expect(await client.frame()).toEqual(channelCloseOk(1));
    await expectSilence(upstream);
  });

  it('is left alone when it is declared as one that stays before its consumer ends', async () => {
    await declares();
    await consumes(1, 'tag');
    const lasting = queueDeclare({ channel: 3, name: 'q', flags: 2, entries: [QUORUM] });
    client.write(lasting, basicCancel(1, 'tag'));
    await expectSent(lasting, basicCancel(1, 'tag'));
    upstream.write(cancelOk(1, 'tag'));
    await expectSent(passive);
    upstream.write(declareOk(0));
    await expectSilence(upstream);
  });

  it('is deleted when the channel of its last consumers is closed: they are cancelled before', async () => {
    await declares();
    await consumes(1, 'one');
    await consumes(1, 'two');
    client.write(channelClose(1));
    await expectSent(basicCancel(1, 'one'), basicCancel(1, 'two'), channelClose(1));
    upstream.write(cancelOk(1, 'one'), cancelOk(1, 'two'), channelCloseOk(1));
    expect(await client.frame()).toEqual(channelCloseOk(1));
    await expectDeleted();
    await expectSilence(client);
  });

  it('is deleted when the client closes its connection, which waits for that', async () => {
    await declares();
    await consumes(1, 'one');
    await consumes(2, 'two');
    client.write(connectionClose());
    await expectSent(basicCancel(1, 'one'), basicCancel(2, 'two'));
    upstream.write(cancelOk(2, 'two'));
    await expectSilence(upstream);
    upstream.write(cancelOk(1, 'one'));
    await expectDeleted();
    await expectSent(connectionClose());
    expect(client.received).toEqual(Buffer.alloc(0));
  });

  it('is deleted when the connection of its last consumer is lost', async () => {
    await declares();
    await consumes(1, 'tag');
    client.socket.resetAndDestroy();
    await expectSent(basicCancel(1, 'tag'));
    upstream.write(cancelOk(1, 'tag'));
    await expectDeleted();
    expect(readCloseFrame(await upstream.frame()).code).toBe(320);
    await upstream.until('the end', (peer) => peer.ended || peer.closed);
  });

  it('is deleted when the proxy ends the connection, at a drain', async () => {
    await declares();
    await consumes(1, 'tag');
    const drained = proxy.proxy.drain();
    await expectSent(basicCancel(1, 'tag'));
    expect(readCloseFrame(await client.frame()).code).toBe(320);
    upstream.write(cancelOk(1, 'tag'));
    await expectDeleted();
    expect(readCloseFrame(await upstream.frame()).code).toBe(320);
    upstream.socket.end();
    client.socket.end();
    await drained;
  });

  it('is asked about again when the broker has closed the channel and still counts its consumers', async () => {
    await declares();
    await consumes(1, 'tag');
    const closed = refusal(1, 404, 'NOT_FOUND');
    upstream.write(closed);
    expect(await client.frame()).toEqual(closed);
    await expectSent(passive);
    upstream.write(declareOk(1));
    await expectDeleted();
  });

  it('stays when the broker refuses a consumer: it was never consumed from', async () => {
    await declares();
    client.write(consume(1, 'tag'));
    await expectSent(consume(1, 'tag'));
    upstream.write(refusal(1, 403, 'ACCESS_REFUSED'));
    await client.frame();
    await expectSilence(upstream);
  });

  it('is left to its expiry when a frame of the client was cut off', async () => {
    await declares();
    await consumes(1, 'tag');
    const publish = method(
      1,
      60,
      40,
      Buffer.concat([Buffer.alloc(2), shortstr(''), shortstr('k'), Buffer.of(0)]),
    );
    client.write(publish, frame(2, 1, Buffer.alloc(14)).subarray(0, 15));
    await expectSent(publish);
    await upstream.until('half a frame', (peer) => peer.received.length === 15);
    client.socket.resetAndDestroy();
    await upstream.until('the end', (peer) => peer.ended || peer.closed);
  });

  it('that is asked about while the client is in the midst of a frame: behind that frame', async () => {
    await declares();
    await consumes(1, 'tag');
    const publish = method(
      2,
      60,
      40,
      Buffer.concat([Buffer.alloc(2), shortstr(''), shortstr('k'), Buffer.of(0)]),
    );
    const header = frame(2, 2, Buffer.from([0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0]));
    const body = frame(3, 2, Buffer.alloc(200, 0xce));
    client.write(basicCancel(1, 'tag'), publish, header, body.subarray(0, 100));
    await expectSent(basicCancel(1, 'tag'), publish, header);
    await upstream.until('half a frame', (peer) => peer.received.length === 100);
    upstream.write(cancelOk(1, 'tag'));
    await client.frame();
    client.write(body.subarray(100));
    await expectSent(body, passive);
  });

  it('nobody who only consumes from a queue is touched: it was not declared auto-delete here', async () => {
    client.write(consume(1, ''), basicCancel(1, 'x', { noWait: true }), channelClose(1), connectionClose());
    await expectSent(
      consume(1, ''),
      basicCancel(1, 'x', { noWait: true }),
      channelClose(1),
      connectionClose(),
    );
  });
});

describe('5.5 an exclusive consumer', () => {
  let other: Peer;
  let otherUpstream: Peer;

  beforeEach(async () => {
    ({ client: other, upstream: otherUpstream } = await openThrough(broker, proxy.port, 131_072, OWN - 1));
  });

  /** The client asks for an exclusive consumer, where the broker counts so many consumers. */
  async function consumesExclusively(consumers: number): Promise<void> {
    client.write(consume(1, 'tag', EXCLUSIVE_CONSUMER));
    await expectSent(openOwn);
    upstream.write(method(OWN, 20, 11, Buffer.alloc(4)));
    await expectSent(passive);
    upstream.write(declareOk(consumers));
  }

  /** A consumer of another connection is refused: the broker is made to close its channel. */
  async function expectRefused(peer: Peer, at: Peer): Promise<void> {
    const provoking = await at.frame();
    expect([provoking.readUInt16BE(7), provoking.readUInt16BE(9)]).toEqual([40, 10]);
    at.write(refusal(1, 406, 'PRECONDITION_FAILED - inequivalent'));
    expect(readCloseFrame(await peer.frame())).toEqual({
      code: 403,
      text: "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use",
      method: '60.20',
    });
  }

  it('is refused where there are consumers already, as classic queues do', async () => {
    await consumesExclusively(1);
    let asked = 1;
    for (let next = upstream.frame(); ; next = upstream.frame(), asked++) {
      const question = await next;
      if (!question.equals(passive)) {
        upstream.received = Buffer.concat([question, upstream.received]);
        break;
      }
      upstream.write(declareOk(1));
    }
    expect(asked).toBeGreaterThan(5);
    await expectRefused(client, upstream);
  });

  it('is let in where those consumers were gone already, and the broker still counted them', async () => {
    await consumesExclusively(1);
    await expectSent(passive);
    upstream.write(declareOk(0));
    await expectSent(consume(1, 'tag', EXCLUSIVE_CONSUMER));
  });

  it.each<[string, () => Promise<void> | void]>([
    [
      'is cancelled',
      async () => {
        client.write(basicCancel(1, 'tag'));
        await expectSent(basicCancel(1, 'tag'));
        upstream.write(cancelOk(1, 'tag'));
        await client.frame();
      },
    ],
    [
      'has its channel closed',
      async () => {
        client.write(channelClose(1));
        await expectSent(channelClose(1));
        upstream.write(channelCloseOk(1));
        await client.frame();
      },
    ],
    [
      'is cancelled by the broker',
      async () => {
        upstream.write(basicCancel(1, 'tag'));
        await client.frame();
      },
    ],
    [
      'closes its connection',
      async () => {
        client.write(connectionClose());
        await expectSent(connectionClose());
        upstream.socket.end();
        client.socket.end();
        await client.until('the end', (peer) => peer.closed || peer.ended);
      },
    ],
    [
      'is lost',
      async () => {
        client.socket.resetAndDestroy();
        await upstream.frame();
      },
    ],
  ])('keeps others away until it %s', async (_how, ends) => {
    await consumesExclusively(0);
    await expectSent(consume(1, 'tag', EXCLUSIVE_CONSUMER));
    other.write(consume(1, 'other'));
    await expectRefused(other, otherUpstream);
    await ends();
    other.write(consume(2, 'other', NO_WAIT));
    expect(await otherUpstream.frame()).toEqual(consume(2, 'other', NO_WAIT));
  });

  it('of a queue that the broker has named is left to it', async () => {
    const own = basicConsume({ channel: 1, name: 'amq.gen-x', tag: 'tag', flags: EXCLUSIVE_CONSUMER });
    client.write(own);
    await expectSent(own);
  });
});

describe('2.3, 11.2 the name of an exclusive queue that its last owner has just left', () => {
  const exclusive = (channel: number): Buffer =>
    queueDeclare({ channel, name: 'mine', flags: EXCLUSIVE_QUEUE });
  const question = queueDeclare({ channel: OWN, name: 'mine', flags: EXCLUSIVE_QUEUE | PASSIVE });
  const locked = refusal(OWN, 405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine'");

  it('is waited for, and what the client sends behind the declare too', async () => {
    client.write(exclusive(1), basicCancel(1, 'x'));
    for (let tries = 0; tries < 3; tries++) {
      await expectSent(openOwn);
      upstream.write(method(OWN, 20, 11, Buffer.alloc(4)));
      await expectSent(question);
      upstream.write(locked);
      await expectSent(method(OWN, 20, 41));
    }
    await expectSent(openOwn);
    upstream.write(method(OWN, 20, 11, Buffer.alloc(4)));
    await expectSent(question);
    upstream.write(declareOk(0));
    await expectSent(exclusive(1), basicCancel(1, 'x'));
    client.write(exclusive(2));
    await expectSent(exclusive(2));
  });

  it('is refused by the broker when it is not free within a second', async () => {
    client.write(exclusive(1));
    const started = performance.now();
    let next = await upstream.frame();
    while (next.readUInt16BE(1) === OWN) {
      if (next.equals(openOwn)) upstream.write(method(OWN, 20, 11, Buffer.alloc(4)));
      if (next.equals(question)) upstream.write(locked);
      next = await upstream.frame();
    }
    expect(next).toEqual(exclusive(1));
    expect(performance.now() - started).toBeGreaterThan(900);
  });
});

describe('6.2 queue.delete with a condition and an empty name', () => {
  it('is of the queue that was declared last on its channel', async () => {
    await declares();
    client.write(queueDelete(1, '', 1));
    await expectSent(passive);
    upstream.write(declareOk(0));
    await expectSent(queueDelete(1, 'q'));
  });
});
