// A client that hides no frame and repairs nothing: what it sends are the octets of its caller, and what it hears are the
// broker's frames in their order, as text.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { encodeTable, entry, type Entry, longstr, method, shortstr } from './amqp-frames.ts';
import { channelOpen, connectionClose } from './amqp-methods.ts';
import { connectPeer, HEADER, Peer } from './peers.ts';

/** Longer than any broker or proxy takes for an answer here, and shorter than a test. */
const PATIENCE_MS = 20_000;

/** Bodies are quoted up to here. */
const QUOTED = 40;

/** The methods that a client hears, by class and method, with what of their arguments is told. */
const METHODS: Record<string, [name: string, ...fields: ('octet' | 'word' | 'long' | 'tag' | 'short')[]]> = {
  '10.20': ['connection.secure'],
  '10.41': ['connection.open-ok'],
  '10.51': ['connection.close-ok'],
  '10.60': ['connection.blocked', 'short'],
  '10.61': ['connection.unblocked'],
  '20.11': ['channel.open-ok'],
  '20.21': ['channel.flow-ok', 'octet'],
  '20.41': ['channel.close-ok'],
  '40.11': ['exchange.declare-ok'],
  '40.21': ['exchange.delete-ok'],
  '50.11': ['queue.declare-ok', 'short', 'long', 'long'],
  '50.21': ['queue.bind-ok'],
  '50.31': ['queue.purge-ok', 'long'],
  '50.41': ['queue.delete-ok', 'long'],
  '60.11': ['basic.qos-ok'],
  '60.21': ['basic.consume-ok', 'short'],
  '60.30': ['basic.cancel', 'short'],
  '60.31': ['basic.cancel-ok', 'short'],
  '60.50': ['basic.return', 'word', 'short'],
  '60.60': ['basic.deliver', 'short', 'tag', 'octet'],
  '60.71': ['basic.get-ok', 'tag', 'octet'],
  '60.72': ['basic.get-empty'],
  '60.80': ['basic.ack', 'tag'],
  '60.111': ['basic.recover-ok'],
  '60.120': ['basic.nack', 'tag'],
  '85.11': ['confirm.select-ok'],
  '90.11': ['tx.select-ok'],
  '90.21': ['tx.commit-ok'],
  '90.31': ['tx.rollback-ok'],
};

/** The methods that a body follows. */
const WITH_CONTENT = new Set(['60.50', '60.60', '60.71']);

const FRAME_MAX = 131_072;

/** connection.start and connection.tune. */
const START = 0x000a_000a;
const TUNE = 0x000a_001e;

/** A method that the client got, with its content where it has one. */
export interface Heard {
  readonly channel: number;
  /**
   * Such as `queue.declare-ok q 0 0` (name, messages, consumers), `basic.deliver ctag 1 0 body` (consumer, delivery tag,
   * redelivered), `channel.close 406 PRECONDITION_FAILED - … (50.10)`, or `closed` for the end of the socket.
   */
  readonly text: string;
}

export interface RawOptions {
  readonly virtualHost?: string;
  /** Where the broker doesn't offer less. */
  readonly channelMax?: number;
  /** channel_max of connection.tune-ok, whatever is offered. */
  readonly askedChannels?: number;
  /** frame_max of connection.tune-ok, whatever is offered; else 131072, where no less is offered. */
  readonly askedFrames?: number;
  /** The client's capability consumer_cancel_notify: default true. */
  readonly cancelNotify?: boolean;
  /** Its capability authentication_failure_close, to be told why it isn't let in: default true. */
  readonly failureClose?: boolean;
  /** Default: guest, whose password is guest. */
  readonly user?: string;
  readonly password?: string;
  /** The SASL mechanism and its response, where it isn't PLAIN with user and password. */
  readonly sasl?: { readonly mechanism: string; readonly response: Uint8Array };
  /** connection_name: none by default. */
  readonly name?: string;
  /** Heartbeats in seconds; 0 is none. Default 60. This client sends none by itself. */
  readonly heartbeat?: number;
  /** What comes before the protocol header: a header of the PROXY protocol. */
  readonly before?: Uint8Array;
  /** By TLS. */
  readonly tls?: tls.ConnectionOptions;
}

export class RawClient implements AsyncDisposable {
  readonly #peer: Peer;
  readonly #heard: Heard[] = [];
  #heartbeats = 0;
  /** Octets of the longest frame that came. */
  longest = 0;
  /** A method whose content is under way. */
  #content: { heard: Heard; left: number; body: Buffer } | undefined;

  private constructor(peer: Peer) {
    this.#peer = peer;
  }

