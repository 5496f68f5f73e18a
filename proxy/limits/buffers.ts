import type { State } from '../deadline.ts';
import type { ProxyErrorCode } from '../errors.ts';
import { REPLY } from '../../amqp/constants.ts';
import type { Limit } from './limit.ts';

/** Once there was too much, all go on when there is this part of the limit. */
const ENOUGH = 0.8;

/** How long too much may wait for clients without getting less, in milliseconds. */
const PATIENCE = 10_000;

/** One client's connection. Numbers are octets. */
export interface Holder {
  readonly state: State;
  /** Held for the client. */
  readonly bufferedForClient: number;
  /** Held for the broker. */
  readonly bufferedForBroker: number;
  /** What of both waits for the client: for it to read, or to send the rest of a message. */
  readonly owed: number;
  /** Ends the connection, and tells the client why. */
  fail(code: ProxyErrorCode, replyCode: number, text: string): void;
}

export interface BufferLimits {
  readonly enforce: boolean;
  /** Octets held of one client; 0 is no limit. */
  readonly bufferPerClient: number;
  /** Octets held of all clients; 0 is no limit. */
  readonly buffer: number;
}

/**
 * What the proxy holds for its clients. What waits for a socket is bounded by itself: nothing more is read for it. Too much in
 * all holds clients at their next publish, so that all that has come before goes on; what is there is looked at a few times a
 * second.
 */
export class Buffers {
  /** There is too much in all: publishes are held, and new clients refused. */
  isFull = false;
  readonly #exceeds: (limit: Limit, describe: () => string) => boolean;
  #limits: BufferLimits;
  /** There was too much, and isn't enough room yet, whether anything is done about it or not. */
  #isAbove = false;
  /** The least that there was since then, and since when there isn't less. */
  #least = 0;
  #since = 0;
  readonly #waiting = new Map<object, () => void>();
  /** That have more than one may, and were counted. */
  #counted = new Set<Holder>();

  /** @param exceeds counts what goes beyond a limit, and says whether anything is done about it */
  constructor(limits: BufferLimits, exceeds: (limit: Limit, describe: () => string) => boolean) {
    this.#limits = limits;
    this.#exceeds = exceeds;
  }

  /** Goes on with other limits. */
  use(limits: BufferLimits): void {
    this.#limits = limits;
    if (limits.buffer === 0) this.#isAbove = false;
    this.#decide();
  }

  #decide(): void {
    this.isFull = this.#isAbove && this.#limits.enforce;
    if (this.isFull) return;
    for (const [key, go] of this.#waiting) if (this.#waiting.delete(key)) go();
  }

  /** What there is too much of, for people. */
  get text(): string {
    return `the proxy holds more than ${this.#limits.buffer} octets for its clients (--max-buffer)`;
  }

  /** Calls `go` when there is room again. @param key who waits; waiting twice changes nothing */
  wait(key: object, go: () => void): void {
    this.#waiting.set(key, go);
  }

  /** Who waited is gone. */
  leave(key: object): void {
    this.#waiting.delete(key);
  }

  /**
   * Counts what there is, and ends what has to be ended; to be called a few times a second.
   * @param others octets for the broker that are nobody's alone
   * @param now of performance.now()
   * @returns octets for clients and for the broker
   */
  look(holders: Iterable<Holder>, others: number, now: number): { forClients: number; forBroker: number } {
    const counted = this.#counted;
    this.#counted = new Set();
    let forClients = 0;
    let forBroker = others;
    for (const holder of holders) {
      const { bufferedForClient, bufferedForBroker } = holder;
      forClients += bufferedForClient;
      forBroker += bufferedForBroker;
      this.#lookAt(holder, bufferedForClient + bufferedForBroker, counted);
    }
    if (this.#limits.buffer > 0) this.#lookAtAll(holders, forClients + forBroker, now);
    return { forClients, forBroker };
  }

  /** Looks at one between two of these times. @param octets that it holds at least */
  check(holder: Holder, octets: number): void {
    this.#lookAt(holder, octets, this.#counted);
  }

  #lookAt(holder: Holder, octets: number, counted: ReadonlySet<Holder>): void {
    const { bufferPerClient } = this.#limits;
    if (bufferPerClient === 0 || octets <= bufferPerClient || holder.state === 'closing') return;
    const isCounted = counted.has(holder);
    this.#counted.add(holder);
    if (isCounted && !this.#limits.enforce) return;
    const text = `${octets} octets are held of the client, more than ${bufferPerClient} (--max-buffer-per-client)`;
    if (this.#exceeds('max-buffer-per-client', () => text))
      holder.fail('BUFFER_LIMIT', REPLY.connectionForced, text);
  }

  #lookAtAll(holders: Iterable<Holder>, octets: number, now: number): void {
    const { buffer } = this.#limits;
    if (!this.#isAbove) {
      if (octets <= buffer) return;
      this.#isAbove = true;
      this.#exceeds('max-buffer', () => this.text);
    } else if (octets <= buffer * ENOUGH) this.#isAbove = false;
    else if (octets >= this.#least) {
      if (this.isFull && now - this.#since >= PATIENCE) this.#endMost(holders, octets, now);
      return;
    }
    this.#least = octets;
    this.#since = now;
    this.#decide();
  }

  /**
   * Ends the clients that most waits for, until there would be enough room; nobody where that would not be reached, since it
   * is the broker that is waited for.
   */
  #endMost(holders: Iterable<Holder>, octets: number, now: number): void {
    this.#since = now;
    const owing = [...holders].filter(({ state, owed }) => state !== 'closing' && owed > 0);
    let left = octets - this.#limits.buffer * ENOUGH;
    if (owing.reduce((sum, { owed }) => sum + owed, 0) < left) return;
    for (const holder of owing.toSorted((one, other) => other.owed - one.owed)) {
      if (left <= 0) return;
      const { owed } = holder;
      left -= owed;
      this.#exceeds('max-buffer', () => this.text);
      const text = `${this.text}, and ${owed} of them have waited for this client for long`;
      holder.fail('BUFFER_LIMIT', REPLY.connectionForced, text);
    }
  }
}
