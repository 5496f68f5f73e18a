// What clients do with the proxy during a soak, besides dying (dying.ts).
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel, ConfirmChannel, Options } from 'amqplib';
import { basicConsume } from '../../support/amqp-frames.ts';
import { prefetch } from '../../support/amqp-methods.ts';
import { acknowledge } from '../../support/mixed-turns.ts';
import { WireClient } from '../../support/wire-client.ts';
import { Chance } from './chance.ts';
import type { Crowd } from './crowd.ts';
import { dial, type Dialled, type DialSettings } from './dial.ts';
import type { MessageLedger, Publication } from './ledger.ts';
import type { SoakProxy } from './proxy.ts';

/** Messages without an answer; a publisher waits then. */
const WINDOW = 50;
/** How long a publisher that is told to stop waits for the answers. */
const LAST_ANSWERS_MS = 20_000;
const PREFETCH = 20;
/** What is under way to a reader that doesn't read. */
const SLOW_PREFETCH = 60;
const PERSISTENT = { persistent: true };
/** As oslo.messaging 14 declares its queues: what RabbitMQ 4.3 refuses, and the proxy rewrites. */
const LEGACY: Options.AssertQueue = { durable: false, exclusive: false, autoDelete: false };

/** What all clients share. */
export interface World {
  readonly seed: number;
  readonly crowd: Crowd;
  readonly ledger: MessageLedger;
  /** PEM of the authority of the proxies' certificates. */
  readonly ca: string;
  /** Aborted when nothing more is to be published. */
  readonly publishing: AbortSignal;
  /** Aborted when all are to stop. */
  readonly running: AbortSignal;
}

/** One client of one proxy. */
export interface Part {
  readonly world: World;
  readonly proxy: SoakProxy;
  /** Unique among all. */
  readonly name: string;
  readonly secure: boolean;
}

function dialOf({ world, proxy, name, secure }: Part): DialSettings {
  return { proxy, name, ca: secure ? world.ca : undefined };
}

function chanceOf({ world, name }: Part): Chance {
  return new Chance(world.seed, name);
}

/** Mostly small; some go in several frames. */
function anySize(chance: Chance): number {
  if (chance.percent(1)) return chance.between(130_000, 200_000);
  return chance.percent(10) ? chance.between(0, 20_000) : chance.between(0, 300);
}

/** Waits until the signal or the end of the connection. */
async function until(signal: AbortSignal, connection: Dialled): Promise<void> {
  const done = new AbortController();
  const waits = signal.aborted ? Promise.resolve([]) : once(signal, 'abort', { signal: done.signal });
  await Promise.race([waits, connection.lost]).catch(() => {});
  done.abort();
}

/** Sends a message and notes its confirm. @param answered told whether it was one; the other answer is a refusal */
function send(
  channel: ConfirmChannel,
  publication: Publication,
  { sequence, body }: { sequence: number; body: Buffer },
  { exchange = '', answered }: { exchange?: string; answered?: (isConfirmed: boolean) => void } = {},
): void {
  channel.publish(exchange, publication.queue, body, PERSISTENT, (error: unknown) => {
    const isConfirmed = error === null || error === undefined;
    if (isConfirmed) publication.confirmed(sequence);
    answered?.(isConfirmed);
  });
}

export interface PublisherSettings {
  readonly queue: string;
  readonly declare: Options.AssertQueue;
  /** Milliseconds between two messages. */
  readonly pause: number;
  /** Octets besides what names the message: any size by default. */
  readonly size?: number;
}

/** Publishes with confirms on one connection; what was not confirmed is published once more. */
export function keepPublishing(part: Part, { queue, declare, pause, size }: PublisherSettings): void {
  const { world, name } = part;
  const chance = chanceOf(part);
  const publication = world.ledger.publisher(name, queue);
  const open = new Map<number, Buffer>();
  world.crowd.keep(name, world.publishing, (getsOn) =>
    dial(dialOf(part), async (connection) => {
      const channel = await connection.confirmChannel();
      await channel.assertQueue(queue, declare);
      const refused: number[] = [];
      const publish = (sequence: number, body: Buffer): void => {
        const answered = (isConfirmed: boolean): void => {
          if (isConfirmed) {
            open.delete(sequence);
            getsOn();
          } else refused.push(sequence);
        };
        send(channel, publication, { sequence, body }, { answered });
      };
      const repeat = (sequences: Iterable<number>): void => {
        for (const sequence of sequences) {
          publication.again(sequence);
          publish(sequence, open.get(sequence)!);
        }
      };
      repeat([...open.keys()]);
      while (!world.publishing.aborted && connection.reason === undefined) {
        repeat(refused.splice(0));
        if (open.size < WINDOW) {
          const { sequence, body } = publication.next(size ?? anySize(chance));
          open.set(sequence, body);
          publish(sequence, body);
        }
        await sleep(pause);
      }
      const deadline = performance.now() + LAST_ANSWERS_MS;
      while (open.size > 0 && connection.reason === undefined && performance.now() < deadline)
        await sleep(20);
    }),
  );
}

