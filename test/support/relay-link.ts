// A TCP relay on loopback whose links can be made worse while they are in use.
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';

/**
 * `blackhole`: octets of either end are taken no more and nobody is told; new connections are let in by the system and
 * hear nothing. `sever`: what is there is reset, and so is what comes.
 */
export type RelayMode = 'pass' | 'blackhole' | 'sever';

/** One way of a link. */
class Way {
  readonly #from: Socket;
  readonly #to: Socket;
  /** What is under way; undefined is the end. */
  readonly #held: { due: number; octets: Buffer | undefined }[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isStuck = false;

  constructor(from: Socket, to: Socket, delay: () => number) {
    this.#from = from;
    this.#to = to;
    const hold = (octets: Buffer | undefined) => {
      this.#held.push({ due: performance.now() + delay(), octets });
      this.#forward();
    };
    from.on('data', hold);
    from.on('end', () => hold(undefined));
    to.on('drain', () => this.#setReading());
  }

  /** Stops the way, with what is on it, and lets it go on. */
  stick(isStuck: boolean): void {
    this.#isStuck = isStuck;
    this.#setReading();
    this.#forward();
  }

  #setReading(): void {
    if (this.#isStuck || this.#to.writableNeedDrain) this.#from.pause();
    else this.#from.resume();
  }

  #forward(): void {
    clearTimeout(this.#timer);
    if (this.#isStuck) return;
    const now = performance.now();
    while (this.#held[0] !== undefined && this.#held[0].due <= now) {
      const { octets } = this.#held.shift()!;
      if (octets === undefined) this.#to.end();
      else this.#to.write(octets);
      this.#setReading();
    }
    const next = this.#held[0];
    if (next !== undefined) this.#timer = setTimeout(() => this.#forward(), next.due - now);
  }
}

interface Link {
  readonly sockets: readonly [Socket, Socket];
  readonly ways: readonly [Way, Way];
}

/** Relays any number of connections to a port of 127.0.0.1. */
export class RelayLink implements AsyncDisposable {
  /** Milliseconds by which what the far end (the broker) says comes later. */
  answerDelay = 0;
  readonly #server: net.Server;
  readonly #links = new Set<Link>();
  readonly #frozen = new Set<Link>();
  #mode: RelayMode = 'pass';
  readonly #arrivals: number[] = [];

  /** @param port where the connections go */
  constructor(port: number) {
    this.#server = net.createServer({ allowHalfOpen: true }, (near) => this.#arrived(near, port));
  }

  async start(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections that were let through so far. */
  get count(): number {
    return this.#arrivals.length;
  }

  /** When they came, milliseconds of performance.now(). */
  get arrivals(): readonly number[] {
    return this.#arrivals;
  }

  /** Changes all links, those to come too. From `blackhole` back to `pass`, what was stuck goes on. */
  set(mode: RelayMode): void {
    this.#mode = mode;
    for (const { sockets, ways } of this.#links) {
      if (mode === 'sever') for (const socket of sockets) socket.resetAndDestroy();
      else for (const way of ways) way.stick(mode === 'blackhole');
    }
  }

  /** Stops the links that are there for good; new ones pass. */
  freeze(): void {
    this.set('blackhole');
    this.#mode = 'pass';
    for (const link of this.#links) this.#frozen.add(link);
    this.#links.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const link of this.#frozen) this.#links.add(link);
    this.set('sever');
    this.#server.close();
    await Promise.resolve();
  }

  #arrived(near: Socket, port: number): void {
    near.on('error', () => {}); // `close` follows
    if (this.#mode === 'sever') return void near.resetAndDestroy();
    this.#arrivals.push(performance.now());
    const far = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
    const ways = [new Way(near, far, () => 0), new Way(far, near, () => this.answerDelay)] as const;
    const link = { sockets: [near, far], ways } as const;
    this.#links.add(link);
    for (const way of ways) way.stick(this.#mode === 'blackhole');
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      socket.setNoDelay(true);
      socket.on('error', () => {}); // `close` follows
      socket.on('close', () => {
        this.#links.delete(link);
        this.#frozen.delete(link);
        other.destroy();
      });
    }
  }
}
