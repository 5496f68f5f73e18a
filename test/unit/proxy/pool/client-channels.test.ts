import { Writable } from 'node:stream';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameCutter } from '../../../../amqp/frames.ts';
import { ClientChannels } from '../../../../proxy/pool/client-channels.ts';
import type { AcquireRequest, Group } from '../../../../proxy/pool/group.ts';
import type { PoolRefusal } from '../../../../proxy/pool/refusal.ts';
import { PoolStats } from '../../../../proxy/pool/stats.ts';
import type { UpstreamChannel } from '../../../../proxy/pool/upstream-channel.ts';
import type { Upstream } from '../../../../proxy/pool/upstream.ts';
import { cut, cutsArbitrary } from '../../../support/amqp-arbitraries.ts';
import { basicConsume, frame, method, queueDeclare, shortstr } from '../../../support/amqp-frames.ts';
import { channelClose, channelOpen } from '../../../support/amqp-methods.ts';

type Done = (refusal: PoolRefusal | undefined, channel: UpstreamChannel | undefined) => void;

/** A connection to the broker that keeps what is written, and gives channels from 101 on. */
class Connection {
  /** Takes octets in the write, as a kernel that is not behind does. */
  readonly socket = new Writable({
    write: (octets: Buffer, _encoding, done) => {
      this.#octets.push(Buffer.from(octets));
      done();
    },
  });
  readonly released: number[] = [];
  /** Channels that are released are settled later. */
  holdsReleases = false;
  readonly #octets: Buffer[] = [];
  #next = 101;

  send(octets: Uint8Array): void {
    this.socket.write(octets);
  }

  gather(): boolean {
    return false;
  }

  channel({ local, state }: AcquireRequest): UpstreamChannel {
    const number = this.#next++;
    const channel = {
      upstream: this as unknown as Upstream,
      number,
      local,
      state,
      usable: true,
      listening: true,
      expect: () => {},
      release: (done?: () => void) => {
        this.released.push(number);
        if (!this.holdsReleases) done?.();
      },
    };
    return channel as unknown as UpstreamChannel;
  }

  get written(): Buffer {
    return Buffer.concat(this.#octets);
  }
}

/** A client's channels on one connection; `ready` says whether channels are there at once. */
function channelsOn(connection: Connection, ready = true) {
  const waiting: [AcquireRequest, Done][] = [];
  const group = {
    acquire: (request: AcquireRequest, done: Done) => {
      if (ready) done(undefined, connection.channel(request));
      else waiting.push([request, done]);
      return { cancel: () => {} };
    },
    reserve: () => false,
  } as unknown as Group;
  const toClient: Buffer[] = [];
  const refusals: string[] = [];
  const quarantined: string[] = [];
  const flow: string[] = [];
  const channels = new ClientChannels({
    group,
    member: { pathAlive: () => {} },
    resume: false,
    resumeTimeout: 1000,
    isPrivate: false,
    lookupChannel: () => undefined,
    stats: new PoolStats(),
    maxMessageSize: 1000,
    encrypts: false,
    holder: () => ({ pause: () => flow.push('pause'), resume: () => flow.push('resume') }),
    guard: (work) => work(),
    say: (octets) => toClient.push(Buffer.from(octets)),
    toClient: (octets) => toClient.push(Buffer.from(octets)),
    refuse: (code, replyCode, text) => refusals.push(`${code} ${replyCode} ${text}`),
    quarantine: (why) => quarantined.push(why),
    blocked: () => {},
  });
  const cutter = new FrameCutter(131_072, channels);
  /** Pushes chunks from one buffer that is read into again and again, as a socket does. */
  const push = (chunks: readonly Uint8Array[]): void => {
    const buffer = new Uint8Array(Math.max(1, ...chunks.map(({ length }) => length)));
    for (const chunk of chunks) {
      buffer.set(chunk);
      const octets = buffer.subarray(0, chunk.length);
      channels.begin(octets);
      cutter.push(octets, 0, octets.length);
      channels.flush();
      buffer.fill(0xee);
    }
  };
  const grant = (): void => {
    for (const [request, done] of waiting.splice(0)) done(undefined, connection.channel(request));
  };
  return { channels, cutter, push, grant, toClient, refusals, quarantined, flow, waiting };
}

/** The frames of one publish. */
function publish(channel: number, body: string, bodies = 1): Buffer[] {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60, 0);
  header.writeBigUInt64BE(BigInt(body.length), 4);
  const size = Math.ceil(body.length / bodies);
  const parts =
    body === '' ? [] : Array.from({ length: bodies }, (_, i) => body.slice(i * size, (i + 1) * size));
  const args = Buffer.concat([Buffer.alloc(2), shortstr(''), shortstr('key'), Buffer.of(0)]);
  return [
    method(channel, 60, 40, args),
    frame(2, channel, header),
    ...parts.filter((part) => part !== '').map((part) => frame(3, channel, Buffer.from(part))),
  ];
}

