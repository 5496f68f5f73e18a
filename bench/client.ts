import net, { type Socket } from 'node:net';
import tls, { type SecureContext } from 'node:tls';
import { METHOD } from '../amqp/constants.ts';
import { basicConsume, encodeTable, entry, longstr, method, shortstr } from '../test/support/amqp-frames.ts';
import { channelClose, channelOpen, connectionClose } from '../test/support/amqp-methods.ts';
import { HEADER, OPEN_ARGUMENTS, readCloseFrame, tuneArguments } from '../test/support/peers.ts';
import { CONSUMER, FRAME_MAX, publish, QUEUE } from './messages.ts';

// The client of the benchmarks: octets that were encoded beforehand, and of the answers no more than which methods they
// are, so that a client costs little next to what is measured. It waits for each answer, as clients do.

/** Where a client connects, on 127.0.0.1. */
export interface Target {
  readonly port: number;
  /** Authorities that the server is verified against; undefined: plain. */
  readonly secure: SecureContext | undefined;
}

/** Frames that are sent at once, and the method that answers them. */
export interface Step {
  readonly send: Buffer;
  readonly answer: number;
}

/** No peer takes so long for anything, in milliseconds. */
const SILENCE = 30_000;

/** Fewer than brokers offer: a proxy has room for a channel of its own. */
const CHANNEL_MAX = 100;

const START_OK = Buffer.concat([
  encodeTable([
    entry('product', longstr('bench')),
    entry('capabilities', {
      tag: 'F',
      value: ['authentication_failure_close', 'publisher_confirms'].map((name) =>
        entry(name, { tag: 't', value: 1 }),
      ),
    }),
  ]),
  shortstr('PLAIN'),
  Buffer.from('\0\0\0\x0c\0guest\0guest', 'latin1'),
  shortstr('en_US'),
]);

/** Without heartbeats: the client sends none. */
const TUNE = tuneArguments(FRAME_MAX, CHANNEL_MAX).fill(0, 6);

/** From the protocol header to an open channel 1. */
export const LOGIN: readonly Step[] = [
  { send: HEADER, answer: METHOD.connectionStart },
  { send: method(0, 10, 11, START_OK), answer: METHOD.connectionTune },
  {
    send: Buffer.concat([method(0, 10, 31, TUNE), method(0, 10, 40, OPEN_ARGUMENTS)]),
    answer: METHOD.connectionOpenOk,
  },
  { send: channelOpen(1), answer: METHOD.channelOpenOk },
];

/** Puts the channel into confirm mode. */
export const CONFIRM: readonly Step[] = [
  { send: method(1, 85, 10, Buffer.of(0)), answer: METHOD.confirmSelectOk },
];

/** From the open channel to the end of the connection. */
const LOGOUT: readonly Step[] = [
  { send: channelClose(1), answer: METHOD.channelCloseOk },
  { send: connectionClose(), answer: METHOD.connectionCloseOk },
];

/** connect-publish-close: one message of `size` octets, in confirm mode or not. */
export function cycle(size: number, confirm: boolean): readonly Step[] {
  const octets = publish(1, QUEUE, size);
  if (!confirm) {
    const [close, ...rest] = LOGOUT;
    return [...LOGIN, { send: Buffer.concat([octets, close!.send]), answer: close!.answer }, ...rest];
  }
  return [...LOGIN, ...CONFIRM, { send: octets, answer: METHOD.basicAck }, ...LOGOUT];
}

/** Becomes a consumer that doesn't acknowledge. */
export const CONSUME: readonly Step[] = [
  { send: basicConsume({ name: QUEUE, tag: CONSUMER, flags: 2 }), answer: METHOD.basicConsumeOk },
];

/** One connection. */
export class Client {
  readonly socket: Socket;
  #rest: Buffer = Buffer.alloc(0);
  #steps: readonly Step[] = [];
  #at = 0;
  #resolve!: () => void;
  #reject!: (error: Error) => void;

  constructor({ port, secure }: Target) {
    const where = { host: '127.0.0.1', port };
    this.socket =
      secure === undefined
        ? net.connect({ ...where, noDelay: true })
        : tls.connect({ ...where, secureContext: secure, servername: 'localhost' }).setNoDelay();
    this.socket.on('timeout', () => this.#fail(`no answer within ${SILENCE / 1000} s`));
    this.socket.on('data', this.#receive);
    this.socket.on('error', (error) => this.#fail(error.message));
    this.socket.on('close', () => this.#fail('the connection ended'));
  }

  /** Goes through the steps; rejects when something else is answered. */
  play(steps: readonly Step[]): Promise<void> {
    this.#steps = steps;
    this.#at = 0;
    this.socket.setTimeout(SILENCE);
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      this.socket.write(steps[0]!.send);
    });
  }

  /** Takes the octets that follow out of the client's hands. */
  handOver(): Socket {
    this.socket.off('data', this.#receive);
    return this.socket;
  }

  readonly #receive = (chunk: Buffer): void => {
    let octets = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (octets.length >= 7) {
      const end = octets.readUInt32BE(3) + 8;
      if (octets.length < end) break;
      if (octets[0] === 1) this.#answered(octets.subarray(0, end));
      octets = octets.subarray(end);
    }
    this.#rest = octets;
  };

  #answered(frame: Buffer): void {
    const step = this.#steps[this.#at];
    const id = frame.readUInt32BE(7);
    if (id !== step?.answer) {
      const closes = id === METHOD.connectionClose || id === METHOD.channelClose;
      this.#fail(closes ? readCloseFrame(frame).text : `${id >>> 16}.${id & 0xffff}`);
      return;
    }
    this.#at++;
    if (this.#at < this.#steps.length) this.socket.write(this.#steps[this.#at]!.send);
    else {
      this.socket.setTimeout(0);
      this.#resolve();
    }
  }

  #fail(why: string): void {
    if (this.#at >= this.#steps.length) return;
    this.#reject(new Error(`step ${this.#at + 1} of ${this.#steps.length}: ${why}`));
    this.#steps = [];
    this.socket.destroy();
  }
}

/** Goes through the steps `count` times, each on a connection of its own, `atOnce` at a time. */
export async function repeat(
  target: Target,
  steps: readonly Step[],
  count: number,
  atOnce: number,
): Promise<void> {
  let left = count;
  const work = async (): Promise<void> => {
    while (left-- > 0) {
      const client = new Client(target);
      await client.play(steps);
      client.socket.end();
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}