/** Consumes and acknowledges on one connection. @param global limits the channel, which quorum queues don't know */
export function keepConsuming(
  part: Part,
  queue: string,
  declare: Options.AssertQueue,
  global: boolean,
): void {
  const { world, name } = part;
  world.crowd.keep(name, world.running, (getsOn) =>
    dial(dialOf(part), async (connection) => {
      const channel = await connection.channel();
      await channel.assertQueue(queue, declare);
      await channel.prefetch(PREFETCH, global);
      await channel.consume(queue, (message) => {
        if (message === null) return connection.lose(new Error(`the consumer of ${queue} was cancelled`));
        world.ledger.got(queue, message.content, message.fields.redelivered);
        channel.ack(message);
        getsOn();
        return undefined;
      });
      await until(world.running, connection);
    }),
  );
}

/** Asks for message by message. */
export function keepGetting(part: Part, queue: string, declare: Options.AssertQueue): void {
  const { world, name } = part;
  const chance = chanceOf(part);
  world.crowd.keep(name, world.running, (getsOn) =>
    dial(dialOf(part), async (connection) => {
      const channel = await connection.channel();
      await channel.assertQueue(queue, declare);
      while (!world.running.aborted && connection.reason === undefined) {
        const message = await channel.get(queue);
        if (message !== false) {
          world.ledger.got(queue, message.content, message.fields.redelivered);
          channel.ack(message);
        }
        getsOn();
        await sleep(chance.between(5, 60));
      }
    }),
  );
}

/** Comes, publishes some, waits for the confirms, goes, and comes again. */
export function keepComing(part: Part, queue: string): void {
  const { world, name } = part;
  const chance = chanceOf(part);
  const publication = world.ledger.publisher(name, queue);
  world.crowd.keep(name, world.publishing, async (getsOn) => {
    await dial(dialOf(part), async (connection) => {
      const channel = await connection.confirmChannel();
      await channel.assertQueue(queue, LEGACY);
      for (let count = chance.between(1, 4); count > 0; count -= 1)
        send(channel, publication, publication.next(anySize(chance)));
      await channel.waitForConfirms();
      if (chance.percent(50)) await channel.close();
    });
    getsOn();
    await sleep(chance.between(50, 250));
  });
}

/** Publishes to a queue of its own, and reads it, until all has come; what doesn't come is waived. */
async function roundTrip(
  channel: ConfirmChannel,
  { ledger }: World,
  { publication, count, exchange }: { publication: Publication; count: number; exchange?: string },
  chance: Chance,
): Promise<void> {
  const { queue } = publication;
  const sequences: number[] = [];
  try {
    const { consumerTag } = await channel.consume(queue, (message) => {
      if (message === null) return;
      ledger.got(queue, message.content, message.fields.redelivered);
      channel.ack(message);
    });
    for (let left = count; left > 0; left -= 1) {
      const message = publication.next(anySize(chance));
      sequences.push(message.sequence);
      send(channel, publication, message, exchange === undefined ? {} : { exchange });
    }
    await channel.waitForConfirms();
    while (!sequences.every((sequence) => publication.isReceived(sequence))) {
      await sleep(10);
      await channel.prefetch(PREFETCH); // rejects when the channel has ended
    }
    await channel.cancel(consumerTag);
  } finally {
    for (const sequence of sequences) publication.waive(sequence);
  }
}