interface Frame {
  readonly type: number;
  readonly channel: number;
  readonly octets: Buffer;
}

function framesOf(octets: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at < octets.length;) {
    const end = at + 8 + octets.readUInt32BE(at + 3);
    frames.push({
      type: octets[at]!,
      channel: octets.readUInt16BE(at + 1),
      octets: octets.subarray(at + 3, end),
    });
    at = end;
  }
  return frames;
}

const messages = fc.array(
  fc.record({
    channel: fc.integer({ min: 1, max: 3 }),
    body: fc.string({ maxLength: 60 }).map((text) => text.replaceAll(/[^a-z]/g, 'x')),
    bodies: fc.integer({ min: 1, max: 3 }),
  }),
  { maxLength: 12 },
);

/** The messages' frames, those of different channels between each other as `order` has it. */
function interleave(perChannel: Buffer[][], order: readonly number[]): Buffer[] {
  const queues = perChannel.map((frames) => [...frames]);
  const mixed: Buffer[] = [];
  for (const turn of order) mixed.push(...queues[turn % queues.length]!.splice(0, 1));
  return [...mixed, ...queues.flat()];
}

describe('publishes of a client', () => {
  it('go on whole, in the order of their channel, whatever the cuts and whatever comes between', () => {
    fc.assert(
      fc.property(messages, fc.array(fc.nat(2), { maxLength: 60 }), cutsArbitrary, (sent, order, cuts) => {
        const connection = new Connection();
        const { push, refusals } = channelsOn(connection);
        const perChannel = [1, 2, 3].map((number) => [
          channelOpen(number),
          ...sent
            .filter(({ channel }) => channel === number)
            .flatMap((one) => publish(number, one.body, one.bodies)),
        ]);
        push(cut(Buffer.concat(interleave(perChannel, order)), cuts));
        const frames = framesOf(connection.written);
        expect(refusals).toEqual([]);
        // Each message's frames lie one behind the other.
        const foreign = frames.filter(
          ({ type, channel }, i) => type !== 1 && frames[i - 1]?.channel !== channel,
        );
        expect(foreign).toEqual([]);
        const got = [...new Set(frames.map(({ channel }) => channel))].map((channel) =>
          Buffer.concat(frames.filter((one) => one.channel === channel).map(({ octets }) => octets)).toString(
            'latin1',
          ),
        );
        const expected = perChannel
          .map((own) =>
            framesOf(Buffer.concat(own.slice(1)))
              .map(({ octets }) => octets.toString('latin1'))
              .join(''),
          )
          .filter((octets) => octets !== '');
        expect(got.sort()).toEqual(expected.sort());
      }),
    );
  });

  it('of which the end is missing leave nothing at the broker', () => {
    const connection = new Connection();
    const { push, channels } = channelsOn(connection);
    const frames = publish(1, 'body of a message', 2);
    push([Buffer.concat([channelOpen(1), ...frames.slice(0, -1)]), frames.at(-1)!.subarray(0, 9)]);
    channels.end();
    expect(connection.written).toEqual(Buffer.alloc(0));
    expect(connection.released).toEqual([101]);
  });

  it('wait in order until there is a channel at the broker, and hold the client back meanwhile', () => {
    const connection = new Connection();
    const { push, grant, flow, waiting } = channelsOn(connection, false);
    const frames = [...publish(1, 'first'), ...publish(1, 'second'), ...publish(1, 'third')];
    push([Buffer.concat([channelOpen(1), ...frames])]);
    expect({ written: connection.written.length, waiting: waiting.length, flow: flow.at(-1) }).toEqual({
      written: 0,
      waiting: 1,
      flow: 'pause',
    });
    grant();
    const bodies = framesOf(connection.written).filter(({ type }) => type === 3);
    expect(bodies.map(({ octets }) => octets.subarray(4, -1).toString())).toEqual([
      'first',
      'second',
      'third',
    ]);
    expect(flow.at(-1)).toBe('resume');
  });

  it('larger than is taken close their channel with 406, and only that', () => {
    const connection = new Connection();
    const { push, toClient, refusals } = channelsOn(connection);
    push([
      Buffer.concat([channelOpen(1), ...publish(1, 'x'.repeat(1001)), channelOpen(2), ...publish(2, 'fits')]),
    ]);
    const closed = framesOf(Buffer.concat(toClient)).filter(
      ({ octets }) => octets.readUInt32BE(4) === 0x140028,
    );
    expect(closed.map(({ channel, octets }) => [channel, octets.readUInt16BE(8)])).toEqual([[1, 406]]);
    expect({ refusals, released: connection.released }).toEqual({ refusals: [], released: [101] });
    expect(framesOf(connection.written).map(({ type }) => type)).toEqual([1, 2, 3]);
  });
});

