import { randomBytes } from 'node:crypto';
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { method, queueDeclare, shortstr } from '../../../support/amqp-frames.ts';
import { basicGet, basicPublish, channelOpen } from '../../../support/amqp-methods.ts';
import { type Peer, ScriptedBroker } from '../../../support/peers.ts';
import { basicReturn, close, content, deliver, openUpstream } from '../../../support/upstream-broker.ts';
import { LIMITS, type startUpstream, TestOwner, type TestUpstream } from '../../../support/upstreams.ts';

const openOk = (channel: number): Buffer => method(channel, 20, 11, Buffer.alloc(4));
const flow = (channel: number): Buffer => method(channel, 20, 20, Buffer.of(1));
const flowOk = (channel: number): Buffer => method(channel, 20, 21, Buffer.of(1));
const closeOk = (channel: number): Buffer => method(channel, 20, 41);
const getEmpty = (channel: number): Buffer => method(channel, 60, 72, Buffer.of(0));
const NOTHING = Buffer.alloc(0);

let broker: ScriptedBroker;
const started: TestUpstream[] = [];

beforeEach(async () => {
  broker = await new ScriptedBroker().start();
});

afterEach(async () => {
  for (const { upstream } of started.splice(0)) upstream.destroy();
  await broker[Symbol.asyncDispose]();
});

async function opened(
  settings: Parameters<typeof startUpstream>[1] = {},
  channelMax = 2047,
): Promise<TestUpstream & { peer: Peer }> {
  const test = await openUpstream(broker, settings, channelMax);
  started.push(test);
  return test;
}

/** Reads what the broker gets next, which must be this. */
async function expectSent(peer: Peer, ...frames: Buffer[]): Promise<void> {
  const expected = Buffer.concat(frames);
  expect(await peer.take(expected.length)).toEqual(expected);
}

/** Waits until the owner has so many octets; resolves to all of them. */
async function got(peer: Peer, owner: TestOwner, length: number): Promise<Buffer> {
  await peer.until(`${length} octets`, () => owner.octets >= length);
  return owner.received;
}

/** A channel that has published, whose owner was told of nothing. */
async function used(test: TestUpstream & { peer: Peer }, owner = new TestOwner()): Promise<TestOwner> {
  const channel = owner.take(test.upstream);
  owner.publish(channel, 'key', 'body');
  channel.release(() => owner.told.push('settled'));
  return owner;
}

const PUBLISH = basicPublish(1, 'key', 'body');

