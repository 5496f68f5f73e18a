/** Consumers of a connection that are followed; what is beyond is left to the queues' expiry. */
const FOLLOWED_MAX = 10_000;

/** A consumer whose end matters to its queue. */
export interface Consumer {
  /** The queue's name, an octet a character. */
  readonly queue: string;
  readonly autoDelete: boolean;
  readonly exclusive: boolean;
  /** The broker has let it begin, or isn't asked to say so. */
  begun: boolean;
  /** It is about to end, or has ended. */
  ending: boolean;
}

/** The consumers of one connection whose end has consequences, by channel and consumer tag (an octet a character). */
export class Consumers {
  readonly #channels = new Map<number, Map<string, Consumer>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Channel and tag of the consumers of auto-delete queues, on one channel or on all. */
  ofAutoDelete(onlyOn?: number): [channel: number, tag: string][] {
    const found: [number, string][] = [];
    for (const [channel, consumers] of this.#channels) {
      if (onlyOn !== undefined && channel !== onlyOn) continue;
      for (const [tag, { autoDelete }] of consumers) if (autoDelete) found.push([channel, tag]);
    }
    return found;
  }

  /** The queues of exclusive consumers. */
  get exclusiveQueues(): string[] {
    return [...this.#channels.values()].flatMap((consumers) =>
      [...consumers.values()].filter(({ exclusive }) => exclusive).map(({ queue }) => queue),
    );
  }

  /** The queue of each consumer of an auto-delete queue. */
  get autoDeleteQueues(): string[] {
    return this.ofAutoDelete().map(([channel, tag]) => this.#channels.get(channel)!.get(tag)!.queue);
  }

  has(channel: number, tag: string): boolean {
    return this.#channels.get(channel)?.has(tag) === true;
  }

  /** @returns false when there are too many of them, or the tag is in use */
  add(channel: number, tag: string, consumer: Consumer): boolean {
    if (this.#size >= FOLLOWED_MAX || this.has(channel, tag)) return false;
    const tags = this.#channels.get(channel) ?? new Map<string, Consumer>();
    this.#channels.set(channel, tags.set(tag, consumer));
    this.#size++;
    return true;
  }

  get(channel: number, tag: string): Consumer | undefined {
    return this.#channels.get(channel)?.get(tag);
  }

  remove(channel: number, tag: string): Consumer | undefined {
    const tags = this.#channels.get(channel);
    const consumer = tags?.get(tag);
    if (tags === undefined || consumer === undefined) return undefined;
    tags.delete(tag);
    if (tags.size === 0) this.#channels.delete(channel);
    this.#size--;
    return consumer;
  }

  /** All of a channel's. */
  removeAll(channel: number): Consumer[] {
    const consumers = [...(this.#channels.get(channel)?.values() ?? [])];
    this.#channels.delete(channel);
    this.#size -= consumers.length;
    return consumers;
  }
}
