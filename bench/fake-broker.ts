import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import tls from 'node:tls';
import { METHOD } from '../amqp/constants.ts';
import { FrameCutter, type FrameSink } from '../amqp/frames.ts';
import { encodeTable, entry, frame, longstr, method, shortstr } from '../test/support/amqp-frames.ts';
import { HEADER, tuneArguments } from '../test/support/peers.ts';
import { FRAME_MAX, message, messagesInChunk } from './messages.ts';

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
  [METHOD.confirmSelect, [85, 11]],
]);

/** A content that is under way, and the confirms of its channel. */
interface Publishing {
  /** Octets of the body still to come. */
  left: number;
  /** The number of the last publish; undefined: not in confirm mode. */
  confirmed: bigint | undefined;
}

interface Consumer {
  readonly socket: Socket;
  readonly channel: number;
  /** With its length before it. */
  readonly tag: Buffer;
  /** Messages that it was sent. */
  delivered: bigint;
}

/** Where a method frame's arguments begin. */
const METHOD_ARGUMENTS = 11;

class Connection implements FrameSink {
  readonly #broker: FakeBroker;
  readonly #socket: Socket;
  readonly #cutter = new FrameCutter(FRAME_MAX, this);
  readonly #channels: (Publishing | undefined)[] = [];
  /** Octets of the protocol header that came so far. */
  #header = 0;
  #answers: Buffer[] = [];

  constructor(broker: FakeBroker, socket: Socket) {
    this.#broker = broker;
    this.#socket = socket;
  }

  receive(chunk: Buffer): void {
    const rest = Math.min(HEADER.length - this.#header, chunk.length);
    if (rest > 0) {
      this.#header += rest;
      if (this.#header === HEADER.length) this.#answers.push(START);
    }
    this.#cutter.push(chunk, rest, chunk.length);
    if (this.#cutter.error !== undefined) throw this.#cutter.error;
    if (this.#answers.length === 0) return;
    this.#socket.write(this.#answers.length === 1 ? this.#answers[0]! : Buffer.concat(this.#answers));
    this.#answers = [];
  }

  frame(type: number, channel: number, id: number, octets: Uint8Array, start: number, end: number): void {
    if (type === 8) this.#answers.push(HEARTBEAT);
    else if (type === 1) this.#method(channel, id, octets, start);
    else if (type === 2) {
      const size = Buffer.from(octets.buffer, octets.byteOffset + start + 11, 8).readBigUInt64BE();
      this.#body(channel, Number(size));
    } else if (type === 3) this.#body(channel, this.#channel(channel).left - (end - start - 8));
  }

  #channel(channel: number): Publishing {
    return (this.#channels[channel] ??= { left: 0, confirmed: undefined });
  }

  #method(channel: number, id: number, octets: Uint8Array, start: number): void {
    const answer = ANSWERS.get(id);
    if (answer !== undefined) this.#answers.push(method(channel, ...answer));
    if (id === METHOD.confirmSelect) this.#channel(channel).confirmed = 0n;
    else if (id === METHOD.channelClose) this.#channels[channel] = undefined;
    else if (id === METHOD.basicConsume) {
      const names = Buffer.from(octets.buffer, octets.byteOffset + start + 13); // behind a reserved field
      const tagAt = 1 + names[0]!;
      const tag = names.subarray(tagAt, tagAt + 1 + names[tagAt]!);
      this.#answers.push(method(channel, 60, 21, tag));
      this.#broker.consumer = { socket: this.#socket, channel, tag: Buffer.from(tag), delivered: 0n };
    } else if (id === METHOD.queueDeclare) {
      this.#answers.push(method(channel, 50, 11, Buffer.concat([shortstr('bench'), Buffer.alloc(8)])));
    }
  }

  #body(channel: number, left: number): void {
    const publishing = this.#channel(channel);
    publishing.left = left;
    if (left > 0) return;
    if (publishing.confirmed !== undefined) {
      const args = Buffer.alloc(9);
      args.writeBigUInt64BE(++publishing.confirmed);
      this.#answers.push(method(channel, 60, 80, args));
    }
    this.#broker.countPublish();
  }
}

/** What a fake broker has seen since its start. */
export interface Counts {
  /** Connections that came, and those that are there. */
  readonly opened: number;
  readonly open: number;
  /** Messages that were published, whole. */
  readonly published: number;
}

/** Listens on ports of 127.0.0.1 that the system chooses. */
export class FakeBroker implements Counts {
  opened = 0;
  open = 0;
  published = 0;
  /** The last one that there was. */
  consumer: Consumer | undefined;
  readonly #sockets = new Set<Socket>();
  readonly #plain = net.createServer({ noDelay: true }, (socket) => this.#accept(socket));
  readonly #secure: tls.Server | undefined;
  #awaited: { count: number; resolve: () => void } | undefined;

  constructor(files?: { cert: Buffer; key: Buffer }) {
    if (files !== undefined) {
      this.#secure = tls.createServer({ ...files, noDelay: true }, (socket) => this.#accept(socket));
      this.#secure.on('tlsClientError', () => {});
    }
  }

  /** @returns the ports for plain connections and for TLS, 0 when there is no certificate */
  async start(): Promise<{ port: number; tlsPort: number }> {
    const listening = [this.#plain, this.#secure].map(async (server) => {
      if (server === undefined) return 0;
      server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
      await once(server, 'listening');
      return (server.address() as AddressInfo).port;
    });
    const [port, tlsPort] = await Promise.all(listening);
    return { port: port!, tlsPort: tlsPort! };
  }

  #accept(socket: Socket): void {
    const connection = new Connection(this, socket);
    this.#sockets.add(socket);
    this.opened++;
    this.open++;
    socket.on('data', (chunk: Buffer) => connection.receive(chunk));
    socket.on('end', () => socket.end());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.open--;
      this.#sockets.delete(socket);
    });
  }

  countPublish(): void {
    this.published++;
    if (this.#awaited === undefined || this.published < this.#awaited.count) return;
    this.#awaited.resolve();
    this.#awaited = undefined;
  }

  /** Waits until so many messages were published since the start. */
  async hasPublished(count: number): Promise<void> {
    if (this.published >= count) return;
    await new Promise<void>((resolve) => (this.#awaited = { count, resolve }));
  }

  /** A message of `size` octets as the consumer gets it. */
  delivery(size: number): Buffer {
    const { channel, tag } = this.consumer!;
    const args = Buffer.concat([tag, Buffer.alloc(9), shortstr(''), shortstr('bench')]);
    return message(method(channel, 60, 60, args), channel, size);
  }

  /** Sends the consumer `count` messages, numbered, as fast as they are taken. */
  async deliver(count: number, size: number): Promise<void> {
    const consumer = this.consumer!;
    const one = this.delivery(size);
    const numberAt = METHOD_ARGUMENTS + consumer.tag.length;
    const inChunk = messagesInChunk(one);
    for (let left = count; left > 0; left -= inChunk) {
      const chunk = Buffer.concat(Array<Buffer>(Math.min(left, inChunk)).fill(one));
      for (let at = numberAt; at < chunk.length; at += one.length) {
        chunk.writeBigUInt64BE(++consumer.delivered, at);
      }
      if (!consumer.socket.write(chunk)) await once(consumer.socket, 'drain');
    }
  }

  close(): void {
    for (const server of [this.#plain, this.#secure]) server?.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
