// What clients do with a channel from its opening to its end, chosen by chance, each thing told to a TrafficCheck.
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { basicConsume, method, queueDeclare } from './amqp-frames.ts';
import { basicCancel, basicGet, basicReject, confirmSelect, prefetch } from './amqp-methods.ts';
import type { Publisher, TrafficCheck } from './traffic-check.ts';
import type { WireChannel, WireClient } from './wire-client.ts';

/** Longer than any turn takes on a busy machine. */
const PATIENCE_MS = 30_000;

/** One of a client's channel numbers, used again and again. */
export interface Lane {
  readonly check: TrafficCheck;
  readonly client: WireClient;
  readonly number: number;
  /** Unique among all lanes. */
  readonly name: string;
  /** The client's own. */
  readonly queue: string;
  /** Whether it limits whole channels at times (basic.qos global), of which RabbitMQ 4.3 logs an error. */
  readonly limitsChannels?: boolean;
}

interface Turn extends Lane {
  readonly channel: WireChannel;
}

function chance(percent: number): boolean {
  return randomInt(100) < percent;
}

/** Mostly small; some go in several frames. */
function anySize(): number {
  if (chance(2)) return randomInt(130_000, 300_000);
  return chance(10) ? randomInt(20_000) : randomInt(300);
}

export function txSelect(channel: number): Buffer {
  return method(channel, 90, 10);
}

export function txCommit(channel: number): Buffer {
  return method(channel, 90, 20);
}

function txRollback(channel: number): Buffer {
  return method(channel, 90, 30);
}

/** basic.ack of one message, or of all up to it. */
export function acknowledge(channel: number, tag: number, multiple = false): Buffer {
  const args = Buffer.alloc(9);
  args.writeBigUInt64BE(BigInt(tag));
  args[8] = multiple ? 1 : 0;
  return method(channel, 60, 80, args);
}

function publishSome({ channel, queue }: Turn, publisher: Publisher): void {
  for (let count = randomInt(1, 15); count > 0; count -= 1) channel.publish(queue, publisher.next(anySize()));
}

/** Publishes and goes: the broker takes in what came before the close. */
async function plain(turn: Turn): Promise<void> {
  const publisher = turn.check.publisher(turn.name, turn.queue);
  publishSome(turn, publisher);
  publisher.owe();
  await turn.channel.close();
}

async function select({ channel, check, queue, name }: Turn): Promise<[Publisher, answered: Promise<void>]> {
  const publisher = check.publisher(name, queue, { confirms: true });
  const { promise, resolve } = Promise.withResolvers<void>();
  channel.onConfirm = (tag, multiple, isAck) => {
    publisher.answered(tag, multiple, isAck);
    if (publisher.unanswered === 0) resolve();
  };
  await channel.ask(confirmSelect(channel.number));
  return [publisher, promise];
}

async function confirms(turn: Turn): Promise<void> {
  const [publisher, answered] = await select(turn);
  publishSome(turn, publisher);
  await answered;
  await turn.channel.close();
}

/** To a queue that there isn't: all of it comes back. */
async function returns(turn: Turn): Promise<void> {
  const nobody = { ...turn, queue: `nobody's ${turn.name}` };
  const [publisher, answered] = await select(nobody);
  const receiver = turn.check.receiver(turn.name, nobody.queue);
  turn.channel.onReturn = (body) => void receiver.got(body, false);
  for (let count = randomInt(1, 5); count > 0; count -= 1)
    turn.channel.publish(nobody.queue, publisher.next(anySize()), { mandatory: true });
  await answered;
  await turn.channel.close();
}

async function transactions(turn: Turn): Promise<void> {
  const { channel, check, number } = turn;
  const publisher = check.publisher(turn.name, turn.queue);
  await channel.ask(txSelect(number));
  for (let round = randomInt(1, 4); round > 0; round -= 1) {
    const from = publisher.count;
    publishSome(turn, publisher);
    const commits = chance(60);
    await channel.ask(commits ? txCommit(number) : txRollback(number));
    if (commits) publisher.owe(from);
    else publisher.forbid(from);
  }
  const from = publisher.count;
  if (chance(30)) publishSome(turn, publisher);
  publisher.forbid(from);
  await channel.close();
}

