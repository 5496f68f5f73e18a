// The work of `quorumbridge dlq`.
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelModel, ConsumeMessage } from 'amqplib';
import { messageOf } from '../../common/errors.ts';
import { answered } from '../answered.ts';
import type { MessagingConfig } from '../config.ts';
import { closeConnection, openConnection, versionOf } from '../connection.ts';
import { BrokerFailure } from '../errors.ts';
import { NO_DELIVERY_LIMIT } from '../topology/declarations.ts';
import { probe } from '../topology/probe.ts';
import type { Filter } from './filter.ts';
import { type Letter, letterOf, propertiesOfRedriven } from './letter.ts';
import { Outgoing } from './outgoing.ts';
import { type DeadLetterQueue, deadLetterQueue, deadLetterQueues } from './queues.ts';
import { type Visit, walk } from './walk.ts';

/** How long a message may wait for its turn, as far as `rate` says. */
const HELD_SECONDS = 60;

/** So many messages that could not be redriven are named; the others are counted. */
const NAMED = 20;

export interface DlqSettings {
  readonly config: MessagingConfig;
  readonly queue: string;
  /** All of them have to hold. */
  readonly filters: readonly Filter[];
  /** Of messages that are meant, at most. */
  readonly limit: number | undefined;
  /** Go on where the queue drops messages that come back too often. */
  readonly ignoresDeliveryLimit: boolean;
  /** Ends it in good order. */
  readonly signal: AbortSignal;
  /** Called for each message that is decided on, and then for those that are given back. */
  readonly onProgress: (phase: Phase, done: number, total: number) => void;
}

/** `looking`: of as many messages as the queue held at the start. `giving back`: of those that stay. */
export type Phase = 'looking' | 'giving back';

/** A queue as it is at the broker; undefined where it is not there. */
export interface ListedQueue extends DeadLetterQueue {
  readonly messages: number | undefined;
  readonly consumers: number | undefined;
}

/** The queues for dead letters, and how many messages they hold ready. @throws BrokerFailure */
export function listDeadLetters(config: MessagingConfig): Promise<ListedQueue[]> {
  return withConnection(config, async (model) => {
    const listed: ListedQueue[] = [];
    for (const queue of deadLetterQueues(config)) {
      const found = await countsOf(model, queue.name, config.connection.connectTimeoutMs);
      listed.push({ ...queue, messages: found?.messages, consumers: found?.consumers });
    }
    return listed;
  });
}

export interface ShownLetter extends Letter {
  /** From 1, in the order of the queue, with those that the filters leave out counted. */
  readonly position: number;
  /** As much of it as was asked for. */
  readonly content: Buffer;
}

export interface Shown {
  readonly queue: string;
  /** How many the queue held at the start. */
  readonly found: number;
  readonly letters: readonly ShownLetter[];
}

/**
 * Looks at dead letters, and leaves them where they are.
 * @param octets so many of each content are kept
 * @throws BrokerFailure, UsageError
 */
export function showDeadLetters(settings: DlqSettings, octets: number): Promise<Shown> {
  return withQueue(settings, async (model, { name, feeders }, found) => {
    const letters: ShownLetter[] = [];
    let position = 0;
    await look(model, settings, { count: found }, (message) => {
      position++;
      const letter = letterOf(message, feeders);
      // A copy: a part of it would keep the whole in memory.
      const content = Buffer.from(message.content.subarray(0, octets));
      if (isMeant(settings, letter)) letters.push({ ...letter, position, content });
      return letters.length === settings.limit ? 'end' : 'stay';
    });
    return { queue: name, found, letters };
  });
}

/** Where dead letters go: back where they came from, to a queue, or to an exchange, there with the routing key that they had. */
export type Target =
  | { readonly kind: 'origin' }
  | { readonly kind: 'queue'; readonly name: string }
  | { readonly kind: 'exchange'; readonly name: string; readonly routingKey: string | undefined };

export interface RedriveSettings extends DlqSettings {
  readonly target: Target;
  /** Tells what would be done, and does nothing. */
  readonly isDryRun: boolean;
  /** Messages per second, at most; may be less than one. */
  readonly rate: number | undefined;
}

