// A TCP relay on loopback that keeps frames of clients from their broker: the broker never answers what it doesn't hear.
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';

/** A method of a client. */
export interface Heard {
  readonly classId: number;
  readonly methodId: number;
  /** The whole frame. */
  readonly octets: Buffer;
}

/** AMQP 0-9-1, section 4.2.2. */
const PROTOCOL_HEADER = 8;

export class DeafRelay implements AsyncDisposable {
  /** Methods that don't come through. */
  isKept: (method: Heard) => boolean = () => false;
  /** Connections so far. */
  count = 0;
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();

  /** @param port where the connections go */
  constructor(port: number) {
    this.#server = net.createServer((near) => this.#arrived(near, net.connect(port, '127.0.0.1')));
  }

  async start(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await Promise.resolve();
  }

  #arrived(near: net.Socket, far: net.Socket): void {
    this.count++;
    far.pipe(near);
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => {}); // `close` follows
      socket.on('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    let held = Buffer.alloc(0);
    let isGreeted = false;
    near.on('data', (octets: Buffer) => {
      held = Buffer.concat([held, octets]);
      for (;;) {
        const size = isGreeted ? (held.length < 7 ? Infinity : held.readUInt32BE(3) + 8) : PROTOCOL_HEADER;
        if (held.length < size) return;
        const frame = held.subarray(0, size);
        held = held.subarray(size);
        const isMethod = isGreeted && frame[0] === 1;
        isGreeted = true;
        const method = isMethod
          ? { classId: frame.readUInt16BE(7), methodId: frame.readUInt16BE(9), octets: frame }
          : undefined;
        if (method === undefined || !this.isKept(method)) far.write(frame);
      }
    });
  }
}
