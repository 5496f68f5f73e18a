import * as fc from 'fast-check';
import { PassThrough } from 'node:stream';
import type { Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Outlet } from '../../../proxy/outlet.ts';
import { Relay } from '../../../proxy/relay.ts';
import { clientTraceArbitrary, cut, cutsArbitrary } from '../../support/amqp-arbitraries.ts';
import { entry, exchangeDeclare, longstr, queueDeclare } from '../../support/amqp-frames.ts';
import { queueBind } from '../../support/amqp-methods.ts';
import {
  connectPeer,
  frame,
  HEADER,
  method,
  OPEN_ARGUMENTS,
  type Peer,
  readCloseFrame,
  ScriptedBroker,
  startTestProxy,
  type TestProxy,
  tuneArguments,
} from '../../support/peers.ts';

const DURABLE = 2;
const NO_WAIT = 16;
/** What the client in these tests asks for, and the channel above it, which is the proxy's. */
const CHANNEL_MAX = 10;
const OWN = 11;

let broker: ScriptedBroker;
let proxy: TestProxy;
let client: Peer;
let upstream: Peer;
let tune: Buffer;
let tuneOk: Buffer;

beforeEach(async () => {
  broker = await new ScriptedBroker().start();
  proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}` });
  const arriving = broker.next();
  client = await connectPeer(proxy.port);
  client.write(HEADER);
  upstream = await arriving;
  await upstream.take(8);
  upstream.write(method(0, 10, 30, tuneArguments(131_072, 2047)));
  tune = await client.frame();
  client.write(method(0, 10, 31, tuneArguments(131_072, CHANNEL_MAX)));
  tuneOk = await upstream.frame();
  client.write(method(0, 10, 40, OPEN_ARGUMENTS));
  await upstream.frame();
  upstream.write(method(0, 10, 41, Buffer.of(0)));
  await client.frame();
});

afterEach(async () => {
  await proxy[Symbol.asyncDispose]();
  await broker[Symbol.asyncDispose]();
});

const openOk = method(OWN, 20, 11, Buffer.alloc(4));
const exchangeOk = method(OWN, 40, 11);
const transient = (channel: number, flags = 0): Buffer => exchangeDeclare({ channel, name: 'x', flags });
const durable = (channel: number, flags = 0): Buffer =>
  exchangeDeclare({ channel, name: 'x', flags: flags | DURABLE });

/** The first question about a declare of the exchange x. */
const asked = durable(OWN, 1);

/** channel.close with a reply code and text. */
function channelClose(code: number, text: string): Buffer {
  const args = Buffer.concat([Buffer.alloc(2), Buffer.of(text.length), Buffer.from(text), Buffer.alloc(4)]);
  args.writeUInt16BE(code, 0);
  return method(OWN, 20, 40, args);
}

function declareOk(messages: number, consumers: number): Buffer {
  const counts = Buffer.alloc(8);
  counts.writeUInt32BE(messages, 0);
  counts.writeUInt32BE(consumers, 4);
  return method(OWN, 50, 11, Buffer.concat([Buffer.from('\x01q', 'latin1'), counts]));
}

async function expectFrames(...frames: Buffer[]): Promise<void> {
  for (const one of frames) expect(await upstream.frame()).toEqual(one);
}

describe('a declare that is rewritten', () => {
  it("is tried on the proxy's own channel, and what comes behind it waits for the answer", async () => {
    const behind = Buffer.concat([queueBind(1, 'q', 'x', ''), frame(8, 0, Buffer.alloc(0))]);
    client.write(transient(1, NO_WAIT), behind);
    await expectFrames(method(OWN, 20, 10, Buffer.of(0)));
    upstream.write(openOk);
    await expectFrames(asked);
    upstream.write(exchangeOk);
    await expectFrames(durable(OWN));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(upstream.received.length).toBe(0);
    upstream.write(exchangeOk);
    await expectFrames(durable(1, NO_WAIT));
    expect(await upstream.take(behind.length)).toEqual(behind);
    expect(client.received.length).toBe(0);
  });

  it('is not tried again when the client repeats it, on whatever channel', async () => {
    client.write(transient(1));
    await expectFrames(method(OWN, 20, 10, Buffer.of(0)));
    upstream.write(openOk);
    await expectFrames(asked);
    upstream.write(exchangeOk);
    await expectFrames(durable(OWN));
    upstream.write(exchangeOk);
    await expectFrames(durable(1));
    client.write(transient(2), transient(1));
    await expectFrames(durable(2), durable(1));
  });

  it('goes as the client sent it where a transient one exists, and the next is tried on a new channel', async () => {
    client.write(transient(1), queueDeclare({ channel: 1, name: 'q' }));
    await expectFrames(method(OWN, 20, 10, Buffer.of(0)));
    upstream.write(openOk);
    await expectFrames(asked);
    upstream.write(exchangeOk);
    await expectFrames(durable(OWN));
    upstream.write(
      channelClose(406, "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'x' in vhost '/'"),
    );
    await expectFrames(method(OWN, 20, 41), transient(1), method(OWN, 20, 10, Buffer.of(0)));
    upstream.write(openOk);
    expect((await upstream.frame()).readUInt16BE(1)).toBe(OWN);
    upstream.write(declareOk(0, 0));
    expect((await upstream.frame()).readUInt16BE(1)).toBe(OWN);
    upstream.write(
      channelClose(406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/'"),
    );
    await expectFrames(method(OWN, 20, 41), queueDeclare({ channel: 1, name: 'q', flags: 1 }));
    expect(proxy.log().filter(({ msg }) => String(msg).includes('declared without the proxy'))).toHaveLength(
      2,
    );
    expect(client.received.length).toBe(0);
  });

  it.each([
    [403, "ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused for user 'u'"],
    [406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x' in vhost '/'"],
  ])(
    'goes rewritten where the refusal of %i is none of its doing, for the client to be told',
    async (code, text) => {
      client.write(transient(1));
      await expectFrames(method(OWN, 20, 10, Buffer.of(0)));
      upstream.write(openOk);
      await expectFrames(asked);
      upstream.write(exchangeOk);
      await expectFrames(durable(OWN));
      upstream.write(channelClose(code, text));
      await expectFrames(method(OWN, 20, 41), durable(1));
    },
  );

  it('is sent when nothing of its name exists, and nothing is created on the channel of the proxy', async () => {
    client.write(transient(1));
    await expectFrames(method(OWN, 20, 10, Buffer.of(0)));
    upstream.write(openOk);
    await expectFrames(asked);
    upstream.write(channelClose(404, "NOT_FOUND - no exchange 'x' in vhost '/'"));
    await expectFrames(method(OWN, 20, 41), durable(1));
  });

  it('is sent when the broker answers nothing for 2 seconds, and its late answer is nobody’s', async () => {
    client.write(transient(1));
    await expectFrames(method(OWN, 20, 10, Buffer.of(0)));
    upstream.write(openOk);
    await expectFrames(asked);
    const started = performance.now();
    await expectFrames(durable(1));
    expect(performance.now() - started).toBeGreaterThan(1500);
    // The channel is stuck at the broker: what comes meanwhile isn't asked about.
    client.write(transient(2));
    await expectFrames(durable(2));
    upstream.write(exchangeOk);
    await new Promise((resolve) => setTimeout(resolve, 50));
    client.write(transient(3));
    await expectFrames(asked);
    expect(client.received).toEqual(Buffer.alloc(0));
  });

  it('of a client that goes meanwhile is still sent, and then the broker is told', async () => {
    client.write(transient(1));
    await expectFrames(method(OWN, 20, 10, Buffer.of(0)));
    client.socket.resetAndDestroy();
    upstream.write(openOk);
    await expectFrames(asked);
    upstream.write(exchangeOk);
    await expectFrames(durable(OWN));
    upstream.write(exchangeOk);
    await expectFrames(durable(1));
    expect(readCloseFrame(await upstream.frame()).code).toBe(320);
    await upstream.until('the end', (peer) => peer.ended || peer.closed);
  });

  it('is sent, and the client told in whole frames, when what comes behind it is no AMQP', async () => {
    client.write(Buffer.concat([transient(1), frame(9, 0, Buffer.alloc(0))]));
    await expectFrames(method(OWN, 20, 10, Buffer.of(0)));
    upstream.write(openOk);
    await expectFrames(asked);
    upstream.write(exchangeOk);
    await expectFrames(durable(OWN));
    const body = frame(3, 1, Buffer.alloc(1000, 7));
    upstream.write(body.subarray(0, 500));
    await client.until('half a frame', (peer) => peer.received.length === 500);
    upstream.write(Buffer.concat([body.subarray(500), exchangeOk]));
    await expectFrames(durable(1));
    expect(readCloseFrame(await upstream.frame()).code).toBe(320);
    expect((await client.take(body.length)).equals(body)).toBe(true);
    expect(readCloseFrame(await client.frame()).code).toBe(501);
  });

  it('does not keep a drain or an error from ending the connection', async () => {
    client.write(transient(1));
    await expectFrames(method(OWN, 20, 10, Buffer.of(0)));
    upstream.socket.destroy();
    expect(readCloseFrame(await client.frame()).code).toBe(320);
  });
});

describe('queue.delete with conditions', () => {
  const IF_UNUSED = 1;
  const IF_EMPTY = 2;
  const queueDelete = (flags: number, name = 'q', channel = 1): Buffer =>
    method(
      channel,
      50,
      40,
      Buffer.concat([Buffer.of(0, 0, name.length), Buffer.from(name), Buffer.of(flags)]),
    );
  const passive = queueDeclare({ channel: OWN, name: 'q', flags: 1 });

  async function asked(flags: number): Promise<void> {
    client.write(queueDelete(flags));
    await expectFrames(method(OWN, 20, 10, Buffer.of(0)));
    upstream.write(openOk);
    await expectFrames(passive);
  }

  it.each([
    ['if-unused, without consumers', IF_UNUSED, 5, 0],
    ['if-empty, without messages', IF_EMPTY, 0, 5],
    ['both', IF_UNUSED | IF_EMPTY, 0, 0],
  ])('6.2 %s: is sent without them', async (_name, flags, messages, consumers) => {
    await asked(flags);
    upstream.write(declareOk(messages, consumers));
    await expectFrames(queueDelete(0));
  });

  it('6.2 of a queue that is missing: is sent without them', async () => {
    await asked(IF_UNUSED);
    upstream.write(channelClose(404, "NOT_FOUND - no queue 'q' in vhost '/'"));
    await expectFrames(method(OWN, 20, 41), queueDelete(0));
  });

  it.each([
    ['if-unused, with a consumer', IF_UNUSED, 0, 1, "PRECONDITION_FAILED - queue 'q' in vhost '/' in use"],
    ['if-empty, with a message', IF_EMPTY, 1, 0, "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty"],
    ['both, with both', IF_UNUSED | IF_EMPTY, 1, 1, "PRECONDITION_FAILED - queue 'q' in vhost '/' in use"],
  ])(
    '6.2 %s: the broker closes the channel, and the client is told why',
    async (_name, flags, messages, consumers, text) => {
      await asked(flags);
      upstream.write(declareOk(messages, consumers));
      const provoking = await upstream.frame();
      expect([provoking.readUInt16BE(1), provoking.readUInt16BE(7), provoking.readUInt16BE(9)]).toEqual([
        1, 40, 10,
      ]);
      const brokers = channelClose(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.direct'",
      );
      brokers.writeUInt16BE(1, 1);
      upstream.write(brokers);
      const told = await client.frame();
      expect([told.readUInt16BE(1), told.readUInt16BE(7), told.readUInt16BE(9)]).toEqual([1, 20, 40]);
      expect(readCloseFrame(told)).toEqual({ code: 406, text, method: '50.40' });
      // The next close of that channel is the broker's own again.
      upstream.write(brokers);
      expect(await client.frame()).toEqual(brokers);
    },
  );

  it('without conditions, or without a name, is left alone', async () => {
    const sent = [queueDelete(0), queueDelete(4), queueDelete(IF_UNUSED, '')];
    client.write(...sent);
    await expectFrames(...sent);
  });
});

describe('the channel of the proxy', () => {
  it('is the one above those of the client, which is offered one less than there are', () => {
    expect(tune).toEqual(method(0, 10, 30, tuneArguments(131_072, 2046)));
    expect(tuneOk).toEqual(method(0, 10, 31, tuneArguments(131_072, OWN)));
  });

  it('is none of the client: a frame on it is refused with 504', async () => {
    client.write(method(OWN, 20, 10, Buffer.of(0)));
    const close = readCloseFrame(await client.frame());
    expect(close.code).toBe(504);
    expect(close.text).toContain(`channel ${OWN} where channel_max is ${CHANNEL_MAX}`);
  });

  it('is not opened for a client that declares nothing that is rewritten', async () => {
    const sent = Buffer.concat([durable(1), queueDeclare({ name: '', flags: 4 })]);
    client.write(sent);
    expect(await upstream.take(sent.length)).toEqual(sent);
  });

  it('is not opened for queues without a name', async () => {
    const locator = entry('x-queue-master-locator', longstr('random'));
    client.write(queueDeclare({ name: '', flags: 4, entries: [locator] }));
    await expectFrames(queueDeclare({ name: '', flags: 4 }));
    client.write(queueDeclare({ name: '' }));
    expect((await upstream.frame()).readUInt16BE(1)).toBe(1);
  });
});

describe('a relay that is held', () => {
  it('passes on the same as one that is not, however its stream is cut and whenever it goes on', () => {
    const isDeclare = (id: number): boolean => id === 0x0032_000a || id === 0x0028_000a;
    fc.assert(
      fc.property(
        clientTraceArbitrary,
        cutsArbitrary,
        fc.array(fc.boolean(), { minLength: 1 }),
        (trace, cuts, when) => {
          let waiting: Uint8Array | undefined;
          const relay = new Relay(0, {
            client: true,
            wants: isDeclare,
            frame: (octets) => {
              waiting = octets;
              return undefined;
            },
            passes: () => true,
            passed: () => {},
          });
          const passed: Buffer[] = [];
          const goOn = (): void => {
            while (waiting !== undefined) {
              const octets = waiting;
              waiting = undefined;
              passed.push(Buffer.concat(relay.release(octets)));
            }
          };
          const stream = Buffer.concat(trace.map(({ octets }) => octets));
          cut(stream, cuts).forEach((chunk, i) => {
            passed.push(Buffer.concat(relay.push(chunk, chunk.length)));
            expect(relay.holding).toBe(waiting !== undefined);
            if (when[i % when.length]) goOn();
          });
          goOn();
          expect(Buffer.concat(passed).equals(stream)).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('an outlet that is on hold', () => {
  it('does not let the source flow before both the hold and the backlog have ended', () => {
    const source = new PassThrough();
    source.resume();
    const destination = new PassThrough({ highWaterMark: 1 });
    const outlet = new Outlet(source, destination as unknown as Socket, false);
    outlet.hold();
    expect(source.isPaused()).toBe(true);
    outlet.proceed();
    expect(source.isPaused()).toBe(false);
    outlet.hold();
    outlet.write([Buffer.alloc(100)], false);
    outlet.proceed();
    expect(source.isPaused()).toBe(true);
    outlet.release();
    expect(source.isPaused()).toBe(false);
  });
});
