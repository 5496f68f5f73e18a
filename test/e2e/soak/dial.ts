// amqplib's connections, with one way to hear that they are gone.
import type { Socket } from 'node:net';
import { connect, type Channel, type ChannelModel, type ConfirmChannel } from 'amqplib';
import type { SoakProxy } from './proxy.ts';

const CONNECT_TIMEOUT_MS = 30_000;

export interface DialSettings {
  readonly proxy: SoakProxy;
  /** connection_name: pool mode tells by it whose clients need connections of their own. */
  readonly name: string;
  /** PEM of the authority that signed the proxy's certificate: connect with TLS. */
  readonly ca?: string | undefined;
  /** Seconds; without it, as the broker proposes. */
  readonly heartbeat?: number;
}

export class Dialled {
  readonly #model: ChannelModel;
  readonly #lost = Promise.withResolvers<void>();
  #reason: Error | undefined;

  constructor(model: ChannelModel) {
    this.#model = model;
    const lose = (error?: Error) => this.lose(error ?? new Error('the connection was closed'));
    model.on('error', lose);
    model.on('close', lose);
  }

  /** Why it, or one of its channels, has ended. */
  get reason(): Error | undefined {
    return this.#reason;
  }

  /** Fulfilled when it has. */
  get lost(): Promise<void> {
    return this.#lost.promise;
  }

  /** It is of no use any more. */
  lose(reason: Error): void {
    this.#reason ??= reason;
    this.#lost.resolve();
  }

  async channel(): Promise<Channel> {
    return this.#watched(await this.#model.createChannel());
  }

  async confirmChannel(): Promise<ConfirmChannel> {
    return this.#watched(await this.#model.createConfirmChannel());
  }

  /** Closes as the protocol wants it. */
  async close(): Promise<void> {
    // amqplib doesn't answer when the socket ends meanwhile.
    await Promise.race([this.#model.close(), this.#lost.promise]);
  }

  /** Goes without a word. */
  destroy(): void {
    const { stream } = this.#model.connection as unknown as { stream: Socket };
    // Without an error amqplib doesn't notice, and waits for heartbeats.
    stream.destroy(new Error('given up'));
  }

  #watched<C extends Channel>(channel: C): C {
    channel.on('error', (error: Error) => this.lose(error));
    return channel;
  }
}

/** Logs in as guest, does the work and closes; rejects with the reason when the connection is lost meanwhile. */
export async function dial(
  { proxy, name, ca, heartbeat }: DialSettings,
  work: (connection: Dialled) => Promise<void>,
): Promise<void> {
  const [scheme, port] = ca === undefined ? ['amqp', proxy.port] : ['amqps', proxy.securePort];
  const query = heartbeat === undefined ? '' : `?heartbeat=${heartbeat}`;
  const url = `${scheme}://guest:guest@127.0.0.1:${port}/${query}`;
  const secure = ca === undefined ? {} : { ca: [ca] };
  const clientProperties = { connection_name: name };
  const connection = new Dialled(
    await connect(url, { timeout: CONNECT_TIMEOUT_MS, clientProperties, ...secure }),
  );
  try {
    await Promise.race([work(connection), connection.lost]);
    if (connection.reason !== undefined) throw connection.reason;
    await connection.close();
  } catch (error) {
    // amqplib rejects what is under way without the reason, which comes by an event.
    throw connection.reason ?? error;
  } finally {
    connection.destroy();
  }
}