  /** Logs in; rejects with what it hears when it is refused. @param port of a broker or a proxy on loopback */
  static async connect(port: number, options: RawOptions = {}): Promise<RawClient> {
    const peer = options.tls === undefined ? await connectPeer(port) : await connectTls(port, options.tls);
    const client = new RawClient(peer);
    try {
      await client.#login(options);
    } catch (error) {
      peer.socket.destroy();
      throw error;
    }
    return client;
  }

  async #login(options: RawOptions): Promise<void> {
    const { virtualHost = '/', channelMax = 2047, heartbeat = 60 } = options;
    const peer = this.#peer;
    peer.socket.setNoDelay(true);
    peer.write(options.before ?? new Uint8Array(0), HEADER);
    await this.#expect(START);
    peer.write(startOk(options));
    const tune = await this.#expect(TUNE);
    const tuneOk = Buffer.alloc(8);
    tuneOk.writeUInt16BE(options.askedChannels ?? Math.min(tune.readUInt16BE(11), channelMax), 0);
    tuneOk.writeUInt32BE(options.askedFrames ?? Math.min(tune.readUInt32BE(13) || FRAME_MAX, FRAME_MAX), 2);
    tuneOk.writeUInt16BE(heartbeat, 6);
    const open = Buffer.concat([shortstr(virtualHost), Buffer.alloc(2)]);
    peer.write(method(0, 10, 31, tuneOk), method(0, 10, 40, open));
    const answer = await this.hear();
    if (answer !== 'connection.open-ok') throw new Error(answer);
  }

  /** The next frame, which has to be this method; rejects with what it is. */
  async #expect(methodId: number): Promise<Buffer> {
    const octets = await this.#octets();
    if (octets.length > 10 && octets.readUInt32BE(7) === methodId) return octets;
    this.#take(octets);
    throw new Error(await this.hear());
  }

  /** Heartbeats that came. */
  get heartbeats(): number {
    return this.#heartbeats;
  }

  send(...frames: Uint8Array[]): void {
    this.#peer.socket.write(Buffer.concat(frames));
  }

  /** Opens these channels. */
  async channels(...numbers: number[]): Promise<void> {
    this.send(...numbers.map(channelOpen));
    for (const number of numbers) {
      const answer = await this.hear(number);
      if (answer !== 'channel.open-ok') throw new Error(answer);
    }
  }

  /** Sends a frame and returns what is heard next on its channel, and after the loss of the connection that. */
  async ask(frame: Buffer): Promise<string> {
    const channel = frame.readUInt16BE(1);
    this.send(frame);
    return this.hear(channel);
  }

  /** What came next; with `channel`, there or for the whole connection. Rejects when nothing comes. */
  async hear(channel?: number): Promise<string> {
    const isWanted = (heard: Heard) =>
      channel === undefined || heard.channel === channel || heard.channel === 0;
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const at = this.#heard.findIndex(isWanted);
      if (at >= 0) return this.#heard.splice(at, 1)[0]!.text;
      await this.#read(deadline);
    }
  }

  /** What comes next within so many milliseconds, or undefined. */
  async hearWithin(milliseconds: number): Promise<string | undefined> {
    const deadline = Date.now() + milliseconds;
    while (this.#heard.length === 0 && Date.now() < deadline) await this.#read(deadline).catch(() => {});
    return this.#heard.shift()?.text;
  }

  /** What came next, as often as `count`, with the channel before it: `1 queue.declare-ok q 0 0`. */
  async hears(count: number): Promise<string[]> {
    const deadline = Date.now() + PATIENCE_MS;
    while (this.#heard.length < count) await this.#read(deadline);
    return this.#heard.splice(0, count).map(({ channel, text }) => `${channel} ${text}`);
  }

  /** What came within so many milliseconds, all of it, as {@link hears} has it. */
  async overhears(milliseconds: number): Promise<string[]> {
    const deadline = Date.now() + milliseconds;
    while (Date.now() < deadline && this.#heard.at(-1)?.text !== 'closed')
      await this.#read(deadline).catch(() => {});
    return this.hears(this.#heard.length);
  }

  /** Closes the connection as the protocol wants it. */
  async close(): Promise<void> {
    this.send(connectionClose());
    let answer = '';
    while (answer !== 'connection.close-ok' && answer !== 'closed') answer = await this.hear(0);
    this.#peer.socket.destroy();
  }

  /** Takes nothing from its socket, until {@link resume}. */
  pause(): void {
    this.#peer.socket.pause();
  }

  resume(): void {
    this.#peer.socket.resume();
  }

  /** Goes without a word: TCP reset; with TLS its end. */
  reset(): void {
    const { socket } = this.#peer;
    if (socket instanceof tls.TLSSocket) socket.destroy();
    else socket.resetAndDestroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#peer.socket.destroy();
    await Promise.resolve();
  }

  async #read(deadline: number): Promise<void> {
    this.#take(await this.#octets(deadline));
  }

  #take(octets: Buffer): void {
    const channel = octets.readUInt16BE(1);
    const payload = octets.subarray(7, -1);
    switch (octets[0]) {
      case 1:
        this.#method(channel, payload);
        break;
      case 2:
        this.#content!.left = Number(payload.readBigUInt64BE(4));
        this.#contentGrew(Buffer.alloc(0));
        break;
      case 3:
        this.#contentGrew(payload);
        break;
      case 0:
        this.#heard.push({ channel: 0, text: 'closed' });
        break;
      default:
        this.#heartbeats++;
    }
  }

  #method(channel: number, payload: Buffer): void {
    const id = `${payload.readUInt16BE(0)}.${payload.readUInt16BE(2)}`;
    if (id === '10.50' || id === '20.40') {
      const length = payload[6]!;
      const text = payload.toString('utf8', 7, 7 + length);
      const blamed = `${payload.readUInt16BE(7 + length)}.${payload.readUInt16BE(9 + length)}`;
      const name = id === '10.50' ? 'connection.close' : 'channel.close';
      this.#heard.push({ channel, text: `${name} ${payload.readUInt16BE(4)} ${text} (${blamed})` });
      if (id === '10.50') this.send(method(0, 10, 51));
      return;
    }
    const heard = { channel, text: describe(id, payload.subarray(4)) };
    if (WITH_CONTENT.has(id)) this.#content = { heard, left: 0, body: Buffer.alloc(0) };
    else this.#heard.push(heard);
  }

  #contentGrew(octets: Buffer): void {
    const content = this.#content!;
    content.body = Buffer.concat([content.body, octets]);
    content.left -= octets.length;
    if (content.left > 0) return;
    const { length } = content.body;
    const body = length > QUOTED ? `<${length} octets>` : content.body.toString();
    this.#heard.push({ channel: content.heard.channel, text: `${content.heard.text} ${body}` });
    this.#content = undefined;
  }

  /** The next frame; one octet 0 for the end of the socket. */
  async #octets(deadline = Date.now() + PATIENCE_MS): Promise<Buffer> {
    const peer = this.#peer;
    for (;;) {
      const { received } = peer;
      const size = received.length < 7 ? Infinity : received.readUInt32BE(3) + 8;
      if (received.length >= size) {
        this.longest = Math.max(this.longest, size);
        return peer.take(size);
      }
      if (peer.ended || peer.closed) return Buffer.alloc(3);
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`nothing more came; heard: ${JSON.stringify(this.#heard)}`);
      const done = new AbortController();
      const { signal } = done;
      await Promise.race([
        ...['data', 'end', 'close'].map((event) => once(peer.socket, event, { signal })),
        sleep(left, undefined, { signal }),
      ]).catch(() => {});
      done.abort();
    }
  }
}

