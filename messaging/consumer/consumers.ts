import { UsageError } from '../../common/errors.ts';
import type { MessagingConfig } from '../config.ts';
import { channelsOf, versionOf } from '../connection.ts';
import { Connector, type ConnectorState } from '../connector.ts';
import type { Propagator } from '../observe/propagation.ts';
import { declareEach, declareTopology, refusalText } from '../topology/apply.ts';
import { declarations, declarationsOf, identity } from '../topology/declarations.ts';
import type { ChannelModel } from 'amqplib';
import type { Outcome } from './delivery.ts';
import { Forwarder } from './forwarder.ts';
import type { Handler } from './handler.ts';
import { QueueConsumer } from './queue-consumer.ts';
import { queueOf, rulesOf } from './rules.ts';

/** basic.qos has two octets for it. */
const PREFETCH_MAX = 65_535;

export interface ConsumersSettings {
  /** For people that look at the broker's connections. */
  readonly name: string;
  /** By the name of a queue of the configuration. */
  readonly handlers: Readonly<Record<string, Handler>>;
  /** Lets handlers run within the trace that the message's headers carry. Default: they run in none. */
  readonly propagator?: Propagator;
  /** Something that an operator wants to know: the file's warnings, a handler that threw, a queue that is not consumed. No secrets. */
  readonly onProblem?: (text: string) => void;
}

/** What has become of messages since the start. */
export type ConsumersStats = Readonly<Record<Outcome, number>>;

/** The same for one queue, and how many deliveries were taken up. */
export type QueueStats = Readonly<Record<Outcome | 'consumed', number>>;

/**
 * Consumes from queues. The topology is declared at each connection; when the connection, a channel or a queue is gone, it is declared
 * again and consuming goes on, later and later as the connection's reconnect_delay says. A queue that can't be declared or consumed
 * keeps none of the others from it. Messages are handled at least once.
 */
export class Consumers {
  readonly #connector: Connector;
  readonly #forwarder: Forwarder;
  readonly #config: MessagingConfig;
  readonly #consumers = new Map<string, QueueConsumer>();
  readonly #stopping = new AbortController();
  readonly #onProblem: (text: string) => void;
  readonly #ready: { resolve: () => void; reject: (error: Error) => void }[] = [];
  readonly #queues = new Map<string, Record<keyof QueueStats, number>>();
  readonly #settings: ConsumersSettings;
  #ended: Error | undefined;
  /** Why nothing is consumed of which nothing else is known. */
  #connectionProblem = 'a connection to the broker is being made';

  /** Begins to consume, unless the configuration says `enabled: false`. @throws UsageError for handlers that don't fit the configuration */
  constructor(config: MessagingConfig, settings: ConsumersSettings) {
    const { name, handlers, onProblem } = settings;
    this.#config = config;
    this.#settings = settings;
    this.#onProblem = (text) => onProblem?.(text);
    for (const warning of config.warnings) this.#onProblem(warning);
    this.#forwarder = new Forwarder(config, { name: `${name}, retries`, onProblem: this.#onProblem });
    for (const [queue, handler] of Object.entries(handlers))
      this.#consumers.set(queue, this.#consumerOf(queue, handler));
    this.#connector = new Connector({
      connection: config.connection,
      name,
      events: {
        open: (model) => this.#opened(model),
        lost: (reason) => {
          for (const consumer of this.#consumers.values()) consumer.lost();
          this.#connectionProblem = `the connection to the broker was lost: ${reason}`;
          if (!this.#stopping.signal.aborted) this.#onProblem(this.#connectionProblem);
        },
        failed: (error) => this.#end(error),
        retrying: (error, _attempt, delayMs) => {
          this.#connectionProblem = error.message;
          const next = delayMs === undefined ? '' : `; the next try in ${delayMs} ms`;
          this.#onProblem(`${error.message}${next}`);
        },
      },
    });
    if (config.enabled) this.#connector.start();
    else this.#connectionProblem = 'the file says enabled: false';
  }

  /** Whether all queues are consumed. Nothing is to be with `enabled: false`, and that is as it should be. */
  get isHealthy(): boolean {
    if (!this.#config.enabled) return true;
    return this.#ended === undefined && this.unconsumed.size === 0;
  }

  /** The queues that have a handler and are not consumed at this time, and why. */
  get unconsumed(): ReadonlyMap<string, string> {
    const found = new Map<string, string>();
    for (const [queue, { isConsuming, problem }] of this.#consumers) {
      if (!isConsuming) found.set(queue, this.#ended?.message ?? problem ?? this.#connectionProblem);
    }
    return found;
  }

  get name(): string {
    return this.#settings.name;
  }

  /** Of the connection; `connecting` with `enabled: false`. */
  get state(): ConnectorState {
    return this.#connector.state;
  }

  get stats(): ConsumersStats {
    const sum = { acked: 0, requeued: 0, rejected: 0, retried: 0 };
    for (const stats of this.#queues.values()) {
      for (const outcome of Object.keys(sum) as Outcome[]) sum[outcome] += stats[outcome];
    }
    return sum;
  }

  /** By the name of each queue that has a handler. */
  get queues(): ReadonlyMap<string, QueueStats> {
    return this.#queues;
  }

  /** Resolves when all queues are consumed; rejects when the consumers are stopped or max_reconnect_attempts are used up. */
  ready(): Promise<void> {
    if (this.isHealthy) return Promise.resolve();
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      this.#ready.push({ resolve, reject });
    });
  }