/** An exclusive queue that ends with its connection, as answers to calls have it. */
export function keepCalling(part: Part): void {
  const { world, name } = part;
  const chance = chanceOf(part);
  let turn = 0;
  world.crowd.keep(name, world.publishing, async (getsOn) => {
    turn += 1;
    const queue = `${name} ${turn}`;
    const publication = world.ledger.publisher(queue, queue);
    await dial(dialOf(part), async (connection) => {
      const channel = await connection.confirmChannel();
      await channel.assertQueue(queue, { exclusive: true, durable: false, autoDelete: true });
      await roundTrip(channel, world, { publication, count: chance.between(1, 10) }, chance);
    });
    world.ledger.forget(publication);
    getsOn();
    await sleep(chance.between(100, 500));
  });
}

/** A transient queue and a transient exchange that both end with their last user, as fanouts of old have it. */
export function keepDeclaring(part: Part): void {
  const { world, name } = part;
  const chance = chanceOf(part);
  let turn = 0;
  world.crowd.keep(name, world.publishing, (getsOn) =>
    dial(dialOf(part), async (connection) => {
      for (let turns = chance.between(1, 6); turns > 0; turns -= 1) {
        turn += 1;
        const queue = `${name} ${turn}`;
        const publication = world.ledger.publisher(queue, queue);
        const channel = await connection.confirmChannel();
        await channel.assertExchange(queue, 'topic', { durable: false, autoDelete: true });
        await channel.assertQueue(queue, { durable: false, exclusive: false, autoDelete: true });
        await channel.bindQueue(queue, queue, queue);
        await channel.prefetch(PREFETCH, true);
        await roundTrip(
          channel,
          world,
          { publication, count: chance.between(1, 5), exchange: queue },
          chance,
        );
        await channel.close();
        world.ledger.forget(publication);
        getsOn();
      }
      await sleep(chance.between(100, 500));
    }),
  );
}

/** Reads a while, and then nothing for a while, with much under way. */
export function keepDawdling(part: Part, queue: string): void {
  const { world, proxy, name } = part;
  const chance = chanceOf(part);
  world.crowd.keep(name, world.running, async (getsOn) => {
    await using client = await WireClient.connect(proxy.port);
    const channel = await client.channel(1);
    channel.onDeliver = ({ body, redelivered, deliveryTag }) => {
      world.ledger.got(queue, body, redelivered);
      if (!channel.isClosing) channel.send(acknowledge(1, deliveryTag));
      getsOn();
    };
    await channel.ask(prefetch(1, SLOW_PREFETCH, false));
    await channel.ask(basicConsume({ name: queue, tag: name }));
    while (!world.running.aborted && client.end === undefined) {
      client.socket.pause();
      await sleep(chance.between(500, 4000));
      client.socket.resume();
      await sleep(chance.between(500, 2000));
    }
    if (client.end !== undefined) throw new Error(client.end);
    await channel.close();
    await client.close();
    if (client.faults.length > 0) throw new Error(client.faults.join());
  });
}

/** Is there and says nothing but heartbeats. */
export function keepIdle(part: Part): void {
  const { world, name } = part;
  world.crowd.keep(name, world.running, (getsOn) =>
    dial({ ...dialOf(part), heartbeat: 10 }, async (connection) => {
      const ticks = setInterval(() => {
        if (connection.reason === undefined) getsOn();
      }, 500);
      await until(world.running, connection);
      clearInterval(ticks);
    }),
  );
}

/** Looks at the proxy's page for a while, and asks what else there is. */
export function keepLooking(part: Part): void {
  const { world, proxy, name } = part;
  const chance = chanceOf(part);
  world.crowd.keep(name, world.running, async (getsOn) => {
    for (const path of ['connections?sort=-id&limit=20', 'stats', 'clients', 'metrics']) {
      const response = await fetch(`${proxy.adminUrl}/${path}`);
      await response.text();
      if (!response.ok) throw new Error(`/${path} answered ${response.status}`);
    }
    const leave = new AbortController();
    const { body } = await fetch(`${proxy.adminUrl}/events`, { signal: leave.signal });
    const reader = body!.getReader();
    for (let events = chance.between(1, 5); events > 0; events -= 1) await reader.read();
    leave.abort();
    await reader.closed.catch(() => {});
    getsOn();
    await sleep(chance.between(500, 3000));
  });
}

/** Reads out what is left in a queue. */
export async function readOut(channel: Channel, ledger: MessageLedger, queue: string): Promise<void> {
  for (let empty = 0; empty < 3;) {
    const message = await channel.get(queue);
    if (message === false) {
      empty += 1;
      await sleep(100);
      continue;
    }
    ledger.got(queue, message.content, message.fields.redelivered);
    channel.ack(message);
  }
}
