import { METHOD } from '../../amqp/constants.ts';
import type { TelemetryStats } from './stats.ts';

const CHANNEL_CLASS = 20;

/** A client's open channels, as the methods that the client gets tell. */
export class OpenChannels {
  /** Channels that were opened. */
  opened = 0;
  readonly #stats: TelemetryStats;
  #open: Set<number> | undefined;

  constructor(stats: TelemetryStats) {
    this.#stats = stats;
  }

  /** How many are open. */
  get size(): number {
    return this.#open?.size ?? 0;
  }

  /** A method for the client, on one of its own channels. Called for each: it must be cheap. */
  heard(method: number, channel: number): void {
    if (method >>> 16 === CHANNEL_CLASS) this.#heard(method, channel);
  }

  #heard(method: number, channel: number): void {
    if (method === METHOD.channelOpenOk) {
      this.#open ??= new Set();
      if (this.#open.has(channel)) return;
      this.#open.add(channel);
      this.opened++;
      this.#stats.channelsOpened++;
      this.#stats.channelsOpen++;
    } else if (method === METHOD.channelCloseOk) this.#closed(channel, 'client');
    else if (method === METHOD.channelClose) this.#closed(channel, 'broker');
  }

  #closed(channel: number, by: 'client' | 'broker'): void {
    if (this.#open?.delete(channel) !== true) return;
    this.#stats.channelsOpen--;
    this.#stats.channelsClosed[by]++;
  }

  /** The connection is gone, and with it what was open. */
  ended(): void {
    this.#stats.channelsOpen -= this.size;
    this.#stats.channelsClosed.connection += this.size;
    this.#open = undefined;
  }
}
