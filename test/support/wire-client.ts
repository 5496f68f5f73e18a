// A client for many channels at a time that shows each frame's meaning at once and misses nothing that it shouldn't get:
// what no client may be sent is a fault that it keeps. It doesn't repair and doesn't reconnect.
import { once } from 'node:events';
import net, { type Socket } from 'node:net';
import { encodeTable, entry, frame, longstr, method, shortstr } from './amqp-frames.ts';
import { channelClose, channelCloseOk, channelOpen, connectionClose } from './amqp-methods.ts';
import { HEADER } from './peers.ts';

/** A message that came, by basic.deliver or basic.get-ok. */
export interface Arrival {
  /** Empty for basic.get. */
  readonly consumerTag: string;
  readonly deliveryTag: number;
  readonly redelivered: boolean;
  readonly body: Buffer;
}

/** The answer to a method: `50.11` for queue.declare-ok, and the message of a basic.get-ok. */
export interface Answer {
  readonly id: string;
  readonly args: Buffer;
  readonly arrival?: Arrival;
}

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

interface Content {
  readonly id: string;
  readonly args: Buffer;
  /** -1 until the header came. */
  left: number;
  readonly bodies: Buffer[];
}

const DELIVER = '60.60';
const GET_OK = '60.71';
const RETURN = '60.50';

/** class.method of the 4 octets at the start. */
function idOf(payload: Buffer): string {
  return `${payload.readUInt16BE(0)}.${payload.readUInt16BE(2)}`;
}

/** Reply code and text of connection.close and channel.close. */
function closeText(args: Buffer): string {
  return `${args.readUInt16BE(0)} ${args.toString('utf8', 3, 3 + args[2]!)}`;
}

export class WireChannel {
  readonly client: WireClient;
  readonly number: number;
  /** `channel.close 404 …`, or the client's end. */
  ended: string | undefined;
  /** Its user has closed it and may send nothing more. */
  isClosing = false;
  onDeliver: (arrival: Arrival) => void = () => this.#fault('a delivery without a consumer');
  onConfirm: (tag: number, multiple: boolean, isAck: boolean) => void = () =>
    this.#fault('a confirm unasked');
  onReturn: (body: Buffer) => void = () => this.#fault('a return');
  onCancel: (consumerTag: string) => void = () => this.#fault('basic.cancel');
  readonly #waiting: Waiting[] = [];
  #content: Content | undefined;

  constructor(client: WireClient, number: number) {
    this.client = client;
    this.number = number;
  }

  /** Sends a frame; false: the socket's buffer is full. */
  send(...frames: Uint8Array[]): boolean {
    return this.client.send(...frames);
  }

