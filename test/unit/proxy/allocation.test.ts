import { Session as Inspector, type HeapProfiler } from 'node:inspector/promises';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { basicConsume } from '../../support/amqp-frames.ts';
import { channelOpen } from '../../support/amqp-methods.ts';
import { AnsweringBroker } from '../../support/answering-broker.ts';
import {
  connectPeer,
  frame,
  HEADER,
  method,
  OPEN_ARGUMENTS,
  openThrough,
  type Peer,
  ScriptedBroker,
  startTestProxy,
  tuneArguments,
} from '../../support/peers.ts';
import { startOk } from '../../support/raw-client.ts';

/** What is written at a time, in octets, and how often. */
const CHUNK = 1 << 20;
const TIMES = 16;

/** One object for a message of three frames is 10 and more; what chunks take, and chance, is some hundredths. */
const OCTETS_PER_FRAME = 1;

/** Octets between two samples of the heap, on average. */
const INTERVAL = 2048;

/** A message with one body frame. @param first its method */
function message(first: Buffer, size: number): Buffer {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60);
  header.writeBigUInt64BE(BigInt(size), 4);
  return Buffer.concat([first, frame(2, 1, header), frame(3, 1, Buffer.alloc(size, 0x2a))]);
}

const PUBLISH = method(1, 60, 40, Buffer.from('\0\0\0\x01q\0', 'latin1'));
const ACK = method(1, 60, 80, Buffer.of(0, 0, 0, 0, 0, 0, 0, 1, 0));
const DELIVER = method(1, 60, 60, Buffer.from('\x01c\0\0\0\0\0\0\0\x01\0\0\x01q', 'latin1'));
/** Of the latter and of acknowledgements. */
const TAG = Buffer.of(0, 0, 0, 0, 0, 0, 0, 1);
/** A flag of basic.consume. */
const NO_ACK = 2;

/** The frames on another channel. */
function onChannel(channel: number, octets: Buffer): Buffer {
  const moved = Buffer.from(octets);
  for (let at = 0; at < moved.length; at += moved.readUInt32BE(at + 3) + 8)
    moved.writeUInt16BE(channel, at + 1);
  return moved;
}

/** Octets that functions of these rooms have allocated: what the garbage collector has taken since then included. */
function allocatedBy({ head }: HeapProfiler.SamplingHeapProfile, rooms: RegExp): number {
  const sum = ({ callFrame, selfSize, children }: HeapProfiler.SamplingHeapProfileNode): number =>
    children.reduce((octets, child) => octets + sum(child), rooms.test(callFrame.url) ? selfSize : 0);
  return sum(head);
}

/** So many octets, and no more, of one frame or message after the other. */
function rowOf(one: Buffer): Buffer {
  return Buffer.concat(Array<Buffer>(Math.max(1, Math.floor(CHUNK / one.length))).fill(one));
}

/** Sends about {@link CHUNK} octets so often, and answers what `amqp` and `proxy` have allocated meanwhile. */
async function allocatedFor(from: Socket, to: Peer, chunks: readonly Buffer[]): Promise<number> {
  to.socket.removeAllListeners('data');
  let left = chunks.reduce((octets, chunk) => octets + chunk.length, 0);
  const arrived = new Promise<void>((resolve) => {
    to.socket.on('data', (chunk: Buffer) => {
      left -= chunk.length;
      if (left === 0) resolve();
    });
  });
  const inspector = new Inspector();
  inspector.connect();
  await inspector.post('HeapProfiler.startSampling', {
    samplingInterval: INTERVAL,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  });
  for (const chunk of chunks) {
    if (!from.write(chunk)) await new Promise((resolve) => from.once('drain', resolve));
  }
  await arrived;
  const { profile } = await inspector.post('HeapProfiler.stopSampling');
  inspector.disconnect();
  return allocatedBy(profile, /(?<!\/unit)\/(?:amqp|proxy)\/[^?]*\.ts/);
}

/** What a frame of the small ones has cost, in octets of the heap. @param rows of small and of large messages, anew for each run */
async function perFrame(
  from: Socket,
  to: Peer,
  small: () => readonly Buffer[],
  large: () => readonly Buffer[],
  frames: number,
): Promise<number> {
  // The first run has the functions compiled.
  await allocatedFor(from, to, small());
  const forSmall = await allocatedFor(from, to, small());
  return (forSmall - (await allocatedFor(from, to, large()))) / frames;
}

/** Frames or messages in so many rows. */
function countOf(one: Buffer, times = TIMES): number {
  return times * Math.floor(CHUNK / one.length);
}

/** The rows of a run. */
function rowsOf(one: Buffer, times = TIMES): () => Buffer[] {
  const rows = Array<Buffer>(times).fill(rowOf(one));
  return () => rows;
}

