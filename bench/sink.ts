import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { METHOD } from '../amqp/constants.ts';
import { adoptPlain } from '../proxy/socket.ts';
import { encodeTable, entry, frame, longstr, method, shortstr } from '../test/support/amqp-frames.ts';
import { HEADER, tuneArguments } from '../test/support/peers.ts';
import { chunkOf, CONSUMER, delivery, FRAME_MAX, QUEUE, TAG_AT, windowOf, written } from './messages.ts';

// A broker that agrees to everything, keeps nothing and looks at no more than it must, so that it isn't what a benchmark
// measures. It confirms and counts publishes, and delivers what it is told to.

const START = method(
  0,
  10,
  10,
  Buffer.concat([
    Buffer.of(0, 9),
    encodeTable([
      entry('product', longstr('RabbitMQ')),
      entry('version', longstr('4.0.5')),
      entry('capabilities', {
        tag: 'F',
        value: ['publisher_confirms', 'basic.nack', 'consumer_cancel_notify', 'connection.blocked'].map(
          (name) => entry(name, { tag: 't', value: 1 }),
        ),
      }),
    ]),
    Buffer.from('\0\0\0\x05PLAIN\0\0\0\x05en_US', 'latin1'),
  ]),
);

/** Each of the peer's is answered by one. */
const HEARTBEAT = frame(8, 0, Buffer.alloc(0));

/** What is answered to a method without regard to its arguments: class, method and arguments of the answer. */
const ANSWERS = new Map<number, readonly [classId: number, methodId: number, args?: Buffer]>([
  [METHOD.connectionStartOk, [10, 30, tuneArguments(FRAME_MAX)]],
  [METHOD.connectionOpen, [10, 41, Buffer.of(0)]],
  [METHOD.connectionClose, [10, 51]],
  [METHOD.channelOpen, [20, 11, Buffer.alloc(4)]],
  [METHOD.channelClose, [20, 41]],
  [METHOD.channelFlow, [20, 21, Buffer.of(1)]],
  [METHOD.basicQos, [60, 11]],
  [METHOD.queueDeclare, [50, 11, Buffer.concat([shortstr(QUEUE), Buffer.alloc(8)])]],
]);

const NOTHING = new Uint8Array(0);

/** basic.ack of one message, to be copied and numbered. */
const ACK = method(0, 60, 80, Buffer.alloc(9));

/** A channel's content that is under way, and its confirms. */
interface Publishing {
  /** Octets of the body still to come. */
  left: number;
  /** The number of the last publish; undefined: not in confirm mode. */
  confirmed: number | undefined;
}

/** Who consumes. */
interface Consumer {
  readonly socket: Socket;
  readonly channel: number;
  /** Messages that it was sent. */
  delivered: number;
}

/** Deliveries under way. */
interface Flood {
  /** Messages that may be sent now. */
  credit: number;
  /** Messages that a publish of the consumer's adds. */
  readonly step: number;
  /** Called at new credit. */
  wake: () => void;
}

class Connection {
  readonly #sink: Sink;
  readonly #socket: Socket;
  readonly #channels: (Publishing | undefined)[] = [];
  /** Octets of the protocol header that are still to come. */
  #header = HEADER.length;
  /** Octets of a body frame that are still to come, with its end. */
  #skip = 0;
  /** The channel of that frame. */
  #skipping = 0;
  /** The start of a frame. */
  #rest: Uint8Array = NOTHING;
  #answers: Buffer[] = [];