describe('frames', () => {
  it('follow channel.open at once, and come on the number of their owner', async () => {
    const { upstream, peer, stats } = await opened();
    const [one, other] = [new TestOwner(), new TestOwner()];
    const first = one.take(upstream, 300);
    one.publish(first, 'key', 'body');
    const second = other.take(upstream, 300);
    expect([first.number, second.number, first.local]).toEqual([1, 2, 300]);
    await expectSent(peer, channelOpen(1), PUBLISH, channelOpen(2));
    const body = Buffer.from('text');
    peer.write(Buffer.concat([openOk(1), deliver(2, 1, body), deliver(1, 1, body), openOk(2), getEmpty(2)]));
    const mine = deliver(300, 1, body);
    expect(await got(peer, one, mine.length)).toEqual(mine);
    const others = Buffer.concat([mine, getEmpty(300)]);
    expect(await got(peer, other, others.length)).toEqual(others);
    expect([one.calls, one.lentOctets]).toEqual([1, 0]);
    expect([stats.pool.channelsOpened, stats.pool.channelsUsed, upstream.room]).toEqual([2, 2, 198]);
  });

  it('of one owner that lie one behind the other come in one piece', async () => {
    const { upstream, peer } = await opened();
    const owner = new TestOwner();
    owner.take(upstream, 1);
    owner.take(upstream, 2);
    const sent = Buffer.concat([
      deliver(1, 1, Buffer.from('a')),
      getEmpty(2),
      deliver(1, 2, Buffer.from('b')),
    ]);
    peer.write(sent);
    expect(await got(peer, owner, sent.length)).toEqual(sent);
    expect(owner.calls).toBe(1);
  });

  it('are lent where there are many, and kept by who asks for it', async () => {
    const { upstream, peer } = await opened();
    const owner = new TestOwner();
    owner.take(upstream, 9);
    const kept: [Uint8Array, number, number][] = [];
    owner.onReceive = (octets, start, end, lent) => {
      if (lent) upstream.keepBuffer();
      kept.push([octets, start, end]);
    };
    const bodies = Array.from({ length: 40 }, () => randomBytes(100_000));
    peer.write(Buffer.concat(bodies.map((body, i) => deliver(1, i + 1, body))));
    const expected = Buffer.concat(bodies.map((body, i) => deliver(9, i + 1, body)));
    await got(peer, owner, expected.length);
    const mine = Buffer.concat(kept.map(([octets, start, end]) => octets.subarray(start, end)));
    expect(mine.equals(expected)).toBe(true);
    expect(owner.lentOctets).toBeGreaterThan(expected.length / 2);
  });

  it('are lent for the call alone where nobody keeps them', async () => {
    const { upstream, peer } = await opened();
    const owner = new TestOwner();
    owner.take(upstream, 9);
    const buffers = new Set<ArrayBufferLike>();
    owner.onReceive = (octets, _start, _end, lent) => lent && buffers.add(octets.buffer);
    const sent = Array.from({ length: 80 }, (_, i) => deliver(1, i + 1, Buffer.alloc(100_000, i)));
    peer.write(Buffer.concat(sent));
    await got(
      peer,
      owner,
      sent.reduce((sum, { length }) => sum + length, 0),
    );
    // Of 16, 64 and 256 KiB, as it grows.
    expect(buffers.size).toBeGreaterThan(0);
    expect(buffers.size).toBeLessThanOrEqual(4);
  });

  it('come whole, in order and to the right one, however they are cut', async () => {
    const test = await opened();
    const owners = [1, 2, 3].map(() => new TestOwner());
    const numbers = owners.map((owner, i) => owner.take(test.upstream, 1000 + i).number);
    const frames = fc.array(fc.tuple(fc.nat({ max: 2 }), fc.oneof(fc.nat({ max: 40 }), fc.constant(3000))), {
      minLength: 1,
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(
        frames,
        fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1 }),
        async (sent, cuts) => {
          for (const owner of owners) owner.forget();
          const expected = owners.map(() => NOTHING);
          const octets = Buffer.concat(
            sent.map(([who, size], i) => {
              const body = Buffer.alloc(size, i);
              expected[who] = Buffer.concat([expected[who]!, deliver(1000 + who, i + 1, body, 1000)]);
              return deliver(numbers[who]!, i + 1, body, 1000);
            }),
          );
          for (let at = 0, turn = 0; at < octets.length; turn++) {
            const size = cuts[turn % cuts.length]!;
            test.peer.write(octets.subarray(at, at + size));
            at += size;
            await new Promise((resolve) => setImmediate(resolve));
          }
          await test.peer.until('all', () => owners.every(({ octets }, i) => octets >= expected[i]!.length));
          expect(owners.map(({ received }) => received)).toEqual(expected);
        },
      ),
      { numRuns: 40 },
    );
    expect(test.end()).toBeUndefined();
  });

  it('of nobody are dropped', async () => {
    const { upstream, peer } = await opened();
    const owner = new TestOwner();
    const channel = owner.take(upstream, 1);
    channel.listening = false;
    const other = new TestOwner();
    other.take(upstream, 5);
    peer.write(
      Buffer.concat([deliver(1, 1, Buffer.from('x')), deliver(77, 1, Buffer.from('x')), closeOk(65_535)]),
    );
    peer.write(getEmpty(2));
    expect(await got(peer, other, 1)).toEqual(getEmpty(5));
    expect(owner.received).toEqual(NOTHING);
    expect(upstream.state).toBe('open');
  });
});

