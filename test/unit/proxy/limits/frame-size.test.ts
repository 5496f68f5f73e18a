// --max-frame-size as clients meet it, in all modes, by sockets.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { frame } from '../../../support/amqp-frames.ts';
import { basicGet, basicPublish } from '../../../support/amqp-methods.ts';
import { errors, hits, LimitsWorld } from '../../../support/limits-world.ts';

let world: LimitsWorld;

beforeEach(async () => {
  world = await LimitsWorld.start();
});

afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

/** What the scripted broker offers. */
const BROKERS = 131_072;

describe.each(['transparent', 'pool', 'observe'])('mode %s: frames of a client', (mode) => {
  it('are as long as it is offered: all that fits goes on, and what is longer ends its connection', async () => {
    const proxy = await world.proxyTo({ mode, maxFrameSize: '8192' });
    const one = await world.client(proxy);
    await one.channels(1);
    const body = 'x'.repeat(8192 - 8);
    one.send(basicPublish(1, 'q', body));
    await expect.poll(() => world.broker.published.length, { timeout: 10_000 }).toBe(1);
    expect(world.broker.published[0]!.body).toBe(body);
    expect(await hits(proxy, 'max-frame-size')).toBe(0);
    // Brokers take 8 octets more, since clients get it wrong.
    one.send(basicPublish(1, 'q', 'x'.repeat(8193)));
    expect(await one.hear(0)).toBe(
      'connection.close 501 FRAME_ERROR - frame of 8201 octets exceeds frame_max 8192 (0.0)',
    );
    expect(await hits(proxy, 'max-frame-size')).toBe(1);
    expect(await errors(proxy, 'CLIENT_FRAME')).toBe(1);
    expect(world.broker.published).toHaveLength(1);
  });

  it.each([BROKERS, 8193, 0])('are not what it asks for in place of that: %i', async (askedFrames) => {
    const proxy = await world.proxyTo({ mode, maxFrameSize: '8KiB' });
    expect(await world.refusal(proxy, { askedFrames })).toBe(
      `connection.close 530 NOT_ALLOWED - frame_max ${askedFrames} where 8192 is offered (--max-frame-size) (10.31)`,
    );
    expect(await hits(proxy, 'max-frame-size')).toBe(1);
    expect(await errors(proxy, 'FRAME_LIMIT')).toBe(1);
  });

  it('may be shorter, which is no hit when it sends a longer one', async () => {
    const proxy = await world.proxyTo({ mode, maxFrameSize: '65536' });
    const one = await world.client(proxy, { askedFrames: 16_384 });
    await one.channels(1);
    one.send(basicPublish(1, 'q', 'x'.repeat(20_000)));
    expect(await one.hear(0)).toContain('501 FRAME_ERROR');
    expect(await hits(proxy, 'max-frame-size')).toBe(0);
  });

  it('bring it what the broker sends in longer ones, cut to their size', async () => {
    const proxy = await world.proxyTo({ mode, maxFrameSize: '4096' });
    const one = await world.client(proxy);
    await one.channels(1);
    world.broker.message = Buffer.alloc(50_000, 'm');
    expect(await one.ask(basicGet(1, 'q'))).toBe('basic.get-ok 1 0 <50000 octets>');
    expect(one.longest).toBe(4096);
    // The broker was told what all brokers take, and the client has asked for no such thing by itself.
    expect(world.broker.frameMaxima).toEqual([BROKERS]);
    expect(await proxy.metric('quorumbridge_proxy_rewrites_total{method="connection.tune-ok"} ')).toEqual([
      '0',
    ]);
    const [needing] = await proxy.metric('quorumbridge_proxy_clients{needs_proxy="yes"} ');
    expect(needing).toBe('0');
  });

  it('are what the broker offers, where the limit is above that', async () => {
    const proxy = await world.proxyTo({ mode, maxFrameSize: '1MiB' });
    const one = await world.client(proxy);
    await one.channels(1);
    expect(world.broker.frameMaxima).toEqual([BROKERS]);
    one.send(frame(3, 1, Buffer.alloc(BROKERS + 1)));
    expect(await one.hear(0)).toContain('501 FRAME_ERROR');
    expect(await hits(proxy, 'max-frame-size')).toBe(0);
  });

  it('may be longer by --limits=alarm, and that is told once', async () => {
    const proxy = await world.proxyTo({ mode, maxFrameSize: '8192', limits: 'alarm' });
    for (const askedFrames of [BROKERS, 0, 8193, 8192]) {
      const one = await world.client(proxy, { askedFrames });
      await one.channels(1);
    }
    expect(await hits(proxy, 'max-frame-size')).toBe(3);
    const told = proxy.log().filter((line) => line['limit'] === 'max-frame-size');
    expect(told.map(({ msg }) => msg)).toEqual([
      'a client wants frames of more than 8192 octets, its limit (--max-frame-size); it may, by --limits=alarm',
    ]);
  });
});
