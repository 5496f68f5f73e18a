// What brokers close the whole connection for, as a client may send it.
import { basicConsume, basicQos, frame, method, queueDeclare, shortstr } from './amqp-frames.ts';
import { basicPublish, channelOpen } from './amqp-methods.ts';

const RESERVED = Buffer.alloc(2);

/** basic.publish alone; `flags`: mandatory 1, immediate 2. */
function publishMethod(channel: number, flags = 0): Buffer {
  return method(
    channel,
    60,
    40,
    Buffer.concat([RESERVED, shortstr(''), shortstr('nowhere'), Buffer.of(flags)]),
  );
}

/** A content header of a class and a body's size. */
function contentHeader(channel: number, classId: number, size: number): Buffer {
  const payload = Buffer.alloc(14);
  payload.writeUInt16BE(classId, 0);
  payload.writeBigUInt64BE(BigInt(size), 4);
  return frame(2, channel, payload);
}

/** queue.declare whose table of arguments is these octets, with their length before them. */
function declareWith(table: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(table.length);
  return method(1, 50, 10, Buffer.concat([RESERVED, shortstr('q'), Buffer.of(2), length, table]));
}

const consume = basicConsume({ channel: 1, name: 'there', tag: 'twice' });

/** One thing that ends the whole connection. */
export interface Offence {
  /** The reply code, and what is wrong. */
  readonly name: string;
  /** Of a client with channel 1 open, channel_max 20 and a queue `there`. */
  readonly frames: Buffer;
  /**
   * What is to be told: what the broker tells octet by octet, the reply code and the method that it tells (the text has
   * Erlang in it), or this where brokers hang up without a word, or don't mind.
   */
  readonly told: 'as the broker' | 'with its code' | RegExp;
  /** The proxy stops it in every mode: it never comes near a broker, and the client needs no connection of its own. */
  readonly isStopped?: true;
}

const BROKER = 'as the broker';
const CODE = 'with its code';
const publishing = publishMethod(1);

export const OFFENCES: readonly Offence[] = [
  {
    name: '530: the tag of a consumer that is there',
    frames: Buffer.concat([consume, consume]),
    told: BROKER,
  },
  {
    name: '540: basic.publish with immediate',
    frames: Buffer.concat([publishMethod(1, 2), contentHeader(1, 60, 0)]),
    told: BROKER,
  },
  { name: '540: basic.qos with a prefetch_size', frames: basicQos(1024, 1, 0), told: BROKER },
  { name: '540: channel.flow that stops', frames: method(1, 20, 20, Buffer.of(0)), told: BROKER },
  { name: '540: basic.recover without requeue', frames: method(1, 60, 110, Buffer.of(0)), told: BROKER },
  {
    name: '504: queue.declare on a channel that is not open',
    frames: queueDeclare({ channel: 9 }),
    told: BROKER,
  },
  {
    name: '504: a publish on a channel that is not open',
    frames: basicPublish(9, 'there', 'x'),
    told: BROKER,
  },
  { name: '504: channel.open on an open channel', frames: channelOpen(1), told: BROKER },
  {
    name: '504: channel.open beyond channel_max',
    frames: channelOpen(21),
    told: /^connection\.close 504 .* \(20\.10\)$/,
    isStopped: true,
  },
  {
    name: '504: a frame beyond channel_max',
    frames: queueDeclare({ channel: 21 }),
    told: CODE,
    isStopped: true,
  },
  {
    name: '502: arguments that end too early',
    frames: method(1, 50, 10, Buffer.concat([RESERVED, Buffer.of(9, 0x71)])),
    told: /^connection\.close 50[12] .* \(50\.10\)$/,
    isStopped: true,
  },
  {
    name: '502: octets behind the arguments',
    frames: method(1, 85, 10, Buffer.of(0, 1, 2)),
    told: /^connection\.close 50[12] .* \(85\.10\)$/,
  },
  {
    name: '502: a table with a tag that there is none of',
    frames: declareWith(Buffer.from('\x01ay', 'latin1')),
    told: /^connection\.close 50[12] .* \(50\.10\)$/,
    isStopped: true,
  },
  {
    name: '502: a string in a table that reaches beyond it',
    frames: declareWith(Buffer.from('\x01aS\0\0\0\x09xx', 'latin1')),
    told: /^connection\.close 50[12] .* \(50\.10\)$/,
    isStopped: true,
  },
  {
    name: '503: a method that there is none of',
    frames: method(1, 50, 99),
    told: /^connection\.close 503 .* \(50\.99\)$/,
  },
  {
    name: '503: a method of the broker',
    frames: method(1, 50, 11, Buffer.concat([shortstr('q'), Buffer.alloc(8)])),
    told: CODE,
  },
  {
    name: '505: a method in place of a content header',
    frames: Buffer.concat([publishing, queueDeclare({})]),
    told: /^connection\.close 505 /,
    isStopped: true,
  },
  {
    name: '505: a method in place of a body',
    frames: Buffer.concat([publishing, contentHeader(1, 60, 5), queueDeclare({})]),
    told: BROKER,
  },
  {
    name: '505: a content header out of nowhere',
    frames: contentHeader(1, 60, 0),
    told: CODE,
    isStopped: true,
  },
  { name: '505: a body out of nowhere', frames: frame(3, 1, Buffer.from('x')), told: CODE, isStopped: true },
  {
    name: '505: a content header of another class',
    frames: Buffer.concat([publishing, contentHeader(1, 50, 0)]),
    told: /^connection\.close 505 /,
  },
  {
    name: '501: a body longer than its header says',
    frames: Buffer.concat([publishing, contentHeader(1, 60, 1), frame(3, 1, Buffer.from('xyz'))]),
    told: /^connection\.close 501 .* \(60\.40\)$/, // RabbitMQ 4.0 takes it
  },
  {
    name: '501: an end octet that is none',
    frames: frame(1, 1, Buffer.from('\0\x32\0\x0a', 'latin1'), 0xcd),
    told: /^connection\.close 501 /,
    isStopped: true,
  },
  {
    name: '501: a frame of no known type',
    frames: frame(5, 1, Buffer.from('x')),
    told: CODE,
    isStopped: true,
  },
  {
    name: '501: a frame beyond frame_max',
    frames: frame(3, 1, Buffer.alloc(140_000)),
    told: CODE,
    isStopped: true,
  },
];
