import { Session as Inspector, type HeapProfiler } from 'node:inspector/promises';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  frame,
  method,
  openThrough,
  type Peer,
  ScriptedBroker,
  startTestProxy,
} from '../../support/peers.ts';

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

/** Octets that functions of these rooms have allocated: what the garbage collector has taken since then included. */
function allocatedBy({ head }: HeapProfiler.SamplingHeapProfile, rooms: RegExp): number {
  const sum = ({ callFrame, selfSize, children }: HeapProfiler.SamplingHeapProfileNode): number =>
    children.reduce((octets, child) => octets + sum(child), rooms.test(callFrame.url) ? selfSize : 0);
  return sum(head);
}

/** Sends the octets so often, and answers what `amqp` and `proxy` have allocated meanwhile. */
async function allocatedFor(from: Socket, to: Peer, octets: Buffer, times: number): Promise<number> {
  to.socket.removeAllListeners('data');
  let left = octets.length * times;
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
  for (let sent = 0; sent < times; sent++) {
    if (!from.write(octets)) await new Promise((resolve) => from.once('drain', resolve));
  }
  await arrived;
  const { profile } = await inspector.post('HeapProfiler.stopSampling');
  inspector.disconnect();
  return allocatedBy(profile, /\/(?:amqp|proxy)\/[^?]*\.ts/);
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
    ['publish of a client', message(PUBLISH, 16), 3, () => [client, upstream] as const],
    ['acknowledgement of a client', ACK, 1, () => [client, upstream] as const],
    ['delivery to a client', message(DELIVER, 16), 3, () => [upstream, client] as const],
  ])('allocates no object for a %s', async (_what, one, framesInOne, ends) => {
    const [from, to] = ends();
    const count = Math.floor(CHUNK / one.length);
    const small = Buffer.concat(Array<Buffer>(count).fill(one));
    const large = message(from === client ? PUBLISH : DELIVER, 100_000);
    // The first run has the functions compiled.
    await allocatedFor(from.socket, to, small, TIMES);
    const forSmall = await allocatedFor(from.socket, to, small, TIMES);
    const forLarge = await allocatedFor(from.socket, to, large, Math.floor((TIMES * CHUNK) / large.length));
    expect((forSmall - forLarge) / (framesInOne * count * TIMES)).toBeLessThan(OCTETS_PER_FRAME);
  });
});