async function connectTls(port: number, options: tls.ConnectionOptions): Promise<Peer> {
  const socket = tls.connect({ host: '127.0.0.1', ...options, port });
  await once(socket, 'secureConnect');
  return new Peer(socket);
}

/** connection.start-ok with the client's capabilities. */
export function startOk(options: RawOptions): Buffer {
  const { cancelNotify = true, failureClose = true, user = 'guest', password = 'guest', name } = options;
  const plain = { mechanism: 'PLAIN', response: Buffer.from(`\0${user}\0${password}`) };
  const { mechanism, response } = options.sasl ?? plain;
  const capability = (key: string, has: boolean): Entry => entry(key, { tag: 't', value: has ? 1 : 0 });
  const capabilities = [
    capability('consumer_cancel_notify', cancelNotify),
    capability('authentication_failure_close', failureClose),
    capability('connection.blocked', true),
  ];
  const properties = [
    entry('capabilities', { tag: 'F', value: capabilities }),
    entry('product', longstr('raw')),
    ...(name === undefined ? [] : [entry('connection_name', longstr(name))]),
  ];
  const length = Buffer.alloc(4);
  length.writeUInt32BE(response.length);
  const args = [encodeTable(properties), shortstr(mechanism), length, response, shortstr('en_US')];
  return method(0, 10, 11, Buffer.concat(args));
}

function describe(id: string, args: Buffer): string {
  const [name, ...fields] = METHODS[id] ?? [id];
  let at = 0;
  const told = fields.map((field) => {
    const from = at;
    switch (field) {
      case 'short':
        at += 1 + args[from]!;
        return args.toString('utf8', from + 1, at);
      case 'word':
        at += 2;
        return String(args.readUInt16BE(from));
      case 'long':
        at += 4;
        return String(args.readUInt32BE(from));
      case 'tag':
        at += 8;
        return String(args.readBigUInt64BE(from));
      default:
        at += 1;
        return String(args[from]);
    }
  });
  return [name, ...told].join(' ');
}