  constructor(sink: Sink, accepted: Socket) {
    this.#sink = sink;
    this.#socket = adoptPlain(accepted, (chunk, length) => this.#receive(chunk, length));
    this.#socket.on('end', () => this.#socket.end());
    this.#socket.on('error', () => this.#socket.destroy());
    this.#socket.once('close', () => sink.left(this));
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Uint8Array, length: number): void {
    let octets = chunk;
    let at = 0;
    let end = length;
    if (this.#header > 0) {
      at = Math.min(this.#header, length);
      this.#header -= at;
      if (this.#header === 0) this.#answers.push(START);
    }
    if (this.#skip > 0) {
      at = Math.min(this.#skip, length);
      this.#skip -= at;
      if (this.#skip === 0) this.#bodyEnded(this.#skipping);
    }
    if (this.#rest.length > 0) {
      octets = Buffer.concat([this.#rest, chunk.subarray(at, end)]);
      at = 0;
      end = octets.length;
      this.#rest = NOTHING;
    }
    this.#walk(octets, at, end);
    if (this.#answers.length === 0) return;
    this.#socket.write(this.#answers.length === 1 ? this.#answers[0]! : Buffer.concat(this.#answers));
    this.#answers = [];
  }

  #walk(octets: Uint8Array, start: number, end: number): void {
    let at = start;
    while (end - at >= 8) {
      const type = octets[at]!;
      const channel = (octets[at + 1]! << 8) | octets[at + 2]!;
      const size =
        (octets[at + 3]! << 24) | (octets[at + 4]! << 16) | (octets[at + 5]! << 8) | octets[at + 6]!;
      const next = at + size + 8;
      if (type === 3) {
        this.#channel(channel).left -= size;
        if (next > end) {
          this.#skip = next - end;
          this.#skipping = channel;
          return;
        }
        this.#bodyEnded(channel);
      } else if (next > end) break;
      else this.#small(type, channel, octets, at + 7);
      at = next;
    }
    if (at < end) this.#rest = Uint8Array.from(octets.subarray(at, end)); // the chunk is lent
  }

  #channel(channel: number): Publishing {
    return (this.#channels[channel] ??= { left: 0, confirmed: undefined });
  }

  /** A frame but a body, by its payload. */
  #small(type: number, channel: number, octets: Uint8Array, at: number): void {
    if (type === 2) {
      // No message of a benchmark has more octets than the lower half of its size says.
      this.#channel(channel).left = numberAt(octets, at + 8);
      if (this.#channel(channel).left === 0) this.#bodyEnded(channel);
    } else if (type === 8) this.#answers.push(HEARTBEAT);
    else if (type === 1) {
      const id = numberAt(octets, at);
      if (id === METHOD.confirmSelect) this.#confirms(channel, octets[at + 4] === 0);
      else if (id !== METHOD.basicPublish) this.#method(channel, id);
    }
  }

  #confirms(channel: number, isAnswered: boolean): void {
    if (isAnswered) this.#answers.push(method(channel, 85, 11));
    this.#channel(channel).confirmed = 0;
  }

  #method(channel: number, id: number): void {
    const answer = ANSWERS.get(id);
    if (answer !== undefined) this.#answers.push(method(channel, ...answer));
    if (id === METHOD.channelClose) this.#channels[channel] = undefined;
    else if (id === METHOD.basicConsume) {
      this.#answers.push(method(channel, 60, 21, shortstr(CONSUMER)));
      this.#sink.consumer = { socket: this.#socket, channel, delivered: 0 };
    }
  }

  #bodyEnded(channel: number): void {
    const publishing = this.#channel(channel);
    if (publishing.left > 0) return;
    if (publishing.confirmed !== undefined) {
      const ack = Buffer.from(ACK);
      ack.writeUInt16BE(channel, 1);
      ack.writeUInt32BE(++publishing.confirmed, 15);
      this.#answers.push(ack);
    }
    this.#sink.countPublish();
  }
}

function numberAt(octets: Uint8Array, at: number): number {
  return ((octets[at]! << 24) | (octets[at + 1]! << 16) | (octets[at + 2]! << 8) | octets[at + 3]!) >>> 0;
}

/** What a sink has seen since its start. */
export interface Counts {
  /** Connections that came, and those that are there. */
  readonly opened: number;
  readonly open: number;
  /** Messages that were published, whole. */
  readonly published: number;
}

/** Listens on a port of 127.0.0.1 that the system chooses. */
export class Sink implements Counts {
  opened = 0;
  published = 0;
  /** The last one that there was. */
  consumer: Consumer | undefined;
  readonly #connections = new Set<Connection>();
  readonly #server = net.createServer(
    { noDelay: true, allowHalfOpen: true, pauseOnConnect: true },
    (socket) => {
      this.opened++;
      this.#connections.add(new Connection(this, socket));
    },
  );
  #awaited: { count: number; resolve: () => void } | undefined;
  #flood: Flood | undefined;

  get open(): number {
    return this.#connections.size;
  }

  /** @returns the port */
  async start(): Promise<number> {
    this.#server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  left(connection: Connection): void {
    this.#connections.delete(connection);
  }

  countPublish(): void {
    this.published++;
    if (this.#flood !== undefined) {
      this.#flood.credit += this.#flood.step;
      this.#flood.wake();
    }
    if (this.#awaited === undefined || this.published < this.#awaited.count) return;
    this.#awaited.resolve();
    this.#awaited = undefined;
  }

  /** Waits until so many messages were published since the start. */
  async hasPublished(count: number): Promise<void> {
    if (this.published >= count) return;
    await new Promise<void>((resolve) => (this.#awaited = { count, resolve }));
  }

  /**
   * Sends the consumer `count` messages of `size` octets, numbered, as fast as they are taken. A window of them goes ahead;
   * each publish of the consumer's lets half a window follow.
   */
  async deliver(count: number, size: number): Promise<void> {
    const consumer = this.consumer!;
    const one = delivery(consumer.channel, size);
    const chunk = chunkOf(one);
    const window = windowOf(one);
    const flood: Flood = { credit: window, step: Math.floor(window / 2), wake: () => {} };
    this.#flood = flood;
    for (let left = count; left > 0;) {
      while (flood.credit === 0) await new Promise<void>((resolve) => (flood.wake = resolve));
      const batch = Math.min(left, flood.credit, chunk.length / one.length);
      const octets = chunk.subarray(0, batch * one.length);
      for (let at = TAG_AT + 4; at < octets.length; at += one.length) {
        octets.writeUInt32BE(++consumer.delivered, at);
      }
      await written(consumer.socket, octets);
      flood.credit -= batch;
      left -= batch;
    }
    this.#flood = undefined;
  }

  close(): void {
    this.#server.close();
    for (const connection of this.#connections) connection.destroy();
  }
}