describe('what a broker ends the connection for', () => {
  const immediate = method(
    1,
    60,
    40,
    Buffer.concat([Buffer.alloc(2), shortstr(''), shortstr('k'), Buffer.of(2)]),
  );
  const rows: [string, Buffer[], number][] = [
    ['a method on a channel that is not open', [queueDeclare({ channel: 1, flags: 2 })], 504],
    ['content on a channel that is not open', [frame(3, 1, Buffer.from('x'))], 504],
    ['channel.open twice', [channelOpen(1), channelOpen(1)], 504],
    ['immediate', [channelOpen(1), immediate], 540],
    ['a method in the middle of a publish', [channelOpen(1), publish(1, 'x')[0]!, channelClose(1)], 505],
    ['a body before its header', [channelOpen(1), publish(1, 'x')[0]!, publish(1, 'x')[2]!], 505],
    [
      'a body longer than announced',
      [channelOpen(1), ...publish(1, 'x').slice(0, 2), frame(3, 1, Buffer.from('xy'))],
      501,
    ],
    [
      'a method of brokers',
      [channelOpen(1), method(1, 50, 11, Buffer.concat([shortstr('q'), Buffer.alloc(8)]))],
      503,
    ],
    ['arguments that are cut off', [channelOpen(1), method(1, 50, 10, Buffer.of(0, 0, 5, 0x71))], 502],
  ];

  it.each(rows)(
    '%s: is refused before it goes to a connection that others use',
    (_name, frames, replyCode) => {
      const connection = new Connection();
      const { push, cutter } = channelsOn(connection);
      push(frames);
      expect(cutter.error?.replyCode).toBe(replyCode);
      expect(connection.written).toEqual(Buffer.alloc(0));
    },
  );
});

describe('channels of a client', () => {
  it('are opened and closed without the broker as long as nothing needs it', () => {
    const connection = new Connection();
    const { push, toClient } = channelsOn(connection);
    push([Buffer.concat([channelOpen(1), channelClose(1), channelOpen(1)])]);
    const answers = framesOf(Buffer.concat(toClient)).map(({ octets }) =>
      octets.readUInt32BE(4).toString(16),
    );
    expect(answers).toEqual(['14000b', '140029', '14000b']);
    expect({ written: connection.written.length, released: connection.released }).toEqual({
      written: 0,
      released: [],
    });
  });

  it('that can not be had end the client’s connection with the pool’s reason', () => {
    const connection = new Connection();
    const { push, waiting, refusals } = channelsOn(connection, false);
    push([Buffer.concat([channelOpen(1), ...publish(1, 'x')])]);
    const refusal = { kind: 'exhausted', replyCode: 506, text: 'none became free', silent: false } as const;
    for (const [, done] of waiting) done(refusal, undefined);
    expect(refusals).toEqual(['POOL_EXHAUSTED 506 none became free']);
  });
});

/** A basic.publish with these arguments behind its reserved short, and the frames of its content. */
function misshapen(args: string, header: Buffer, ...bodies: string[]): Buffer {
  return Buffer.concat([
    method(1, 60, 40, Buffer.from(`\0\0${args}`, 'latin1')),
    frame(2, 1, header),
    ...bodies.map((body) => frame(3, 1, Buffer.from(body))),
  ]);
}

function header(size: number, { classId = 60, flags = 0, properties = '' } = {}): Buffer {
  const octets = Buffer.alloc(14);
  octets.writeUInt16BE(classId, 0);
  octets.writeUInt32BE(size, 8);
  octets.writeUInt16BE(flags, 12);
  return Buffer.concat([octets, Buffer.from(properties, 'latin1')]);
}