export interface Redriven {
  readonly queue: string;
  readonly isDryRun: boolean;
  /** How many the queue held at the start. */
  readonly found: number;
  /** How many of them were meant. */
  readonly matched: number;
  /** By where they went: confirmed by the broker, and then acked. */
  readonly redriven: Readonly<Record<string, number>>;
  /** Those that stayed though they were meant, and why; the first ones by name. */
  readonly failed: number;
  readonly failures: readonly { readonly messageId: string | undefined; readonly reason: string }[];
  /** Why it ended before its time; whatever was not redriven is in the queue. */
  readonly ended: string | undefined;
}

/**
 * Publishes dead letters again, and takes each out of its queue once the broker has confirmed it: whatever happens in between, it is
 * in one of the two, or in both.
 * @throws BrokerFailure, UsageError where nothing was begun
 */
export function redriveDeadLetters(settings: RedriveSettings): Promise<Redriven> {
  return withQueue(settings, async (model, queue, found) => {
    const { target, isDryRun, config, signal } = settings;
    await checkTarget(model, target, config.connection.connectTimeoutMs);
    const run = new Redrive(settings, queue, found);
    try {
      if (isDryRun) await run.through(model, undefined);
      else {
        // RabbitMQ reads no acks from a connection that publishes while it is short of memory or disk.
        await withConnection(config, async (publishing) => {
          await run.through(model, await Outgoing.open(publishing, config.publisher.publishTimeoutMs));
        });
      }
    } catch (error) {
      if (!(error instanceof BrokerFailure)) throw error;
      return run.result(error.message);
    }
    return run.result(signal.aborted ? 'it was interrupted' : undefined);
  });
}

class Redrive {
  readonly #settings: RedriveSettings;
  readonly #queue: DeadLetterQueue;
  readonly #found: number;
  readonly #redriven = new Map<string, number>();
  readonly #failures: { messageId: string | undefined; reason: string }[] = [];
  #failed = 0;
  #matched = 0;
  #turn: Promise<unknown> = Promise.resolve();
  /** Milliseconds of performance.now(). */
  #nextTurnAt = 0;

  constructor(settings: RedriveSettings, queue: DeadLetterQueue, found: number) {
    this.#settings = settings;
    this.#queue = queue;
    this.#found = found;
  }

