// Clients that die in the middle of what they are saying.
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { basicConsume, encodeTable, method, queueDeclare, shortstr } from './amqp-frames.ts';
import {
  basicGet,
  basicPublish,
  channelClose,
  channelOpen,
  confirmSelect,
  connectionClose,
  prefetch,
} from './amqp-methods.ts';
import { txSelect } from './mixed-turns.ts';
import { connectPeer, HEADER, OPEN_ARGUMENTS, tuneArguments } from './peers.ts';
import { RawClient } from './raw-client.ts';
import type { TrafficCheck } from './traffic-check.ts';

/** Channels of each. */
export const VICTIMS_CHANNELS = [1, 2, 3];

/** What a channel of its holds when it dies. */
const STATES: readonly ((channel: number, queue: string) => readonly [Buffer, string] | undefined)[] = [
  () => undefined,
  (channel) => [confirmSelect(channel), 'confirm.select-ok'],
  (channel) => [txSelect(channel), 'tx.select-ok'],
  (channel) => [prefetch(channel, 3, false), 'basic.qos-ok'],
  (channel, queue) => [queueDeclare({ channel, name: queue, flags: 1 }), 'queue.declare-ok'],
  (channel, queue) => [basicConsume({ channel, name: queue, tag: `of ${channel}` }), 'basic.consume-ok'],
];

function any<T>(choices: readonly T[]): T {
  return choices[randomInt(choices.length)]!;
}

/** A publish in several frames, the body in pieces of any size. */
function publish(channel: number, queue: string, body: Buffer): Buffer {
  const whole = basicPublish(channel, queue, body.toString('latin1'));
  if (randomInt(2) === 0) return whole;
  const at = whole.length - body.length - 8;
  const split = randomInt(1, body.length);
  const pieces = [body.subarray(0, split), body.subarray(split)].map((piece) => {
    const head = Buffer.alloc(7);
    head[0] = 3;
    head.writeUInt16BE(channel, 1);
    head.writeUInt32BE(piece.length, 3);
    return Buffer.concat([head, piece, Buffer.of(0xce)]);
  });
  return Buffer.concat([whole.subarray(0, at), ...pieces]);
}

/** Sends it in two parts and goes: without a word, by the end of the stream, or by a reset. */
async function die(client: RawClient, octets: Buffer): Promise<void> {
  const cut = randomInt(octets.length);
  client.send(octets.subarray(0, cut));
  if (randomInt(2) === 0) await sleep(randomInt(5));
  client.send(octets.subarray(cut));
  if (randomInt(2) === 0) await sleep(randomInt(5));
  if (randomInt(2) === 0) client.reset();
  await client[Symbol.asyncDispose]();
}

/**
 * Opens channels, gives some of them a state, and dies within what it says on them, which is mostly publishes to its
 * queue and at times its end.
 */
export async function dieTalking(
  check: TrafficCheck,
  port: number,
  name: string,
  queue: string,
): Promise<void> {
  const client = await RawClient.connect(port);
  await client.channels(...VICTIMS_CHANNELS);
  const inTransaction = new Set<number>();
  for (const channel of VICTIMS_CHANNELS) {
    const state = any(STATES)(channel, queue);
    if (state === undefined) continue;
    if (state[1] === 'tx.select-ok') inTransaction.add(channel);
    client.send(state[0]);
    let heard = '';
    while (!heard.startsWith(state[1])) {
      heard = await client.hear(channel);
      if (/^(?:closed|connection\.close|channel\.close) ?/.test(heard)) throw new Error(`${name}: ${heard}`);
    }
  }
  const publishers = new Map(
    VICTIMS_CHANNELS.map((channel) => [channel, check.publisher(`${name}/${channel}`, queue)]),
  );
  const frames: Buffer[] = [];
  for (let count = randomInt(1, 12); count > 0; count -= 1) {
    const channel = any(VICTIMS_CHANNELS);
    const kind = randomInt(20);
    if (kind === 0) frames.push(basicGet(channel, queue, false));
    else if (kind === 1) frames.push(queueDeclare({ channel, name: queue, flags: 1 }));
    else frames.push(publish(channel, queue, publishers.get(channel)!.next(randomInt(1, 2000))));
  }
  if (randomInt(10) === 0) frames.push(channelClose(any(VICTIMS_CHANNELS)));
  if (randomInt(10) === 0) frames.push(connectionClose());
  for (const channel of inTransaction) publishers.get(channel)!.forbid();
  const octets = Buffer.concat(frames);
  await die(client, octets.subarray(0, randomInt(1, octets.length)));
}

/** Dies within its login. */
export async function dieGreeting(port: number): Promise<void> {
  const peer = await connectPeer(port);
  const login = Buffer.from('\0\0\0\x0c\0guest\0guest', 'latin1');
  const startOk = [encodeTable([]), shortstr('PLAIN'), login, shortstr('en_US')];
  const said = [
    HEADER,
    method(0, 10, 11, Buffer.concat(startOk)),
    method(0, 10, 31, tuneArguments(131_072)),
    method(0, 10, 40, OPEN_ARGUMENTS),
    channelOpen(1),
  ];
  const octets = Buffer.concat(said.slice(0, randomInt(1, said.length + 1)));
  peer.write(octets.subarray(0, randomInt(octets.length)));
  await sleep(randomInt(10));
  if (randomInt(2) === 0) peer.socket.resetAndDestroy();
  peer.socket.destroy();
}
