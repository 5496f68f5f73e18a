// A relay that keeps what passes, to compare both sides of a proxy octet by octet.
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const PATIENCE_MS = 20_000;
/** Octets of a frame that a difference quotes. */
const QUOTED = 120;

/** What passed on one connection. */
export interface Recording {
  readonly toBroker: Buffer;
  readonly toClient: Buffer;
}

class Tape implements Recording {
  readonly #sent: Buffer[] = [];
  readonly #received: Buffer[] = [];
  open = true;

  constructor(client: Socket, broker: Socket) {
    client.on('data', (octets: Buffer) => this.#sent.push(octets));
    broker.on('data', (octets: Buffer) => this.#received.push(octets));
    for (const [socket, other] of [
      [client, broker],
      [broker, client],
    ] as const) {
      socket.on('error', () => {}); // `close` follows
      socket.on('close', () => {
        other.destroy();
        this.open = false;
      });
      socket.pipe(other);
    }
  }

  get toBroker(): Buffer {
    return Buffer.concat(this.#sent);
  }

  get toClient(): Buffer {
    return Buffer.concat(this.#received);
  }
}

/** Relays any number of connections to a port of 127.0.0.1 and records each. */
export class Recorder implements AsyncDisposable {
  readonly #server: net.Server;
  readonly #tapes: Tape[] = [];
  readonly #sockets = new Set<Socket>();

  /** @param port where the connections go */
  constructor(port: number) {
    this.#server = net.createServer({ allowHalfOpen: true }, (client) => {
      const broker = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
      for (const socket of [client, broker]) this.#sockets.add(socket.setNoDelay(true));
      this.#tapes.push(new Tape(client, broker));
    });
  }

  async start(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections so far. */
  get count(): number {
    return this.#tapes.length;
  }

  /** The connections behind the first `from`, in the order in which they came, when all of them have ended. */
  async recordings(from: number): Promise<Recording[]> {
    const deadline = Date.now() + PATIENCE_MS;
    while (this.#tapes.some((tape) => tape.open)) {
      if (Date.now() > deadline) throw new Error('a connection did not end');
      await sleep(5);
    }
    return this.#tapes.slice(from);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await Promise.resolve();
  }
}

/** A proxy between two recorders. */
export interface Sides {
  /** Between client and proxy. */
  readonly before: Recorder;
  /** Between proxy and broker. */
  readonly behind: Recorder;
}

/** Both sides of each connection that `session` makes through the proxy; it has to close them. */
export async function recorded(
  { before, behind }: Sides,
  session: () => Promise<void>,
): Promise<{ before: Recording; behind: Recording }[]> {
  const from = [before.count, behind.count] as const;
  await session();
  const [left, right] = [await before.recordings(from[0]), await behind.recordings(from[1])];
  if (left.length !== right.length)
    throw new Error(`${left.length} connections of clients became ${right.length} at the broker`);
  return left.map((recording, index) => ({ before: recording, behind: right[index]! }));
}

/**
 * Where a stream differs from what became of it; empty when it does nowhere, but for the channel_max of
 * connection.tune and tune-ok, which is the one thing that the proxy negotiates.
 */
export function difference(original: Buffer, result: Buffer): string {
  const [sent, got] = [original, result].map((stream) => framesOf(stream).map(withoutChannelMax)) as [
    Buffer[],
    Buffer[],
  ];
  const frames = Math.max(sent.length, got.length);
  for (let at = 0; at < frames; at++) {
    const [one, other] = [sent[at], got[at]];
    if (one === undefined || other === undefined || !one.equals(other))
      return `frame ${at} of ${frames}: ${quoted(one)} became ${quoted(other)}`;
  }
  return '';
}

function quoted(frame: Buffer | undefined): string {
  return frame === undefined ? 'nothing' : JSON.stringify(frame.toString('latin1', 0, QUOTED));
}

/** The frames of a stream that are not in the other one, where what came between them is no matter. */
export function missing(stream: Buffer, other: Buffer): Buffer[] {
  const there = framesOf(other).map(withoutChannelMax);
  let at = 0;
  return framesOf(stream).filter((frame) => {
    const found = there.findIndex((each, index) => index >= at && each.equals(withoutChannelMax(frame)));
    if (found >= 0) at = found + 1;
    return found < 0;
  });
}

/** The protocol header and the frames of a stream; at its end what is no whole frame. */
function framesOf(stream: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  let at = 0;
  while (at < stream.length) {
    const isHeader = stream.toString('latin1', at, at + 4) === 'AMQP';
    const size = isHeader ? 8 : stream.length - at < 7 ? Infinity : stream.readUInt32BE(at + 3) + 8;
    frames.push(stream.subarray(at, at + size));
    at += size;
  }
  return frames;
}

/** Class and method of a method frame, such as `10.30`; empty for other frames. */
export function methodOf(frame: Buffer): string {
  return frame[0] === 1 ? `${frame.readUInt16BE(7)}.${frame.readUInt16BE(9)}` : '';
}

function withoutChannelMax(frame: Buffer): Buffer {
  if (!['10.30', '10.31'].includes(methodOf(frame))) return frame;
  const copy = Buffer.from(frame);
  copy.writeUInt16BE(0, 11);
  return copy;
}