  /** @param outgoing undefined: nothing is published */
  async through(model: ChannelModel, outgoing: Outgoing | undefined): Promise<void> {
    const { limit, rate } = this.#settings;
    const atATime = rate === undefined ? undefined : Math.ceil(rate * HELD_SECONDS);
    await look(model, this.#settings, { count: this.#found, atATime }, (message, signal) => {
      if (this.#matched === limit) return 'end';
      const letter = letterOf(message, this.#queue.feeders);
      if (!isMeant(this.#settings, letter)) return 'stay';
      this.#matched++;
      const place = this.#placeOf(message, letter);
      if (typeof place === 'string') {
        this.#fail(letter, place);
        return 'stay';
      }
      if (outgoing === undefined) {
        this.#count(place);
        return 'stay';
      }
      return this.#send(outgoing, { message, letter, place, signal });
    });
  }

  result(ended: string | undefined): Redriven {
    return {
      queue: this.#queue.name,
      isDryRun: this.#settings.isDryRun,
      found: this.#found,
      matched: this.#matched,
      redriven: Object.fromEntries(this.#redriven),
      failed: this.#failed,
      failures: this.#failures,
      ended,
    };
  }

  async #send(outgoing: Outgoing, { message, letter, place, signal }: Sending): Promise<boolean> {
    await this.#itsTurn(signal);
    if (signal.aborted) return false;
    const properties = propertiesOfRedriven(message, letter, this.#queue.name);
    const refusal = await outgoing.publish(place, message.content, properties);
    if (refusal === undefined) this.#count(place);
    else this.#fail(letter, `${describePlace(place)}: ${refusal}`);
    return refusal === undefined;
  }

  /** In their order, and as far apart as the rate says. */
  #itsTurn(signal: AbortSignal): Promise<unknown> {
    const { rate } = this.#settings;
    if (rate === undefined) return this.#turn;
    const at = Math.max(performance.now(), this.#nextTurnAt);
    this.#nextTurnAt = at + 1000 / rate;
    this.#turn = behind(this.#turn, at, signal);
    return this.#turn;
  }

  #placeOf({ fields }: ConsumeMessage, { death, isOfFeeder }: Letter): Place | string {
    const { target } = this.#settings;
    if (target.kind === 'queue') return { exchange: '', routingKey: target.name };
    if (target.kind === 'exchange') {
      const routingKey = target.routingKey ?? death.routingKey ?? fields.routingKey;
      return { exchange: target.name, routingKey };
    }
    // A message could name any queue in its headers, and the one who redrives it may write to all of them.
    if (isOfFeeder) return { exchange: '', routingKey: death.queue! };
    const from =
      death.queue === undefined
        ? 'nothing says where it came from'
        : `it came from queue ${JSON.stringify(death.queue)}, whose dead letters do not come here by the file`;
    return `${from}: say --to or --exchange`;
  }

  #count(place: Place): void {
    const name = describePlace(place);
    this.#redriven.set(name, (this.#redriven.get(name) ?? 0) + 1);
  }

  #fail({ messageId }: Letter, reason: string): void {
    this.#failed++;
    if (this.#failures.length < NAMED) this.#failures.push({ messageId, reason });
  }
}

/** Resolves when the one before has, and not before a time of performance.now(), or when it is aborted. */
async function behind(before: Promise<unknown>, at: number, signal: AbortSignal): Promise<void> {
  await before;
  const wait = at - performance.now();
  // Timers know whole milliseconds.
  if (wait >= 1) await sleep(wait, undefined, { signal }).catch(() => {});
}

interface Sending {
  readonly message: ConsumeMessage;
  readonly letter: Letter;
  readonly place: Place;
  readonly signal: AbortSignal;
}

interface Place {
  readonly exchange: string;
  readonly routingKey: string;
}

/** One that many messages have in common, so that they can be counted. */
function describePlace({ exchange, routingKey }: Place): string {
  return exchange === '' ? `queue ${JSON.stringify(routingKey)}` : `exchange ${JSON.stringify(exchange)}`;
}

export interface Purged {
  readonly queue: string;
  readonly found: number;
  /** How many were taken away, or would be. */
  readonly purged: number;
  readonly isDone: boolean;
  readonly ended: string | undefined;
}

/**
 * Takes dead letters away for good.
 * @param isMeantSo false: they are only counted
 * @throws BrokerFailure, UsageError where nothing was begun
 */
export function purgeDeadLetters(settings: DlqSettings, isMeantSo: boolean): Promise<Purged> {
  return withQueue(settings, async (model, { name, feeders }, found) => {
    const { limit, signal } = settings;
    let purged = 0;
    const result = (ended?: string): Purged => ({ queue: name, found, purged, isDone: isMeantSo, ended });
    if (!isMeantSo && settings.filters.length === 0) {
      purged = Math.min(found, limit ?? found);
      return result();
    }
    try {
      await look(model, settings, { count: found }, (message) => {
        if (purged === limit) return 'end';
        if (!isMeant(settings, letterOf(message, feeders))) return 'stay';
        purged++;
        return isMeantSo ? Promise.resolve(true) : 'stay';
      });
    } catch (error) {
      if (!(error instanceof BrokerFailure)) throw error;
      return result(error.message);
    }
    return result(signal.aborted ? 'it was interrupted' : undefined);
  });
}

function isMeant({ filters }: DlqSettings, letter: Letter): boolean {
  const now = Date.now();
  return filters.every((filter) => filter(letter, now));
}

async function look(
  model: ChannelModel,
  { config, queue, limit, filters, signal, onProgress }: DlqSettings,
  { count, atATime }: { readonly count: number; readonly atATime?: number | undefined },
  visit: Visit,
): Promise<void> {
  let looked = 0;
  const settled = (): void => onProgress('looking', ++looked, count);
  await walk(model, {
    queue,
    count,
    takes: filters.length === 0 ? limit : undefined,
    atATime,
    timeoutMs: config.connection.connectTimeoutMs,
    signal,
    onGivenBack: (done, total) => onProgress('giving back', done, total),
    visit: (message, ending) => {
      const decision = visit(message, ending);
      if (typeof decision === 'string') settled();
      else decision.then(settled, settled);
      return decision;
    },
  });
}

async function withConnection<T>(
  { connection }: MessagingConfig,
  run: (model: ChannelModel) => Promise<T>,
): Promise<T> {
  const model = await openConnection(connection, 'quorumbridge dlq');
  // What ends the connection ends its channels as well.
  model.on('error', () => {});
  try {
    return await run(model);
  } finally {
    await closeConnection(model);
  }
}

/** With the messages that the queue holds at this time. */
async function withQueue<T>(
  { config, queue: name, ignoresDeliveryLimit }: DlqSettings,
  run: (model: ChannelModel, queue: DeadLetterQueue, found: number) => Promise<T>,
): Promise<T> {
  const queue = deadLetterQueue(config, name);
  const { connectTimeoutMs } = config.connection;
  return withConnection(config, async (model) => {
    const counts = await countsOf(model, name, connectTimeoutMs);
    if (counts === undefined)
      throw new BrokerFailure(
        `queue ${JSON.stringify(name)} is not there: quorumbridge topology apply declares it`,
      );
    if (!ignoresDeliveryLimit) await checkDeliveryLimit(model, name, connectTimeoutMs);
    return run(model, queue, counts.messages);
  });
}

/** A look counts as a delivery, and so does an interrupted redrive: a queue with a limit would drop what it has shown too often. */
async function checkDeliveryLimit(model: ChannelModel, name: string, timeoutMs: number): Promise<void> {
  const { major } = versionOf(model);
  const table = { 'x-queue-type': 'quorum', 'x-delivery-limit': NO_DELIVERY_LIMIT };
  const wanted = { kind: 'queue', name, declare: true, role: 'dead letters', arguments: table } as const;
  const [item] = await probe(model, [wanted], timeoutMs);
  const differences = new Map(item!.differences.map(({ field, have }) => [field, have]));
  if (differences.has('x-queue-type') || !differences.has('x-delivery-limit')) return;
  const have = differences.get('x-delivery-limit');
  if (have === undefined && major < 4) return;
  const limit = have === undefined ? 'the limit of its policy, or 20' : JSON.stringify(have);
  throw new BrokerFailure(
    `queue ${JSON.stringify(name)} has a delivery limit (${limit}): it drops what has come back more often, and being looked at counts; make it anew without one, as quorumbridge topology declares it, or say --ignore-delivery-limit`,
  );
}

async function checkTarget(model: ChannelModel, target: Target, timeoutMs: number): Promise<void> {
  if (target.kind === 'origin') return;
  const channel = await model.createChannel();
  // The same refusal rejects the call.
  channel.on('error', () => {});
  try {
    const found: Promise<unknown> =
      target.kind === 'queue' ? channel.checkQueue(target.name) : channel.checkExchange(target.name);
    await answered(timeoutMs, 'whether it is there', found);
    await channel.close();
  } catch (error) {
    throw new BrokerFailure(`${target.kind} ${JSON.stringify(target.name)}: ${messageOf(error)}`);
  }
}

/** undefined where it is not there. */
async function countsOf(
  model: ChannelModel,
  name: string,
  timeoutMs: number,
): Promise<{ messages: number; consumers: number } | undefined> {
  const channel = await model.createChannel();
  channel.on('error', () => {});
  try {
    const counts = answered(timeoutMs, 'how many it holds', channel.checkQueue(name));
    const { messageCount, consumerCount } = await counts;
    await channel.close();
    return { messages: messageCount, consumers: consumerCount };
  } catch (error) {
    if ((error as { code?: number }).code === 404) return undefined;
    throw new BrokerFailure(`queue ${JSON.stringify(name)}: ${messageOf(error)}`);
  }
}