  /** Sends a method that is answered, and rejects with the end of the channel or the client instead. */
  ask(octets: Uint8Array): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    if (this.ended !== undefined || this.isClosing) reject(new Error(this.ended ?? 'is being closed'));
    else {
      this.#waiting.push({ resolve, reject });
      this.send(octets);
    }
    return promise;
  }

  /** basic.publish to a queue by the default exchange, in frames of the size that was agreed. */
  publish(key: string, body: Buffer, { mandatory = false } = {}): boolean {
    const args = [Buffer.alloc(2), shortstr(''), shortstr(key), Buffer.of(mandatory ? 1 : 0)];
    const header = Buffer.alloc(15);
    header.writeUInt16BE(60, 0);
    header.writeBigUInt64BE(BigInt(body.length), 4);
    header.writeUInt16BE(1 << 12, 12); // delivery-mode
    header[14] = 2;
    const frames = [method(this.number, 60, 40, Buffer.concat(args)), frame(2, this.number, header)];
    const size = this.client.frameMax - 8;
    for (let at = 0; at < body.length; at += size)
      frames.push(frame(3, this.number, body.subarray(at, at + size)));
    return this.send(...frames);
  }

  /** Closes the channel and waits for the answer. */
  async close(): Promise<void> {
    const answer = this.ask(channelClose(this.number));
    this.isClosing = true;
    await answer;
    this.end('closed');
  }

  /** For the client: nothing more comes. */
  end(why: string): void {
    this.ended ??= why;
    this.client.forget(this);
    for (const { reject } of this.#waiting.splice(0)) reject(new Error(why));
  }

  /** For the client: a frame of this channel. */
  heard(type: number, payload: Buffer): void {
    if (type === 1) this.#method(idOf(payload), payload.subarray(4));
    else this.#grew(type, payload);
  }

  #method(id: string, args: Buffer): void {
    if (this.#content !== undefined) this.#fault(`${id} inside of a content`);
    switch (id) {
      case DELIVER:
      case GET_OK:
      case RETURN:
        this.#content = { id, args: Buffer.from(args), left: -1, bodies: [] };
        break;
      case '60.80':
      case '60.120':
        this.onConfirm(Number(args.readBigUInt64BE()), (args[8]! & 1) === 1, id === '60.80');
        break;
      case '60.30':
        this.onCancel(args.toString('utf8', 1, 1 + args[0]!));
        break;
      case '20.40':
        this.send(channelCloseOk(this.number));
        this.end(`channel.close ${closeText(args)}`);
        break;
      default:
        this.#answered({ id, args: Buffer.from(args) });
    }
  }

  #grew(type: number, payload: Buffer): void {
    const content = this.#content;
    if (content === undefined || (type === 2) !== content.left < 0)
      return this.#fault(`a frame of type ${type} in the wrong place`);
    if (type === 2) content.left = Number(payload.readBigUInt64BE(4));
    else {
      content.bodies.push(Buffer.from(payload));
      content.left -= payload.length;
    }
    if (content.left > 0) return undefined;
    if (content.left < 0) return this.#fault('more body than announced');
    this.#content = undefined;
    this.#arrived(content.id, content.args, Buffer.concat(content.bodies));
    return undefined;
  }

  #arrived(id: string, args: Buffer, body: Buffer): void {
    if (id === RETURN) return this.onReturn(body);
    const at = id === DELIVER ? 1 + args[0]! : 0;
    const arrival = {
      consumerTag: args.toString('utf8', 1, at),
      deliveryTag: Number(args.readBigUInt64BE(at)),
      redelivered: args[at + 8] === 1,
      body,
    };
    if (id === DELIVER) this.onDeliver(arrival);
    else this.#answered({ id, args, arrival });
    return undefined;
  }

  #answered(answer: Answer): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#fault(`${answer.id} unasked`);
    else waiting.resolve(answer);
  }

  #fault(what: string): void {
    this.client.fault(`channel ${this.number}: ${what}`);
  }
}

export interface WireOptions {
  /** Seconds; 0, the default, is none. */
  readonly heartbeat?: number;
  /** Whether it wants to hear connection.blocked: default true. */
  readonly hearsBlocked?: boolean;
}

