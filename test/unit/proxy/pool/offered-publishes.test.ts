// Publishes that the pool takes as they lie in a client's chunk, by sockets.
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cut, cutsArbitrary } from '../../../support/amqp-arbitraries.ts';
import { frame, method } from '../../../support/amqp-frames.ts';
import { basicGet, basicPublish } from '../../../support/amqp-methods.ts';
import { LimitsWorld } from '../../../support/limits-world.ts';
import type { RawClient } from '../../../support/raw-client.ts';

/** The machine is shared: what is waited for takes milliseconds by itself. */
const PATIENCE = { timeout: 20_000, interval: 5 };

const HEARTBEAT = frame(8, 0, Buffer.alloc(0));

let world: LimitsWorld;

beforeEach(async () => {
  world = await LimitsWorld.start();
});

afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

async function poolClient(): Promise<RawClient> {
  const proxy = await world.proxyTo({ mode: 'pool' });
  const client = await world.client(proxy, { user: 'a' });
  await client.channels(1, 2, 3);
  return client;
}

/** Bodies that the broker has got since the last call, by the channel that they name. */
async function published(count: number): Promise<Map<string, string[]>> {
  await expect.poll(() => world.broker.published.length, PATIENCE).toBe(count);
  const bodies = new Map<string, string[]>([
    ['1', []],
    ['2', []],
    ['3', []],
  ]);
  for (const { body } of world.broker.published.splice(0)) bodies.get(body[0]!)!.push(body);
  return bodies;
}

describe('publishes in a chunk of a client in mode pool', () => {
  it('all reach the broker, in the order of their channel, whatever lies between them and wherever they are cut', async () => {
    const client = await poolClient();
    const message = fc.record({
      kind: fc.constant('message' as const),
      channel: fc.constantFrom(1, 1, 1, 2, 3),
      size: fc.oneof(fc.nat(30), fc.constantFrom(3000, 20_000)),
    });
    const heartbeat = fc.constant({ kind: 'heartbeat' as const });
    const parts = fc.array(fc.oneof({ weight: 6, arbitrary: message }, { weight: 1, arbitrary: heartbeat }), {
      maxLength: 40,
      size: 'max',
    });
    await fc.assert(
      fc.asyncProperty(parts, cutsArbitrary, async (sent, cuts) => {
        const expected = new Map<string, string[]>([
          ['1', []],
          ['2', []],
          ['3', []],
        ]);
        const octets = sent.map((part, at) => {
          if (part.kind === 'heartbeat') return HEARTBEAT;
          const body = `${part.channel}:${at}:${'x'.repeat(part.size)}`;
          expected.get(String(part.channel))!.push(body);
          return basicPublish(part.channel, 'q', body);
        });
        for (const chunk of cut(Buffer.concat(octets), cuts)) client.send(chunk);
        const count = sent.filter(({ kind }) => kind === 'message').length;
        expect(await published(count)).toEqual(expected);
      }),
      { numRuns: 150 },
    );
    expect(await client.ask(basicGet(1, 'q'))).toMatch(/^basic.get-ok/);
  }, 60_000);

  it('are sent before what comes behind them is refused', async () => {
    const client = await poolClient();
    const messages = ['1:a', '1:b', '1:c'].map((body) => basicPublish(1, 'q', body));
    const wrong = method(1, 60, 40, Buffer.of(0, 0, 200, 0x71));
    client.send(Buffer.concat([...messages, wrong, basicPublish(1, 'q', '1:behind')]));
    expect(await client.hear(0)).toMatch(/^connection.close 502/);
    expect((await published(3)).get('1')).toEqual(['1:a', '1:b', '1:c']);
  });

  it('on a channel that was never opened end the connection behind those that lie before', async () => {
    const client = await poolClient();
    client.send(Buffer.concat([basicPublish(1, 'q', '1:a'), basicPublish(9, 'q', '9:none')]));
    expect(await client.hear(0)).toMatch(/^connection.close 504/);
    expect((await published(1)).get('1')).toEqual(['1:a']);
  });
});