describe('answers to frames of the proxy', () => {
  it('are swallowed, each once and wherever it comes', async () => {
    const { upstream, peer } = await opened();
    const owner = new TestOwner();
    const channel = owner.take(upstream, 4);
    channel.expect([0x003c_0015, 0x003c_000b, 0x0055_000b]);
    const qosOk = method(1, 60, 11);
    const consumeOk = method(1, 60, 21, Buffer.from('\x04ctag'));
    peer.write(Buffer.concat([openOk(1), qosOk, getEmpty(1), method(1, 85, 11), consumeOk]));
    peer.write(Buffer.concat([deliver(1, 1, Buffer.from('x')), qosOk]));
    const expected = Buffer.concat([getEmpty(4), deliver(4, 1, Buffer.from('x')), method(4, 60, 11)]);
    expect(await got(peer, owner, expected.length)).toEqual(expected);
  });

  it('have to be there before the channel is as new', async () => {
    const { upstream, peer } = await opened();
    const channel = new TestOwner().take(upstream, 4);
    channel.expect([0x003c_000b]);
    channel.release(undefined);
    await expectSent(peer, channelOpen(1));
    expect((await peer.frame()).readUInt32BE(7)).toBe(0x0014_0028);
  });

  it('are no secret where the broker closes the channel instead', async () => {
    const { upstream, peer } = await opened();
    const owner = new TestOwner();
    const channel = owner.take(upstream, 4);
    channel.expect([0x003c_0015]);
    await expectSent(peer, channelOpen(1));
    peer.write(openOk(1), close(404, 'NOT_FOUND - no queue', [60, 20], 1));
    const expected = close(404, 'NOT_FOUND - no queue', [60, 20], 4);
    expect(await got(peer, owner, expected.length)).toEqual(expected);
    await expectSent(peer, closeOk(1));
    expect([channel.usable, upstream.used]).toEqual([false, 0]);
  });
});

describe('a channel that only published', () => {
  it('is used again, once the broker has told that it has taken all', async () => {
    const test = await opened();
    const { upstream, peer, events, stats } = test;
    const owner = await used(test);
    await expectSent(peer, channelOpen(1), PUBLISH, flow(1));
    expect([owner.told, upstream.used]).toEqual([[], 1]);
    peer.write(openOk(1), flowOk(1));
    await peer.until('it is settled', () => owner.told.length > 0);
    expect(events.slice(-2)).toEqual(['settled', 'idle']);
    expect([upstream.used, upstream.owners, upstream.room]).toEqual([0, 0, 200]);
    expect([stats.pool.channelsIdle, stats.pool.channelsUsed]).toEqual([1, 0]);
    const next = new TestOwner();
    const channel = next.take(upstream, 3);
    next.publish(channel, 'key', 'body');
    await expectSent(peer, PUBLISH);
    expect([channel.number, stats.pool.channelsReused, stats.pool.channelsIdle]).toEqual([1, 1, 0]);
    expect(owner.received).toEqual(NOTHING);
  });

  it('gives its owner what comes before that, and then says that it is done', async () => {
    const test = await opened();
    const owner = await used(test);
    owner.onReceive = () => owner.told.push('received');
    test.peer.write(Buffer.concat([openOk(1), basicReturn(1, Buffer.from('body')), flowOk(1), getEmpty(1)]));
    await test.peer.until('it is settled', () => owner.told.includes('settled'));
    expect(owner.told).toEqual(['received', 'settled']);
    expect(owner.received).toEqual(basicReturn(1, Buffer.from('body')));
  });

  it('and was refused one is closed, and told', async () => {
    const test = await opened();
    const { peer, upstream } = test;
    const owner = await used(test);
    await expectSent(peer, channelOpen(1), PUBLISH, flow(1));
    owner.onReceive = () => owner.told.push('received');
    const refusal = close(404, 'NOT_FOUND - no exchange', [60, 40], 1);
    peer.write(openOk(1), refusal);
    await expectSent(peer, closeOk(1));
    expect(owner.received).toEqual(refusal);
    expect(owner.told).toEqual(['received', 'settled']);
    expect(new TestOwner().take(upstream).number).toBe(1);
    await expectSent(peer, channelOpen(1));
  });

  it('and got something to keep meanwhile is closed', async () => {
    const test = await opened();
    const owner = await used(test);
    await expectSent(test.peer, channelOpen(1), PUBLISH, flow(1));
    test.peer.write(deliver(1, 1, Buffer.from('of no consumer')), flowOk(1));
    expect((await test.peer.frame()).readUInt32BE(7)).toBe(0x0014_0028);
    expect(owner.told).toEqual([]);
    test.peer.write(closeOk(1));
    await test.peer.until('it is settled', () => owner.told.includes('settled'));
    expect(test.stats.pool.channelsIdle).toBe(0);
  });

  it('or got messages without acknowledging goes on with tags of its own', async () => {
    const test = await opened();
    const { upstream, peer } = test;
    const getOk = (channel: number, tag: number): Buffer => {
      const args = Buffer.concat([
        Buffer.alloc(7),
        Buffer.of(tag),
        Buffer.of(0),
        shortstr(''),
        shortstr('q'),
      ]);
      return content(
        channel,
        method(channel, 60, 71, Buffer.concat([args, Buffer.alloc(4)])),
        Buffer.from('m'),
      );
    };
    const first = new TestOwner();
    const gets = first.take(upstream);
    first.send(gets, basicGet(1, 'q'));
    peer.write(openOk(1), getOk(1, 1));
    await got(peer, first, getOk(1, 1).length);
    gets.release(undefined);
    // Who has published before goes on with tags from 1, and so not there.
    const elsewhere = new TestOwner();
    const { state } = first.take((await opened()).upstream);
    state.sent(0x003c_0028, PUBLISH, 0, PUBLISH.readUInt32BE(3) + 8);
    expect(upstream.take(elsewhere, 2, state)?.number).toBe(2);
    const second = new TestOwner();
    const again = second.take(upstream, 5);
    second.send(again, basicGet(5, 'q'));
    expect(again.number).toBe(1);
    peer.write(getOk(1, 2));
    expect(await got(peer, second, getOk(5, 1).length)).toEqual(getOk(5, 1));
  });

  it('or did nothing needs no question', async () => {
    const { upstream, peer } = await opened();
    const owner = new TestOwner();
    owner.take(upstream).release(() => owner.told.push('settled'));
    expect(owner.told).toEqual(['settled']);
    expect(owner.take(upstream).number).toBe(1);
    await expectSent(peer, channelOpen(1));
    expect(peer.received).toEqual(NOTHING);
  });
});