export class WireClient implements AsyncDisposable {
  readonly socket: Socket;
  /** What should never have come. */
  readonly faults: string[] = [];
  /** `blocked REASON` and `unblocked`, as they came. */
  readonly blocked: string[] = [];
  /** Heartbeats that came. */
  heartbeats = 0;
  frameMax = 131_072;
  /** Why it ended: `closed` by its user, `connection.close 320 …`, or `lost` without a word. */
  end: string | undefined;
  /** `performance.now()` of its end. */
  endedAt = Infinity;
  readonly ended: Promise<string>;
  readonly #channels = new Map<number, WireChannel>();
  readonly #tellEnd: (why: string) => void;
  #rest: Buffer = Buffer.alloc(0);
  #onControl: ((id: string, args: Buffer) => void) | undefined;
  #timer: NodeJS.Timeout | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    const { promise, resolve } = Promise.withResolvers<string>();
    this.ended = promise;
    this.#tellEnd = resolve;
    socket.setNoDelay(true);
    socket.on('data', (octets: Buffer) => this.#read(octets));
    socket.on('error', () => {}); // `close` follows
    socket.on('end', () => socket.end());
    socket.on('close', () => this.#end('lost'));
  }

  /** Logs in as guest at a port of loopback; rejects with what the other side said, or how it went. */
  static async connect(port: number, options: WireOptions = {}): Promise<WireClient> {
    const { heartbeat = 0, hearsBlocked = true } = options;
    const socket = net.connect({ host: '127.0.0.1', port });
    await once(socket, 'connect');
    const client = new WireClient(socket);
    client.send(HEADER);
    await client.#control('10.10');
    const capabilities = ['basic.nack', 'publisher_confirms', 'consumer_cancel_notify']
      .concat(hearsBlocked ? ['connection.blocked'] : [])
      .map((name) => entry(name, { tag: 't', value: 1 }));
    const properties = [
      entry('capabilities', { tag: 'F', value: capabilities }),
      entry('product', longstr('wire')),
    ];
    const login = Buffer.from('\0\0\0\x0c\0guest\0guest', 'latin1');
    const startOk = [encodeTable(properties), shortstr('PLAIN'), login, shortstr('en_US')];
    client.send(method(0, 10, 11, Buffer.concat(startOk)));
    const tune = Buffer.from(await client.#control('10.30'));
    client.frameMax = tune.readUInt32BE(2);
    tune.writeUInt16BE(heartbeat, 6);
    client.send(method(0, 10, 31, tune));
    client.send(method(0, 10, 40, Buffer.from('\x01/\0\0', 'latin1')));
    await client.#control('10.41');
    client.#onControl = undefined;
    if (heartbeat > 0)
      client.#timer = setInterval(() => client.send(frame(8, 0, Buffer.alloc(0))), heartbeat * 500);
    return client;
  }

  send(...frames: Uint8Array[]): boolean {
    if (this.end !== undefined) return true;
    return this.socket.write(frames.length === 1 ? frames[0]! : Buffer.concat(frames));
  }

  /** Waits until the socket takes more, or the end. */
  async drained(): Promise<void> {
    if (!this.socket.writableNeedDrain || this.end !== undefined) return;
    const done = new AbortController();
    await Promise.race([once(this.socket, 'drain', { signal: done.signal }), this.ended]).catch(() => {});
    done.abort();
  }

  /** Opens a channel that isn't open. */
  async channel(number: number): Promise<WireChannel> {
    const channel = new WireChannel(this, number);
    if (this.end !== undefined) throw new Error(this.end);
    this.#channels.set(number, channel);
    await channel.ask(channelOpen(number));
    return channel;
  }

  /** Closes the connection as the protocol wants it. */
  async close(): Promise<void> {
    this.#onControl = (id) => {
      if (id === '10.51') this.#end('closed');
    };
    this.send(connectionClose());
    await this.ended;
    this.socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end('closed');
    this.socket.destroy();
    await Promise.resolve();
  }

  /** For its channels. */
  forget(channel: WireChannel): void {
    if (this.#channels.get(channel.number) === channel) this.#channels.delete(channel.number);
  }

  fault(what: string): void {
    this.faults.push(what);
  }

  /** Waits for this method of channel 0. */
  #control(wanted: string): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    this.#onControl = (id, args) => {
      if (id === wanted) resolve(args);
      else reject(new Error(`${id} in place of ${wanted}`));
    };
    void this.ended.then((why) => reject(new Error(why)));
    return promise;
  }

  #read(octets: Buffer): void {
    const all = this.#rest.length === 0 ? octets : Buffer.concat([this.#rest, octets]);
    let at = 0;
    while (all.length - at >= 8) {
      const size = all.readUInt32BE(at + 3) + 8;
      if (size > this.frameMax) return this.#broken(`a frame of ${size} octets`);
      if (all.length - at < size) break;
      if (all[at + size - 1] !== 0xce) return this.#broken('a frame without its end');
      this.#frame(all[at]!, all.readUInt16BE(at + 1), all.subarray(at + 7, at + size - 1));
      at += size;
    }
    this.#rest = all.subarray(at);
    return undefined;
  }

  #broken(what: string): void {
    this.fault(what);
    this.socket.destroy();
  }

  #frame(type: number, number: number, payload: Buffer): void {
    if (type === 8) {
      this.heartbeats += 1;
      return;
    }
    if (number > 0) {
      const channel = this.#channels.get(number);
      if (channel === undefined) this.fault(`a frame for channel ${number}, which is not open`);
      else channel.heard(type, payload);
      return;
    }
    const id = idOf(payload);
    const args = payload.subarray(4);
    switch (id) {
      case '10.50':
        this.send(method(0, 10, 51));
        this.#end(`connection.close ${closeText(args)}`);
        break;
      case '10.60':
        this.blocked.push(`blocked ${args.toString('utf8', 1, 1 + args[0]!)}`);
        break;
      case '10.61':
        this.blocked.push('unblocked');
        break;
      default:
        if (this.#onControl === undefined) this.fault(`${id} on channel 0`);
        else this.#onControl(id, args);
    }
  }

  #end(why: string): void {
    if (this.end !== undefined) return;
    this.end = why;
    this.endedAt = performance.now();
    clearInterval(this.#timer);
    for (const channel of this.#channels.values()) channel.end(why);
    this.#tellEnd(why);
  }
}