const MISSHAPEN: [name: string, octets: Buffer][] = [
  ['asks for immediate', misshapen('\0\0\x02', header(1), 'a')],
  ['has a key that is cut off', misshapen('\0\x05a', header(1), 'a')],
  ['has an exchange that is cut off', misshapen('\x05a', header(1), 'a')],
  ['has octets behind its arguments', misshapen('\0\0\0\0', header(1), 'a')],
  ['has another class', misshapen('\0\0\0', header(1, { classId: 50 }), 'a')],
  ['has properties that it does not say', misshapen('\0\0\0', header(1, { properties: 'x' }), 'a')],
  ['says properties that it does not have', misshapen('\0\0\0', header(1, { flags: 0x1000 }), 'a')],
  ['has a body that is too short', misshapen('\0\0\0', header(3), 'a')],
  ['has a body that is too long', misshapen('\0\0\0', header(1), 'abc')],
  ['has a body in empty frames', misshapen('\0\0\0', header(1), '', 'a', '')],
  ['is larger than is taken', misshapen('\0\0\0', header(1001), 'a'.repeat(1001))],
  ['has properties', misshapen('\0\0\0', header(1, { flags: 0x9000, properties: '\x01t\x02' }), 'a')],
];

describe('a publish that comes whole, among others in one chunk', () => {
  it.for(MISSHAPEN)('and %s: all is as if it came octet by octet', ([, octets]) => {
    const good = Buffer.concat(publish(1, 'good', 2));
    const stream = Buffer.concat([method(1, 20, 10, Buffer.of(0)), good, good, octets, good]);
    const results = [[stream], Array.from(stream, (octet) => Uint8Array.of(octet))].map((chunks) => {
      const connection = new Connection();
      const { push, cutter, toClient, refusals } = channelsOn(connection);
      push(chunks);
      return { written: connection.written, error: cutter.error, toClient, refusals };
    });
    expect(results[0]).toEqual(results[1]);
    expect(
      framesOf(results[0]!.written)
        .slice(0, 8)
        .map(({ channel }) => channel),
    ).toEqual(Array<number>(8).fill(101));
  });
});

describe('what the broker would only agree to', () => {
  const OPEN = channelOpen(1);
  const SELECT = method(1, 85, 10, Buffer.of(0));
  const CLOSE = channelClose(1);
  const ACK = method(1, 60, 80, Buffer.from('\0\0\0\0\0\0\0\x01\0', 'latin1'));

  /** Class and method of each frame. */
  const ids = (frames: readonly Buffer[]): string[] =>
    framesOf(Buffer.concat(frames)).map(({ type, octets }) =>
      type === 1 ? `${octets.readUInt16BE(4)}.${octets.readUInt16BE(6)}` : `type ${type}`,
    );

  it('is answered at once: confirm.select goes on without a question, unless the client wants no answer', () => {
    const connection = new Connection();
    const { push, toClient } = channelsOn(connection);
    push([Buffer.concat([OPEN, SELECT])]);
    expect(ids(toClient)).toEqual(['20.11', '85.11']);
    expect(connection.written).toEqual(method(101, 85, 10, Buffer.of(1)));
    push([method(1, 85, 10, Buffer.of(1))]);
    expect(ids(toClient)).toEqual(['20.11', '85.11']);
  });

  it('is asked for all the same in a transaction, which the broker refuses', () => {
    const connection = new Connection();
    const { push, toClient } = channelsOn(connection);
    push([Buffer.concat([OPEN, method(1, 90, 10), SELECT])]);
    expect(ids(toClient)).toEqual(['20.11']);
    expect(ids([connection.written])).toEqual(['90.10', '85.10']);
  });

  it.for([
    ['nothing was sent', [], true],
    ['all publishes are confirmed', [SELECT, ...publish(1, 'body'), ACK], true],
    ['a publish is not confirmed', [SELECT, ...publish(1, 'body')], false],
    ['a publish is never confirmed', publish(1, 'body'), false],
    ['one was published before confirms', [...publish(1, 'body'), SELECT, ...publish(1, 'body'), ACK], false],
    ['a question is open', [queueDeclare({ name: 'q' })], false],
    ['there is a consumer', [basicConsume({ name: 'q', flags: 8 })], false],
  ] as const)('channel.close where %s: close-ok at once is %s', ([, frames, atOnce]) => {
    const connection = new Connection();
    const { channels, push, toClient } = channelsOn(connection);
    push([OPEN]);
    for (const octets of frames) {
      if (octets !== ACK) push([octets]);
      else channels.channels.get(1)!.state.heard(1, 0x3c_0050, Buffer.from(ACK), 0, ACK.length);
    }
    connection.holdsReleases = true;
    push([CLOSE]);
    expect(ids(toClient).includes('20.41')).toBe(atOnce);
  });
});
