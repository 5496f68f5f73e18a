import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { readConfig } from '../../common/config-file.ts';
import { createLogger } from '../../common/log.ts';
import { resolveOptions } from '../../common/resolve.ts';
import { startProxy, type RunningProxy } from '../../proxy/main.ts';
import { proxyOptions } from '../../proxy/options.ts';
import { method } from './amqp-frames.ts';

export { frame, method } from './amqp-frames.ts';

/** Octet by octet AMQP 0-9-1, for peers that misbehave on purpose. */
export const HEADER = Buffer.from('AMQP\0\0\x09\x01', 'latin1');

/** Arguments of connection.open: the virtual host `/` and two reserved fields. */
export const OPEN_ARGUMENTS = Buffer.from('\x01/\0\0', 'latin1');

/** Arguments of connection.tune and connection.tune-ok. */
export function tuneArguments(frameMax: number, channelMax = 2047): Buffer {
  const args = Buffer.alloc(8);
  args.writeUInt16BE(channelMax, 0);
  args.writeUInt32BE(frameMax, 2);
  args.writeUInt16BE(60, 6);
  return args;
}

/** Reply code, reply text and the method at fault of the connection.close at the start of `octets`. */
export function readCloseFrame(octets: Buffer): { code: number; text: string; method: string } {
  const length = octets.readUInt8(13);
  const text = octets.toString('utf8', 14, 14 + length);
  const at = 14 + length;
  return {
    code: octets.readUInt16BE(11),
    text,
    method: `${octets.readUInt16BE(at)}.${octets.readUInt16BE(at + 2)}`,
  };
}

/** One end of a connection that keeps what it gets. */
export class Peer {
  readonly socket: Socket;
  received: Buffer = Buffer.alloc(0);
  ended = false;
  closed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk]);
    });
    socket.on('end', () => (this.ended = true));
    socket.on('close', () => (this.closed = true));
    socket.on('error', () => (this.closed = true));
  }

  /** Waits until `done` says so, and fails with what was received otherwise. */
  async until(what: string, done: (peer: Peer) => boolean, milliseconds = 5000): Promise<void> {
    const deadline = Date.now() + milliseconds;
    while (!done(this)) {
      if (Date.now() > deadline) {
        throw new Error(
          `${what}: not within ${milliseconds} ms; received ${this.received.toString('latin1')}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Takes the next `length` octets. */
  async take(length: number): Promise<Buffer> {
    await this.until(`${length} octets`, (peer) => peer.received.length >= length);
    const taken = this.received.subarray(0, length);
    this.received = this.received.subarray(length);
    return taken;
  }

  /** Takes the next frame. */
  async frame(): Promise<Buffer> {
    await this.until('a frame header', (peer) => peer.received.length >= 7);
    return this.take(this.received.readUInt32BE(3) + 8);
  }

  write(...pieces: Uint8Array[]): void {
    for (const piece of pieces) this.socket.write(piece);
  }
}

/** A TCP server that hands out its connections as {@link Peer}s: a broker that does what the test tells it. */
export class ScriptedBroker {
  readonly server = net.createServer({ allowHalfOpen: true }, (socket) => this.#arrived(new Peer(socket)));
  readonly peers: Peer[] = [];
  #waiting: ((peer: Peer) => void)[] = [];

  #arrived(peer: Peer): void {
    this.peers.push(peer);
    this.#waiting.shift()?.(peer);
  }

  async start(): Promise<this> {
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    return this;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** The next connection that comes in. */
  next(): Promise<Peer> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { socket } of this.peers) socket.destroy();
    this.server.close();
    await Promise.resolve();
  }
}

/** A proxy in this process, its log kept as lines. */
export interface TestProxy extends AsyncDisposable {
  readonly proxy: RunningProxy;
  readonly port: number;
  /** The lines logged so far. */
  log(): Record<string, unknown>[];
  /** One metric's samples: the text behind the name, such as `{code="DRAIN"} 1`. */
  metric(name: string): Promise<string[]>;
}

/**
 * Starts a proxy on ports of the system's choice, or, with the flag `config`, of that file's. `flags` are options by
 * camelCase property, as on a command line.
 */
export async function startTestProxy(flags: Record<string, string | string[] | boolean>): Promise<TestProxy> {
  const defaults = { listen: ['127.0.0.1:0'], adminListen: '127.0.0.1:0' };
  const { config } = flags;
  const file = typeof config === 'string' ? config : undefined;
  const read = () =>
    resolveOptions(proxyOptions, {
      flags: { ...(file === undefined ? defaults : {}), ...flags },
      env: {},
      file: file === undefined ? undefined : readConfig(file),
    });
  const destination = new PassThrough();
  let text = '';
  destination.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const proxy = await startProxy(
    { table: proxyOptions, file, read },
    createLogger({ name: 'proxy', level: 'debug', destination }),
  );
  return {
    proxy,
    port: proxy.listeners[0]!.address.port,
    log: () =>
      text
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Record<string, unknown>),
    metric: async (name) => {
      const response = await fetch(`http://127.0.0.1:${proxy.adminAddress.port}/metrics`);
      const lines = (await response.text()).split('\n');
      return lines.filter((line) => line.startsWith(name)).map((line) => line.slice(name.length));
    },
    [Symbol.asyncDispose]: () => proxy.close(),
  };
}

/** Connects to a loopback port. */
export async function connectPeer(port: number): Promise<Peer> {
  const socket = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  const peer = new Peer(socket);
  await once(socket, 'connect');
  return peer;
}

/**
 * Walks a client and the scripted broker through the handshake; answers both ends, with nothing left unread. With a
 * `channelMax` below 2047 the proxy has a channel of its own, the one above it.
 */
export async function openThrough(
  broker: ScriptedBroker,
  port: number,
  frameMax = 131_072,
  channelMax = 2047,
  connect: (port: number) => Promise<Peer> = connectPeer,
): Promise<{ client: Peer; upstream: Peer }> {
  const arriving = broker.next();
  const client = await connect(port);
  client.write(HEADER);
  const upstream = await arriving;
  await upstream.take(8);
  for (const [sender, receiver, octets] of [
    [upstream, client, method(0, 10, 10, Buffer.from('start'))],
    [client, upstream, method(0, 10, 11, Buffer.from('start-ok'))],
    [upstream, client, method(0, 10, 30, tuneArguments(frameMax))],
    [client, upstream, method(0, 10, 31, tuneArguments(frameMax, channelMax))],
    [client, upstream, method(0, 10, 40, OPEN_ARGUMENTS)],
    [upstream, client, method(0, 10, 41, Buffer.of(0))],
  ] as const) {
    sender.write(octets);
    await receiver.frame();
  }
  return { client, upstream };
}
