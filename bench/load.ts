import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { METHOD } from '../amqp/constants.ts';
import { Client, CONFIRM, CONSUME, cycle, LOGIN, repeat, type Target } from './client.ts';
import { chunkOf, delivery, publish, QUEUE, windowOf, written } from './messages.ts';
import { quantile } from './peers.ts';

// What the loader does to one target at a time.

/** Octets of a small message. */
const SMALL = 16;

/** Messages that a publisher lets be unconfirmed. */
const UNCONFIRMED = 500;

/** A whole frame of basic.ack. */
const ACK_LENGTH = 21;

/** Clients that log in at the same time. */
const AT_ONCE = 50;

/** Takes so many octets of a socket. */
function receive(socket: Socket, octets: number, every: number, credit: Buffer): Promise<void> {
  let left = octets;
  let untilCredit = every;
  return new Promise((resolve, reject) => {
    socket.once('close', () => reject(new Error(`the connection ended with ${left} octets to come`)));
    socket.on('data', (chunk: Buffer) => {
      left -= chunk.length;
      for (untilCredit -= chunk.length; untilCredit <= 0; untilCredit += every) socket.write(credit);
      if (left <= 0) resolve();
    });
  });
}

/** Clients of one target. */
export class Load {
  readonly #target: Target;
  readonly #clients: Client[] = [];
  #consuming: Promise<void> = Promise.resolve();

  constructor(target: Target) {
    this.#target = target;
  }

  /** Logs in so many clients, each with a channel open. */
  async open(count: number): Promise<void> {
    let left = count;
    const work = async (): Promise<void> => {
      while (left-- > 0) {
        const client = new Client(this.#target);
        this.#clients.push(client);
        await client.play(LOGIN);
      }
    };
    await Promise.all(Array.from({ length: Math.min(count, AT_ONCE) }, work));
  }

  /** Ends all connections. */
  close(): void {
    for (const { socket } of this.#clients.splice(0)) socket.destroy();
  }

  /** Publishes by the first client as fast as it is taken; done when all is on its way. */
  async publish(count: number, size: number): Promise<void> {
    const socket = this.#clients[0]!.handOver().resume();
    const one = publish(1, QUEUE, size);
    const chunk = chunkOf(one);
    for (let left = count * one.length; left > 0; left -= chunk.length) {
      await written(socket, chunk.subarray(0, left));
    }
  }

  /** Publishes by the first client in confirm mode, with a bound to what is not confirmed yet; done at the last confirm. */
  async publishConfirmed(count: number, size: number): Promise<void> {
    const client = this.#clients[0]!;
    await client.play(CONFIRM);
    const socket = client.handOver();
    const one = publish(1, QUEUE, size);
    const batch = Buffer.concat(Array<Buffer>(UNCONFIRMED / 2).fill(one));
    let sent = 0;
    const send = (confirmed: number): void => {
      while (sent < count && sent - confirmed <= UNCONFIRMED / 2) {
        const messages = Math.min(UNCONFIRMED / 2, count - sent);
        sent += messages;
        socket.write(batch.subarray(0, messages * one.length));
      }
    };
    await new Promise<void>((resolve, reject) => {
      socket.once('close', () =>
        reject(new Error(`the connection ended with ${count - sent} messages to send`)),
      );
      let rest: Buffer = Buffer.alloc(0);
      let confirmed = 0;
      socket.on('data', (chunk: Buffer) => {
        const octets = Buffer.concat([rest, chunk]);
        let at = 0;
        // basic.ack is all that comes; a single queue confirms in order.
        for (; octets.length - at >= ACK_LENGTH; at += ACK_LENGTH) {
          if (octets.readUInt32BE(at + 7) !== METHOD.basicAck)
            return reject(new Error('something else than a confirm came'));
          confirmed = Math.max(confirmed, octets.readUInt32BE(at + 15));
        }
        rest = octets.subarray(at);
        if (confirmed === count) resolve();
        else send(confirmed);
      });
      send(0);
    });
  }

  /** Makes the first client a consumer of so many messages; see {@link consumed}. */
  async consume(count: number, size: number): Promise<void> {
    const one = delivery(1, size);
    const every = Math.floor(windowOf(one) / 2) * one.length;
    await this.#clients[0]!.play(CONSUME);
    // Before anything is delivered, which is when this has returned.
    this.#consuming = receive(this.#clients[0]!.handOver(), count * one.length, every, publish(1, QUEUE, 0));
    this.#consuming.catch(() => {}); // consumed() tells
  }

  /** Done when all messages have come. */
  consumed(): Promise<void> {
    return this.#consuming;
  }

  /** Publishes one small message after the other with a confirm; the p50 of the round trips in microseconds. */
  async roundTrips(count: number): Promise<number> {
    const client = this.#clients[0]!;
    await client.play(CONFIRM);
    const one = publish(1, QUEUE, SMALL);
    const socket = client.handOver();
    const times: number[] = [];
    await new Promise<void>((resolve, reject) => {
      let sent = performance.now();
      socket.once('close', () => reject(new Error('the connection ended')));
      socket.on('data', () => {
        const now = performance.now();
        times.push((now - sent) * 1000);
        if (times.length === count) {
          resolve();
          return;
        }
        sent = performance.now();
        socket.write(one);
      });
      socket.write(one);
    });
    return quantile(times, 0.5);
  }

  /** Connects, opens a channel, publishes a small message and closes, so many times; messages are confirmed or not. */
  cycles(count: number, atOnce: number, confirm: boolean): Promise<void> {
    return repeat(this.#target, cycle(SMALL, confirm), count, atOnce);
  }

  /** Publishes small messages, one each millisecond, each by the next client. */
  async paced(count: number): Promise<void> {
    const one = publish(1, QUEUE, SMALL);
    for (let i = 0; i < count; i++) {
      this.#clients[i % this.#clients.length]!.socket.write(one);
      await sleep(1);
    }
  }

  /** Publishes a small message by each client, all at once, so many times. */
  async bursts(count: number): Promise<void> {
    const one = publish(1, QUEUE, SMALL);
    for (let i = 0; i < count; i++) {
      for (const { socket } of this.#clients) socket.write(one);
      await sleep(10);
    }
  }
}
