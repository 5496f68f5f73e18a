import type { Channel, ChannelModel, ConfirmChannel, Message } from 'amqplib';
import { Distribution } from '../../common/distribution.ts';
import { messageOf } from '../../common/errors.ts';
import type { MessagingConfig } from '../config.ts';
import { closeChannel } from '../connection.ts';
import { Connector, type ConnectorState } from '../connector.ts';
import type { BrokerFailure } from '../errors.ts';
import { type Events, events } from '../observe/events.ts';
import type { Propagator } from '../observe/propagation.ts';
import { type Confirmation, Entry } from './entry.ts';
import { PublishError, type PublishFailure } from './errors.ts';
import { Line } from './line.ts';
import { type Encoded, encode, type OutgoingMessage } from './message.ts';

/** Messages on the way to the broker at a time: more don't make it faster, and are more to publish again. */
const WINDOW = 1024;

/** How often deadlines are looked at, in milliseconds: what a timeout may be late. */
const SWEEP_MS = 100;

/** Upper bounds of the latency's buckets, in seconds. */
const LATENCY_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** The broker closes connections with it when it is stopped: nobody's fault. */
const CONNECTION_FORCED = 320;

export interface PublisherSettings {
  /** For people that look at the broker's connections. */
  readonly name: string;
  /** Messages that wait for the broker or for a connection, at most. Default 10,000. */
  readonly maxWaiting?: number;
  /** Octets of their contents, at most. Default 64 MiB. */
  readonly maxWaitingOctets?: number;
  /** A connection is there: for what has to be declared. What it rejects with counts as a failed connection. */
  readonly onOpen?: (model: ChannelModel) => Promise<void>;
  /** Carries the caller's trace to the consumers, in headers. Default: nothing is carried. */
  readonly propagator?: Propagator;
  /** Something that an operator wants to know: a connection that was lost or can't be made. No secrets. */
  readonly onProblem?: (text: string) => void;
}

/** What a publisher has counted since its start. */
export interface PublisherStats {
  readonly published: number;
  readonly confirmed: number;
  /** Written to the connection, with `confirm: false`. */
  readonly sent: number;
  readonly failed: Readonly<Record<PublishFailure, number>>;
  /** Messages that were sent again after a connection or a channel was lost. */
  readonly republished: number;
  /** Settled neither way yet. */
  readonly waiting: number;
}

/**
 * Publishes with confirms. Every publish settles exactly once: confirmed, or rejected with a {@link PublishError}. What wasn't
 * confirmed when a connection is lost is published again on the next one, in its order and with its messageId: consumers see
 * twice what had arrived, and can tell by the messageId.
 */
