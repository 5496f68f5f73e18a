import { once } from 'node:events';
import net, { type Socket } from 'node:net';
import { serve } from './remote.ts';

// A process that forwards to a port of 127.0.0.1 as a network does that takes DELAY milliseconds each way. A connection
// takes a whole way there and back, as TCP's does, before its first octets set out. It doesn't bound what is under way:
// it is for the few octets of a handshake. Run by worlds.ts with PORT and DELAY.

const [backendPort, delay] = process.argv.slice(2).map(Number) as [number, number];

/** Timers come at whole milliseconds. */
const TICK = 1;

/** One direction: what arrives goes on when its time has come, in order. */
class Line {
  readonly #to: Socket;
  readonly #waiting: { due: number; chunk: Buffer | undefined }[] = [];
  #earliest: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(to: Socket, earliest: number) {
    this.#to = to;
    this.#earliest = earliest;
  }

  /** @param chunk undefined: the end */
  push(chunk: Buffer | undefined): void {
    this.#waiting.push({ due: Math.max(performance.now(), this.#earliest) + delay, chunk });
    if (this.#timer === undefined) this.#wait();
  }

  #wait(): void {
    const left = this.#waiting[0]!.due - performance.now() - TICK / 2;
    this.#timer = setTimeout(() => this.#flush(), Math.max(0, left));
  }

  #flush(): void {
    this.#timer = undefined;
    while (this.#waiting.length > 0 && this.#waiting[0]!.due <= performance.now() + TICK / 2) {
      const { chunk } = this.#waiting.shift()!;
      if (chunk === undefined) this.#to.end();
      else if (this.#to.writable) this.#to.write(chunk);
    }
    if (this.#waiting.length > 0) this.#wait();
  }
}

const server = net.createServer({ noDelay: true, allowHalfOpen: true }, (near) => {
  const far = net.connect({ host: '127.0.0.1', port: backendPort, noDelay: true, allowHalfOpen: true });
  const connected = performance.now() + 2 * delay;
  for (const [from, to] of [
    [near, far],
    [far, near],
  ] as const) {
    const line = new Line(to, connected);
    from.on('data', (chunk: Buffer) => line.push(chunk));
    from.on('end', () => line.push(undefined));
    from.on('error', () => line.push(undefined));
  }
});
const functions = {
  /** Its port. */
  async start(): Promise<number> {
    server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
    await once(server, 'listening');
    return (server.address() as net.AddressInfo).port;
  },
};
export type RelayFunctions = typeof functions;
serve(functions);