async function consumes(turn: Turn): Promise<void> {
  const { channel, check, number, queue, name, limitsChannels = false } = turn;
  const noAck = chance(25);
  const tag = chance(50) ? '' : `tag of ${name}`;
  const receiver = check.receiver(name, queue);
  const wanted = randomInt(1, 60);
  const enough = Promise.withResolvers<void>();
  const tags = new Set<string>();
  let arrived = 0;
  channel.onDeliver = ({ consumerTag, deliveryTag, redelivered, body }) => {
    tags.add(consumerTag);
    receiver.got(body, redelivered);
    arrived += 1;
    if (deliveryTag !== arrived)
      check.fault('delivery tag', `${name}: ${deliveryTag} in place of ${arrived}`);
    if (arrived >= wanted) enough.resolve();
    if (noAck || channel.isClosing) return;
    if (chance(3)) channel.send(basicReject(number, deliveryTag));
    else if (arrived % 5 === 0 || chance(50)) channel.send(acknowledge(number, deliveryTag, true));
  };
  if (chance(70)) await channel.ask(prefetch(number, randomInt(1, 20), limitsChannels && chance(30)));
  const answer = await channel.ask(basicConsume({ channel: number, name: queue, tag, flags: noAck ? 2 : 0 }));
  const given = answer.args.toString('utf8', 1);
  await Promise.race([enough.promise, sleep(300)]);
  // What is delivered without acknowledgement is not given back at the close.
  if (noAck || chance(50)) await channel.ask(basicCancel(number, given));
  await channel.close();
  tags.delete(given);
  if (tags.size > 0) check.fault('consumer tag', `${name}: ${[...tags].join()} in place of ${given}`);
}

async function gets(turn: Turn): Promise<void> {
  const { channel, check, number, queue, name } = turn;
  const receiver = check.receiver(name, queue);
  for (let count = randomInt(1, 20); count > 0; count -= 1) {
    const noAck = chance(50);
    const { arrival } = await channel.ask(basicGet(number, queue, noAck));
    if (arrival === undefined) break;
    const got = receiver.got(arrival.body, arrival.redelivered);
    // A quorum queue may hear of an acknowledgement after the channel's end, and then gives the message out again.
    if (noAck) got?.settle();
    else if (chance(80)) channel.send(acknowledge(number, arrival.deliveryTag));
  }
  await channel.close();
}

/** A mistake that costs the channel, and this one alone. */
async function errs({ channel, check, number, name }: Turn): Promise<void> {
  const wrong = queueDeclare({ channel: number, name: `none of ${name}`, flags: 1 });
  const answer = await channel.ask(wrong).then(
    () => 'was answered',
    (error: Error) => error.message,
  );
  if (!answer.startsWith('channel.close 404 ')) check.fault('mistake', `${name}: ${answer}`);
}

const TURNS = { plain, confirms, returns, transactions, consumes, gets, errs };

type TurnKind = keyof typeof TURNS;

/** How often each comes, of 100. */
const SHARES: readonly [TurnKind, number][] = [
  ['plain', 22],
  ['confirms', 16],
  ['returns', 4],
  ['transactions', 10],
  ['consumes', 26],
  ['gets', 17],
  ['errs', 5],
];

/** The turns that were taken; a kind that isn't named isn't taken. */
export type TurnCounts = Partial<Record<TurnKind, number>>;

function anyKind(counts: TurnCounts): TurnKind {
  const shares = SHARES.filter(([kind]) => counts[kind] !== undefined);
  let left = randomInt(shares.reduce((sum, [, share]) => sum + share, 0));
  return shares.find(([, share]) => (left -= share) < 0)![0];
}

/** Opens the lane's channel and closes it again until the deadline (of `performance.now()`). */
export async function takeTurns(lane: Lane, deadline: number, counts: TurnCounts): Promise<void> {
  for (let count = 1; performance.now() < deadline; count += 1) {
    await sleep(randomInt(60));
    const kind = anyKind(counts);
    const name = `${lane.name} ${kind} ${count}`;
    const patience = new AbortController();
    const turn = async () => TURNS[kind]({ ...lane, name, channel: await lane.client.channel(lane.number) });
    const outcome = await Promise.race([
      turn().then(
        () => 'done',
        (error: Error) => error.message,
      ),
      sleep(PATIENCE_MS, 'is stuck', { signal: patience.signal }).catch(() => ''),
    ]);
    patience.abort();
    if (outcome !== 'done') return lane.check.fault('turn', `${name}: ${outcome}`);
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
}

/** Takes what is in a queue, until it has been empty for a second. */
export async function drain(check: TrafficCheck, channel: WireChannel, queue: string): Promise<void> {
  const receiver = check.receiver(`the end of ${queue}`, queue);
  const batch = Array.from({ length: 100 }, () => basicGet(channel.number, queue));
  for (let empty = 0; empty < 2; empty += 1) {
    for (let got = 1; got > 0;) {
      const answers = await Promise.all(batch.map((get) => channel.ask(get)));
      const arrivals = answers.flatMap(({ arrival = [] }) => arrival);
      for (const { body, redelivered } of arrivals) receiver.got(body, redelivered)?.settle();
      got = arrivals.length;
      if (got > 0) empty = 0;
    }
    await sleep(1000);
  }
}