export class Publisher {
  readonly #config: Pick<MessagingConfig, 'connection' | 'publisher'>;
  readonly #settings: PublisherSettings;
  readonly #connector: Connector;
  /** Not sent on this channel yet, in their order; settled ones are left out when it is their turn. */
  readonly #waiting = new Line<Entry>();
  /** Sent on this channel, by delivery tag. */
  readonly #sent = new Map<number, Entry>();
  readonly #byId = new Map<string, Entry>();
  #octets = 0;
  #tag = 0;
  #channel: Channel | undefined;
  #isFull = false;
  /** The broker takes no messages for want of memory or disk, and says so. */
  #isBlocked = false;
  /** When the broker answered last, milliseconds of performance.now(). */
  #heardAt = 0;
  /** How often it has. */
  #answers = 0;
  /** So many of those waiting were on a channel that the broker ended: they go one at a time, so that it shows which one is at fault. */
  #suspects = 0;
  #channelError: Error | undefined;
  #closed: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #failed: Record<PublishFailure, number> = {
    returned: 0,
    nacked: 0,
    refused: 0,
    'timed-out': 0,
    closed: 0,
    overflow: 0,
    invalid: 0,
  };
  #published = 0;
  #confirmed = 0;
  #sentOnly = 0;
  #republished = 0;
  /** From a publish to its confirmation, in seconds. */
  readonly latency = new Distribution(LATENCY_BOUNDS);
  readonly #idle: (() => void)[] = [];
  readonly #ready: { resolve: () => void; reject: (error: Error) => void }[] = [];

  constructor(config: Pick<MessagingConfig, 'connection' | 'publisher'>, settings: PublisherSettings) {
    this.#config = config;
    this.#settings = settings;
    this.#connector = new Connector({
      connection: config.connection,
      name: settings.name,
      events: {
        open: (model) => this.#opened(model),
        lost: (reason, replyCode) => this.#lost(reason, replyCode),
        failed: (error) => this.#end(error.message, error),
        retrying: (error, _attempt, delayMs) => {
          const next = delayMs === undefined ? '' : `; the next try in ${delayMs} ms`;
          settings.onProblem?.(`${error.message}${next}`);
        },
      },
    });
    this.#connector.start();
  }

  get name(): string {
    return this.#settings.name;
  }

  get state(): ConnectorState {
    return this.#connector.state;
  }

  get stats(): PublisherStats {
    return {
      published: this.#published,
      confirmed: this.#confirmed,
      sent: this.#sentOnly,
      failed: { ...this.#failed },
      republished: this.#republished,
      waiting: this.#byId.size,
    };
  }

  /** Resolves when there is a connection; rejects when there will be none. */
  ready(): Promise<void> {
    if (this.#channel !== undefined) return Promise.resolve();
    if (this.#closed !== undefined) return Promise.reject(new Error(this.#closed));
    return new Promise((resolve, reject) => {
      this.#ready.push({ resolve, reject });
    });
  }

  /**
   * Publishes a message; while there is no connection it waits for one.
   * @throws PublishError where it isn't confirmed: `failure` says why
   */
  publish(message: OutgoingMessage): Promise<Confirmation> {
    this.#published++;
    return new Promise((resolve, reject) => {
      const began = performance.now();
      let encoded;
      try {
        encoded = encode(this.#traced(message), Date.now());
      } catch (error) {
        this.#failed.invalid++;
        const { exchange, routingKey, messageId = '' } = message;
        this.#tell({ exchange, routingKey, messageId, began }, 'invalid');
        reject(new PublishError('invalid', messageId, false, messageOf(error)));
        return;
      }
      const { timeoutMs = this.#config.publisher.publishTimeoutMs } = message;
      const entry = new Entry(message, encoded, began, began + timeoutMs, resolve, reject);
      const refusal = this.#refusal(message, encoded);
      if (refusal !== undefined) {
        this.#failed[refusal[0]]++;
        entry.fail(...refusal);
        this.#tell(entry, refusal[0]);
        return;
      }
      if (events.publish.hasSubscribers) {
        const { exchange, routingKey, messageId } = entry;
        const octets = encoded.content.length;
        events.publish.publish({ client: this.name, messageId, exchange, routingKey, octets });
      }
      this.#byId.set(encoded.messageId, entry);
      this.#octets += encoded.content.length;
      this.#waiting.push(entry);
      this.#timer ??= setInterval(() => this.#sweep(), SWEEP_MS);
      this.#pump();
    });
  }

  /** Publishes them in their order, and tells of each how it ended. */
  publishAll(messages: readonly OutgoingMessage[]): Promise<PromiseSettledResult<Confirmation>[]> {
    return Promise.allSettled(messages.map((message) => this.publish(message)));
  }

  /** Resolves when everything that was published is settled. */
  flush(): Promise<void> {
    if (this.#byId.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idle.push(resolve);
    });
  }

  /** Takes nothing more, lets what is under way be confirmed for so long, and closes the connection. */
  async close({ timeoutMs = 10_000 }: { timeoutMs?: number } = {}): Promise<void> {
    this.#closed ??= 'the publisher is closed';
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    const sent = this.flush().then(() => this.#channel && closeChannel(this.#channel));
    await Promise.race([sent, late]);
    clearTimeout(timer);
    this.#end(this.#closed, new Error(this.#closed));
    await this.#connector.close();
  }

  /** Why a message isn't taken. */
  #refusal({ messageId }: OutgoingMessage, { content }: Encoded): [PublishFailure, string] | undefined {
    const { maxWaiting = 10_000, maxWaitingOctets = 64 * 1024 * 1024 } = this.#settings;
    if (this.#closed !== undefined) return ['closed', this.#closed];
    // Those that are made here differ from all others.
    if (messageId !== undefined && this.#byId.has(messageId))
      return ['invalid', 'a message with this messageId is under way already'];
    if (this.#byId.size >= maxWaiting)
      return ['overflow', `${maxWaiting} messages wait already (maxWaiting): wait for some to be confirmed`];
    if (this.#octets + content.length > maxWaitingOctets && this.#byId.size > 0)
      return [
        'overflow',
        `${this.#octets} octets wait already, and ${maxWaitingOctets} may (maxWaitingOctets)`,
      ];
    return undefined;
  }

  async #opened(model: ChannelModel): Promise<void> {
    this.#isBlocked = false;
    model.on('blocked', () => {
      this.#isBlocked = true;
    });
    model.on('unblocked', () => {
      this.#isBlocked = false;
    });
    await this.#settings.onOpen?.(model);
    await this.#openChannel(model);
    for (const { resolve } of this.#ready.splice(0)) resolve();
  }

  async #openChannel(model: ChannelModel): Promise<void> {
    const { confirm } = this.#config.publisher;
    const channel: Channel | ConfirmChannel = confirm
      ? await model.createConfirmChannel()
      : await model.createChannel();
    this.#tag = 0;
    this.#isFull = false;
    this.#channelError = undefined;
    channel.on('ack', ({ deliveryTag, multiple }) => this.#settle(deliveryTag, multiple, true));
    channel.on('nack', ({ deliveryTag, multiple }) => this.#settle(deliveryTag, multiple, false));
    channel.on('return', (message) => this.#returned(message));
    channel.on('drain', () => {
      this.#isFull = false;
      this.#pump();
    });
    channel.on('error', (error) => {
      this.#channelError = error;
    });
    channel.on('close', () => {
      if (this.#channel !== channel) return;
      this.#channel = undefined;
      if (this.#channelError === undefined) return; // the connection is gone: {@link #lost}
      this.#blame(this.#channelError.message);
      this.#openChannel(model).catch((error: unknown) => {
        this.#settings.onProblem?.(`no channel: ${messageOf(error)}`);
        // The next connection has one.
        model.close().catch(() => {});
      });
    });
    this.#channel = channel;
    this.#pump();
  }

  #lost(reason: string, replyCode: number | undefined): void {
    this.#channel = undefined;
    if (replyCode === undefined || replyCode === CONNECTION_FORCED) this.#takeBack();
    else this.#blame(reason);
    if (this.#connector.state !== 'closed')
      this.#settings.onProblem?.(`the connection to the broker was lost: ${reason}`);
  }

  /** The broker has ended the channel or the connection for something that was published. */
  #blame(reason: string): void {
    const open = [...this.#sent.values()].filter(({ isSettled }) => !isSettled);
    if (open.length === 1) {
      this.#sent.clear();
      this.#fail(open[0]!, 'refused', reason);
      return;
    }
    this.#takeBack();
    this.#suspects = open.length;
  }

  /** What was sent and not confirmed comes first on the next channel. */
  #takeBack(): void {
    const again = [...this.#sent.values()].filter(({ isSettled }) => !isSettled);
    this.#sent.clear();
    this.#republished += again.length;
    for (const entry of again) entry.returned = undefined;
    this.#waiting.putBack(again);
  }

  #pump(): void {
    while (this.#channel !== undefined && !this.#isFull) {
      if (this.#sent.size >= (this.#suspects > 0 ? 1 : WINDOW)) return;
      const entry = this.#waiting.shift();
      if (entry === undefined) return;
      if (!entry.isSettled) this.#send(entry, this.#channel);
      else if (this.#suspects > 0) this.#suspects--;
    }
  }

  #send(entry: Entry, channel: Channel): void {
    const { exchange, routingKey, encoded } = entry;
    try {
      this.#isFull = !channel.publish(exchange, routingKey, encoded.content, encoded.options);
    } catch (error) {
      this.#fail(entry, 'invalid', messageOf(error));
      return;
    }
    entry.answersBefore = this.#answers;
    if (this.#config.publisher.confirm) this.#sent.set(++this.#tag, entry);
    else this.#confirm(entry, false);
  }

  #returned({ properties, fields }: Message): void {
    const entry = this.#byId.get(String(properties.messageId));
    const { replyText } = fields as unknown as { replyText: string };
    if (entry !== undefined) entry.returned = replyText;
  }

  #settle(tag: number, multiple: boolean, acked: boolean): void {
    this.#heardAt = performance.now();
    this.#answers++;
    if (multiple) {
      for (const each of this.#sent.keys()) {
        if (each > tag) break;
        this.#settleOne(each, acked);
      }
    } else this.#settleOne(tag, acked);
    this.#pump();
  }

  #settleOne(tag: number, acked: boolean): void {
    const entry = this.#sent.get(tag);
    if (entry === undefined) return;
    this.#sent.delete(tag);
    if (this.#suspects > 0) this.#suspects--;
    if (entry.returned !== undefined)
      this.#fail(
        entry,
        'returned',
        `no queue got it (${entry.returned}): bind one, or correct the routing key`,
      );
    else if (acked) this.#confirm(entry, true);
    else this.#fail(entry, 'nacked', 'the broker could not keep it: see its log, and publish it again');
  }

  #confirm(entry: Entry, confirmed: boolean): void {
    if (!entry.confirm(confirmed)) return;
    if (confirmed) {
      this.#confirmed++;
      this.latency.observe((this.#heardAt - entry.began) / 1000);
    } else this.#sentOnly++;
    this.#tell(entry, confirmed ? 'confirmed' : 'sent');
    this.#forget(entry);
  }

  #fail(entry: Entry, failure: PublishFailure, why: string): void {
    if (!entry.fail(failure, why)) return;
    this.#failed[failure]++;
    this.#tell(entry, failure);
    this.#forget(entry);
  }

  #tell(
    {
      exchange,
      routingKey,
      messageId,
      began,
    }: Pick<Entry, 'exchange' | 'routingKey' | 'messageId' | 'began'>,
    outcome: Events['settle']['outcome'],
  ): void {
    if (!events.settle.hasSubscribers) return;
    const seconds = (performance.now() - began) / 1000;
    events.settle.publish({ client: this.name, messageId, exchange, routingKey, outcome, seconds });
  }

  /** The message with the caller's trace in its headers. */
  #traced(message: OutgoingMessage): OutgoingMessage {
    const { propagator } = this.#settings;
    if (propagator === undefined) return message;
    const headers = { ...message.headers };
    propagator.inject(headers);
    return { ...message, headers };
  }

  #forget({ encoded: { messageId, content } }: Entry): void {
    this.#byId.delete(messageId);
    this.#octets -= content.length;
    if (this.#byId.size > 0 || this.#idle.length === 0) return;
    for (const idle of this.#idle.splice(0)) idle();
  }

  #sweep(): void {
    if (this.#byId.size === 0) this.#rest();
    const now = performance.now();
    let isDeaf = false;
    for (const entry of this.#byId.values()) {
      if (now < entry.deadline) continue;
      isDeaf ||= entry.answersBefore === this.#answers;
      const seconds = Math.round(entry.deadline - entry.began) / 1000;
      const what = entry.sent ? 'the broker has not confirmed it' : 'there was no connection to send it on';
      this.#fail(entry, 'timed-out', `${what} within ${seconds} s (publish_timeout)`);
    }
    // A channel whose queue is in trouble answers nothing any more, and the connection lives on.
    if (isDeaf && !this.#isBlocked) this.#connector.drop('the broker confirms nothing');
  }

  /** Nothing is under way whose time could run out. */
  #rest(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Settles everything, and takes nothing more. */
  #end(why: string, error: BrokerFailure | Error): void {
    this.#closed = why;
    for (const entry of this.#byId.values()) this.#fail(entry, 'closed', why);
    this.#waiting.clear();
    this.#rest();
    for (const { reject } of this.#ready.splice(0)) reject(error);
  }
}