/** The same with delivery tags that rise from message to message and from run to run. */
function taggedRowsOf(times: number, ...kinds: readonly Buffer[]): (() => Buffer[])[] {
  let tag = 0n;
  const row = (one: Buffer): Buffer => {
    const octets = rowOf(one);
    for (let at = one.indexOf(TAG); at < octets.length; at += one.length) octets.writeBigUInt64BE(++tag, at);
    return octets;
  };
  return kinds.map((one) => () => Array.from({ length: times }, () => row(one)));
}

describe('a proxy that changes nothing', () => {
  let broker: ScriptedBroker;
  let proxy: Awaited<ReturnType<typeof startTestProxy>>;
  let client: Peer;
  let upstream: Peer;

  beforeAll(async () => {
    broker = await new ScriptedBroker().start();
    proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
    ({ client, upstream } = await openThrough(broker, proxy.port, 131_072, 100));
    for (const { socket } of [client, upstream]) socket.setNoDelay();
  });

  afterAll(async () => {
    client.socket.destroy();
    await proxy[Symbol.asyncDispose]();
    await broker[Symbol.asyncDispose]();
  });

  it.each([
    ['a publish of a client', message(PUBLISH, 16), 3, () => [client, upstream] as const],
    ['an acknowledgement of a client', ACK, 1, () => [client, upstream] as const],
    ['a delivery to a client', message(DELIVER, 16), 3, () => [upstream, client] as const],
  ])('allocates no object for %s', async (_what, one, framesInOne, ends) => {
    const [from, to] = ends();
    const large = rowsOf(message(from === client ? PUBLISH : DELIVER, 100_000));
    const octets = await perFrame(from.socket, to, rowsOf(one), large, framesInOne * countOf(one));
    expect(octets).toBeLessThan(OCTETS_PER_FRAME);
  });
});

describe('mode pool', () => {
  let broker: AnsweringBroker;
  let proxy: Awaited<ReturnType<typeof startTestProxy>>;
  let client: Peer;

  beforeAll(async () => {
    broker = await new AnsweringBroker().start();
    proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, mode: 'pool' });
    client = await connectPeer(proxy.port);
    const ask = async (...frames: Buffer[]): Promise<void> => {
      client.write(...frames);
      await client.frame();
    };
    await ask(HEADER);
    await ask(startOk({}));
    await ask(method(0, 10, 31, tuneArguments(131_072)), method(0, 10, 40, OPEN_ARGUMENTS));
    for (const [channel, flags] of [NO_ACK, 0, 0].entries()) {
      await ask(channelOpen(channel + 1));
      await ask(basicConsume({ channel: channel + 1, name: 'q', tag: 'c', flags }));
    }
    for (const { socket } of [client, ...broker.peers]) socket.setNoDelay();
  });

  afterAll(async () => {
    client.socket.destroy();
    await proxy[Symbol.asyncDispose]();
    await broker[Symbol.asyncDispose]();
  });

  it('allocates no object for a publish of a client', async () => {
    const one = message(PUBLISH, 16);
    const { peer } = broker.consumers[0]!;
    const large = rowsOf(message(PUBLISH, 100_000));
    const octets = await perFrame(client.socket, peer, rowsOf(one), large, 3 * countOf(one));
    expect(octets).toBeLessThan(OCTETS_PER_FRAME);
  });

  it.each([
    ['is not to be acknowledged', 0],
    ['is to be acknowledged', 1],
  ])('allocates no object for a delivery to a client that %s', async (_how, consumer) => {
    const { peer, channel } = broker.consumers[consumer]!;
    const one = onChannel(channel, message(DELIVER, 16));
    const [small, large] = taggedRowsOf(TIMES, one, onChannel(channel, message(DELIVER, 100_000)));
    const octets = await perFrame(peer.socket, client, small!, large!, 3 * countOf(one));
    expect(octets).toBeLessThan(OCTETS_PER_FRAME);
  });

  it('allocates no object for an acknowledgement of a client', async () => {
    const { peer, channel } = broker.consumers[2]!;
    const [deliveries] = taggedRowsOf(2 * TIMES, onChannel(channel, message(DELIVER, 16)));
    await allocatedFor(peer.socket, client, deliveries!());
    // No more than have been delivered.
    const one = onChannel(3, ACK);
    const times = TIMES / 4;
    expect(2 * countOf(one, times)).toBeLessThan(2 * countOf(message(DELIVER, 16)));
    const [acks] = taggedRowsOf(times, one);
    const large = rowsOf(message(PUBLISH, 100_000), times);
    const octets = await perFrame(client.socket, peer, acks!, large, countOf(one, times));
    expect(octets).toBeLessThan(OCTETS_PER_FRAME);
  });
});