  /**
   * Takes no further messages, lets handlers finish those that they have begun, and closes the connection. What isn't finished in time
   * goes back to its queue.
   * @returns how many messages that are
   */
  async stop({ timeoutMs = 30_000 }: { timeoutMs?: number } = {}): Promise<number> {
    this.#end(new Error('the consumers are stopped'));
    this.#stopping.abort();
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, timeoutMs);
    const consumers = [...this.#consumers.values()];
    await Promise.race([Promise.all(consumers.map((consumer) => consumer.stop())), late]);
    clearTimeout(timer);
    const unfinished = consumers.reduce((sum, { inFlight }) => sum + inFlight, 0);
    if (unfinished > 0)
      this.#onProblem(
        `${unfinished} messages were not finished within ${timeoutMs / 1000} s: they come back`,
      );
    await this.#connector.close();
    await this.#forwarder.close(0);
    return unfinished;
  }

  #consumerOf(queue: string, handler: Handler): QueueConsumer {
    const found = queueOf(this.#config, queue);
    if (found === undefined) {
      const queues = this.#config.exchanges.flatMap((exchange) => exchange.queues);
      const has = queues.map(({ name }) => name).join(', ') || 'none';
      throw new UsageError(
        `handler of queue ${JSON.stringify(queue)}: the file has no such queue; it has ${has}`,
      );
    }
    const { prefetch = found.prefetch } = handler;
    const { concurrency = prefetch === 0 ? Infinity : prefetch } = handler;
    if (!Number.isInteger(prefetch) || prefetch < 0 || prefetch > PREFETCH_MAX)
      throw new UsageError(
        `prefetch of queue ${queue}: ${prefetch} is not a whole number from 0 to ${PREFETCH_MAX}`,
      );
    if (concurrency !== Infinity && (!Number.isInteger(concurrency) || concurrency < 1))
      throw new UsageError(`concurrency of queue ${queue}: ${concurrency} is not a whole number from 1`);
    const stats = { consumed: 0, acked: 0, requeued: 0, rejected: 0, retried: 0 };
    this.#queues.set(queue, stats);
    return new QueueConsumer({
      client: this.name,
      propagator: this.#settings.propagator,
      queue,
      handler,
      prefetch,
      concurrency,
      firstDelayMs: this.#config.connection.reconnectDelayMs,
      answerMs: this.#config.connection.connectTimeoutMs,
      forwarder: this.#forwarder,
      signal: this.#stopping.signal,
      onProblem: this.#onProblem,
      onBegun: () => {
        stats.consumed++;
      },
      onOutcome: (outcome) => {
        stats[outcome]++;
      },
      onConsuming: () => {
        if (!this.isHealthy) return;
        for (const { resolve } of this.#ready.splice(0)) resolve();
      },
    });
  }

  async #opened(model: ChannelModel): Promise<void> {
    const version = versionOf(model);
    const { connectTimeoutMs } = this.#config.connection;
    this.#connectionProblem = 'it is being declared';
    const refusals = await declareEach(model, declarations(this.#config, version), connectTimeoutMs);
    const ofNobody = new Set(refusals);
    let left = refusals.filter(({ isAnswered }) => !isAnswered).length;
    const onChannelLeft = (): void => {
      // A connection has so many channels, and those that answer nothing are never free again.
      if (++left * 2 >= channelsOf(model)) this.#connector.drop('the broker leaves its channels unanswered');
    };
    for (const [name, consumer] of this.#consumers) {
      const queue = queueOf(this.#config, name)!;
      const needed = declarationsOf(this.#config, name, version);
      const things = new Set(needed.map(identity));
      const own = refusals.filter(({ declaration }) => things.has(identity(declaration)));
      for (const refusal of own) ofNobody.delete(refusal);
      consumer.start({
        model,
        rules: rulesOf(queue, version),
        refusal: own[0] && refusalText(own[0]),
        declare: () => declareTopology(model, needed, connectTimeoutMs),
        onChannelLeft,
      });
    }
    for (const refusal of ofNobody)
      this.#onProblem(`${refusalText(refusal)}; no queue that is consumed here needs it`);
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const { reject } of this.#ready.splice(0)) reject(error);
  }
}