it('sends nothing more on a channel that the broker closes, whatever its owner does then', async () => {
  const { upstream, peer } = await opened();
  const owner = new TestOwner();
  const channel = owner.take(upstream, 4);
  owner.onReceive = () => {
    owner.told.push(`usable: ${channel.usable}`);
    channel.release(() => owner.told.push('settled'));
  };
  await expectSent(peer, channelOpen(1));
  peer.write(close(404, 'NOT_FOUND', [50, 10], 1));
  await expectSent(peer, closeOk(1));
  expect(owner.told).toEqual(['usable: false', 'settled']);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(peer.received).toEqual(NOTHING);
});

describe('a channel with state at the broker', () => {
  async function dirty(test: TestUpstream & { peer: Peer }): Promise<TestOwner> {
    const owner = new TestOwner();
    const channel = owner.take(test.upstream, 6);
    owner.send(channel, queueDeclare({ channel: 6 }));
    channel.release(() => owner.told.push('settled'));
    await expectSent(test.peer, channelOpen(1), queueDeclare({ channel: 1 }));
    const closing = await test.peer.frame();
    expect([closing.readUInt16BE(1), closing.readUInt32BE(7)]).toEqual([1, 0x0014_0028]);
    return owner;
  }

  it('is closed, and its number is free when the broker says so', async () => {
    const test = await opened();
    const owner = await dirty(test);
    const next = new TestOwner();
    expect(next.take(test.upstream).number).toBe(2);
    expect(owner.told).toEqual([]);
    test.peer.write(openOk(1), closeOk(1));
    await test.peer.until('it is settled', () => owner.told.length > 0);
    expect(next.take(test.upstream).number).toBe(1);
    await expectSent(test.peer, channelOpen(2), channelOpen(1));
  });

  it('is free when both answers are there, where the broker closes it at the same time', async () => {
    const test = await opened();
    const owner = await dirty(test);
    test.peer.write(close(406, 'PRECONDITION_FAILED', [50, 10], 1));
    await expectSent(test.peer, closeOk(1));
    expect(owner.received).toEqual(close(406, 'PRECONDITION_FAILED', [50, 10], 6));
    expect([owner.told, test.upstream.used]).toEqual([[], 1]);
    test.peer.write(closeOk(1));
    await test.peer.until('it is settled', () => owner.told.length > 0);
    expect(test.upstream.used).toBe(0);
  });

  it('is not used again where the broker does not answer in time', async () => {
    const test = await opened({ limits: { ...LIMITS, channelMax: 2 } });
    const owner = await dirty(test);
    const now = performance.now();
    test.upstream.sweep(now + LIMITS.handshakeTimeout - 2000);
    expect(owner.told).toEqual([]);
    test.upstream.sweep(now + LIMITS.handshakeTimeout + 1);
    expect(owner.told).toEqual(['settled']);
    expect(test.events.at(-1)).toBe('idle');
    expect(test.events).not.toContain('settled');
    expect([test.upstream.used, test.upstream.room]).toEqual([0, 1]);
    expect(test.log().filter(({ level }) => level === 'warn')).toHaveLength(1);
    test.peer.write(closeOk(1), close(541, 'INTERNAL_ERROR', [0, 0], 1));
    await expectSent(test.peer, closeOk(1));
    expect(test.upstream.room).toBe(1);
    expect(owner.take(test.upstream).number).toBe(2);
    expect(() => owner.take(test.upstream)).toThrow('no channel');
  });
});

