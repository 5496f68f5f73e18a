// A broker that answers, proxies before it with limits, and clients that meet these.
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { AnsweringBroker } from './answering-broker.ts';
import { Peer, startTestProxy, type TestProxy } from './peers.ts';
import { RawClient, type RawOptions } from './raw-client.ts';

const ACTIVE = 'quorumbridge_proxy_connections_active ';

/** All of it ends with the world. */
export class LimitsWorld implements AsyncDisposable {
  readonly broker: AnsweringBroker;
  readonly #running: AsyncDisposable[];

  private constructor(broker: AnsweringBroker) {
    this.broker = broker;
    this.#running = [broker];
  }

  static async start(): Promise<LimitsWorld> {
    const broker = new AnsweringBroker();
    await broker.start();
    return new LimitsWorld(broker);
  }

  /** Has it end with the world. */
  keep<T extends AsyncDisposable>(one: T): T {
    this.#running.push(one);
    return one;
  }

  async proxyTo(flags: Record<string, string | string[] | boolean>): Promise<TestProxy> {
    return this.keep(await startTestProxy({ backend: `127.0.0.1:${this.broker.port}`, ...flags }));
  }

  /** A client that is let in. */
  async client(proxy: TestProxy, options: RawOptions = {}): Promise<RawClient> {
    return this.keep(await RawClient.connect(proxy.port, options));
  }

  /** What a client hears that isn't let in, or `let in`. */
  async refusal(proxy: TestProxy, options: RawOptions = {}): Promise<string> {
    return this.client(proxy, options).then(
      () => 'let in',
      (error: Error) => error.message,
    );
  }

  /** A connection from a loopback address, with nothing sent. */
  async connectFrom(address: string, { port }: TestProxy): Promise<Peer> {
    const socket = net.connect({ host: '127.0.0.1', port, localAddress: address, allowHalfOpen: true });
    const peer = new Peer(socket);
    await once(socket, 'connect');
    this.keep({ [Symbol.asyncDispose]: async () => void socket.destroy() });
    return peer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const one of this.#running.splice(0).toReversed()) await one[Symbol.asyncDispose]();
  }
}

/** How often a limit was hit. */
export async function hits(proxy: TestProxy, limit: string): Promise<number> {
  const [value] = await proxy.metric(`quorumbridge_proxy_limit_hits_total{limit="${limit}"} `);
  return Number(value);
}

/** How many connections ended with an error code. */
export async function errors(proxy: TestProxy, code: string): Promise<number> {
  const [sample = ''] = await proxy.metric(`quorumbridge_proxy_errors_total{code="${code}",`);
  return Number(sample.split(' ')[1]);
}

/** Waits until so many clients' connections are open. */
export async function active(proxy: TestProxy, count: number): Promise<void> {
  for (let tries = 0; (await proxy.metric(ACTIVE))[0] !== String(count); tries++) {
    if (tries > 200) throw new Error(`not ${count} connections, but ${(await proxy.metric(ACTIVE))[0]}`);
    await sleep(10);
  }
}
