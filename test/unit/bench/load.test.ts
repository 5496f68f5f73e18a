// The load and the sink do what a benchmark counts on: every message comes, however its octets are cut.
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Load } from '../../../bench/load.ts';
import { chunkOf, publish, QUEUE, windowOf } from '../../../bench/messages.ts';
import { Sink } from '../../../bench/sink.ts';
import { LOGIN } from '../../../bench/client.ts';

let sink: Sink;
let load: Load;
let port: number;

beforeEach(async () => {
  sink = new Sink();
  port = await sink.start();
  load = new Load({ port, secure: undefined });
});

afterEach(() => {
  load.close();
  sink.close();
});

describe('the load and the sink', () => {
  it.each([
    [16, 50_000],
    [1024, 2000],
    [300_000, 40],
  ])('publish messages of %i octets and count each of them', async (size, count) => {
    await load.open(1);
    await Promise.all([sink.hasPublished(count), load.publish(count, size)]);
    expect(sink.published).toBe(count);
  });

  it.each([
    [1024, 20_000],
    [300_000, 60],
  ])('deliver messages of %i octets, in windows', async (size, count) => {
    await load.open(1);
    await load.consume(count, size);
    await Promise.all([sink.deliver(count, size), load.consumed()]);
    expect(sink.consumer!.delivered).toBe(count);
    expect(sink.published).toBeGreaterThan(0); // what opened the window again
  });

  it('confirm one after the other, and many at a time', async () => {
    await load.open(1);
    expect(await load.roundTrips(20)).toBeGreaterThan(0);
    const other = new Load({ port, secure: undefined });
    await other.open(1);
    await other.publishConfirmed(3000, 100);
    other.close();
    expect(sink.published).toBe(3020);
  });

  it('connect, publish and close as often as they are told', async () => {
    const { opened } = sink;
    await load.cycles(30, 4, true);
    await load.cycles(5, 2, false);
    await sink.hasPublished(35);
    expect(sink.opened - opened).toBe(35);
  });

  it('publish from time to time, and all at once', async () => {
    await load.open(7);
    await Promise.all([sink.hasPublished(10), load.paced(10)]);
    await Promise.all([sink.hasPublished(31), load.bursts(3)]);
    expect(sink.published).toBe(31);
  });

  it('say so when the connection ends under them', async () => {
    await load.open(1);
    await load.consume(1, 16);
    const consumed = load.consumed();
    sink.close();
    await expect(consumed).rejects.toThrow('the connection ended with');
  });
});

describe('the sink', () => {
  it('understands octets that come one by one', async () => {
    const octets = Buffer.concat([
      ...LOGIN.map(({ send }) => send),
      publish(1, QUEUE, 0),
      publish(1, QUEUE, 40),
    ]);
    const socket = net.connect({ host: '127.0.0.1', port, noDelay: true });
    for (const octet of octets) {
      await new Promise((resolve) => socket.write(Buffer.of(octet), resolve));
      await new Promise(setImmediate);
    }
    await sink.hasPublished(2);
    socket.destroy();
    expect(sink.published).toBe(2);
  });
});

describe('what is written at a time', () => {
  it('is whole messages, at least one, and a window is at least two', () => {
    const [small, large] = [publish(1, QUEUE, 16), publish(1, QUEUE, 8_000_000)];
    expect(chunkOf(small).length % small.length).toBe(0);
    expect(chunkOf(small).length).toBeGreaterThan(200_000);
    expect(chunkOf(large)).toHaveLength(large.length);
    expect(windowOf(large)).toBe(2);
  });
});