describe('numbers', () => {
  it('are the idle one used last, then the lowest free', async () => {
    const { upstream, peer, stats } = await opened();
    const owner = new TestOwner();
    const channels = [1, 2, 3, 4].map((local) => owner.take(upstream, local));
    for (const i of [1, 0, 2]) channels[i]!.release(undefined);
    expect([1, 2].map((local) => owner.take(upstream, local).number)).toEqual([3, 1]);
    // The broker may close one that nobody has.
    await expectSent(peer, channelOpen(1), channelOpen(2), channelOpen(3), channelOpen(4));
    peer.write(close(320, 'CONNECTION_FORCED', [0, 0], 2));
    await expectSent(peer, closeOk(2));
    expect(stats.pool.channelsIdle).toBe(0);
    expect([1, 2].map((local) => owner.take(upstream, local).number)).toEqual([2, 5]);
    await expectSent(peer, channelOpen(2), channelOpen(5));
  });

  it.each([
    [3, 2047],
    [200, 3],
  ])('end at the lower limit: ours %i, the broker’s %i', async (ours, theirs) => {
    const { upstream } = await opened({ limits: { ...LIMITS, channelMax: ours } }, theirs);
    const owner = new TestOwner();
    expect([upstream.channelMax, upstream.room]).toEqual([3, 3]);
    for (const local of [1, 2, 3]) owner.take(upstream, local);
    expect(() => owner.take(upstream)).toThrow('no channel');
    expect(upstream.room).toBe(0);
  });

  it('are for one owner alone where it has reserved them', async () => {
    const { upstream } = await opened();
    const [one, other] = [new TestOwner(), new TestOwner()];
    upstream.reservedFor = one;
    expect(() => other.take(upstream)).toThrow('no channel');
    expect(one.take(upstream).number).toBe(1);
  });
});

it('takes its channels from an owner that fails, and serves the others', async () => {
  const test = await opened();
  const { upstream, peer } = test;
  const [bad, good] = [new TestOwner(), new TestOwner()];
  bad.take(upstream, 1);
  const declared = bad.take(upstream, 2);
  bad.send(declared, queueDeclare({ channel: 2 }));
  good.take(upstream, 1);
  bad.onReceive = () => {
    throw new Error('a fault');
  };
  await expectSent(peer, channelOpen(1), channelOpen(2), queueDeclare({ channel: 2 }), channelOpen(3));
  const sent = Buffer.concat([getEmpty(1), getEmpty(3), getEmpty(1), getEmpty(2), getEmpty(3)]);
  peer.write(sent);
  expect(await got(peer, good, 24)).toEqual(Buffer.concat([getEmpty(1), getEmpty(1)]));
  // Nobody had asked on the first one either: neither is as new.
  expect([(await peer.frame()).readUInt16BE(1), (await peer.frame()).readUInt16BE(1)]).toEqual([1, 2]);
  expect(bad.calls).toBe(1);
  expect(test.log().filter(({ level }) => level === 'error')).toHaveLength(1);
  expect([upstream.used, upstream.owners]).toEqual([3, 2]);
  peer.write(closeOk(1), closeOk(2));
  await peer.until('it is settled', () => upstream.used === 1);
});
