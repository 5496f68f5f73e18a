// What clients send that no client should send, and what they are told.
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeTable, entry, type Field, frame, method, queueDeclare, shortstr } from './amqp-frames.ts';
import { basicPublish, channelOpen, connectionClose } from './amqp-methods.ts';
import { connectPeer, HEADER, OPEN_ARGUMENTS, type Peer, tuneArguments } from './peers.ts';

/** Tables and arrays within each other in the deepest of them. */
const DEEP = 10_000;

const LOGIN = Buffer.from('\0guest\0guest', 'latin1');

/** What goes before its length in 4 octets. */
function sized(octets: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(octets.length);
  return Buffer.concat([length, octets]);
}

/** A table with `depth` tables or arrays within each other; they are written from the inside out. */
export function nested(tag: 'A' | 'F', depth = DEEP): Buffer {
  const before = tag === 'F' ? Buffer.from('\x01kF', 'latin1') : Buffer.from('A', 'latin1');
  const head = before.length + 4;
  const octets = Buffer.alloc(head * depth);
  for (let at = 0; at < depth; at++) {
    before.copy(octets, at * head);
    octets.writeUInt32BE(head * (depth - 1 - at), at * head + before.length);
  }
  return sized(tag === 'F' ? octets : Buffer.concat([Buffer.from('\x01k', 'latin1'), octets]));
}

/** A table that says it is longer than what there is of it. */
function announced(length: number, octets: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(length);
  return Buffer.concat([head, octets]);
}

/** connection.start-ok with these client properties, a table with its length. */
export function startOk(properties: Buffer, response = LOGIN): Buffer {
  const args = [properties, shortstr('PLAIN'), sized(response), shortstr('en_US')];
  return method(0, 10, 11, Buffer.concat(args));
}

/** connection.start-ok, connection.tune-ok and connection.open of one who is let in. */
export const STARTS = startOk(encodeTable([]));
const TUNES = method(0, 10, 31, tuneArguments(131_072));
const OPENS = method(0, 10, 40, OPEN_ARGUMENTS);

/** queue.declare with these arguments, a table with its length. */
export function declareWith(table: Buffer): Buffer {
  return method(1, 50, 10, Buffer.concat([Buffer.alloc(2), shortstr('abused'), Buffer.of(2), table]));
}

/** basic.publish on channel 1, without its content. */
export const PUBLISH = method(
  1,
  60,
  40,
  Buffer.concat([Buffer.alloc(2), shortstr(''), shortstr('abused'), Buffer.of(0)]),
);

/** A content header on channel 1: the size of the body, and properties with their flags. */
export function contentHeader(size: bigint, flags = 0, properties: Uint8Array = Buffer.alloc(0)): Buffer {
  const fixed = Buffer.alloc(14);
  fixed.writeUInt16BE(60, 0);
  fixed.writeBigUInt64BE(size, 4);
  fixed.writeUInt16BE(flags, 12);
  return frame(2, 1, Buffer.concat([fixed, properties]));
}

/** The flag of basic's property headers. */
const HEADERS = 1 << 13;

/** The first octets of a frame that says it is so long. */
function announcedFrame(type: number, channel: number, length: number): Buffer {
  const head = Buffer.alloc(7);
  head.writeUInt8(type, 0);
  head.writeUInt16BE(channel, 1);
  head.writeUInt32BE(length, 3);
  return head;
}

const big = (length: number): Field => ({ tag: 'S', value: Buffer.alloc(length, 'x') });

/** What RabbitMQ takes: a client says goodbye behind it, and is answered. */
function accepted(...frames: Buffer[]): Buffer {
  return Buffer.concat([...frames, connectionClose()]);
}

/** A PROXY header of version 2 for a v4 connection (HAProxy's proxy-protocol.txt, section 2.2). */
export const PROXY_HEADER = Buffer.concat([
  Buffer.from('\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c', 'latin1'),
  Buffer.from([192, 0, 2, 7, 127, 0, 0, 1, 0x30, 0x39, 0x16, 0x28]),
]);

/** The beginning of a TLS ClientHello. */
export const CLIENT_HELLO = Buffer.from('16030100c8010000c40303', 'hex');

/** Before the first octet of AMQP. */
export const NO_CLIENTS: readonly (readonly [name: string, octets: Buffer])[] = [
  ['HTTP', Buffer.from('GET /metrics HTTP/1.1\r\nHost: rabbit\r\n\r\n')],
  ['a TLS ClientHello to the plain port', CLIENT_HELLO],
  ['a PROXY header from somebody who is not trusted', Buffer.concat([PROXY_HEADER, HEADER])],
  ['a PROXY header of version 1', Buffer.from('PROXY TCP4 192.0.2.7 127.0.0.1 12345 5672\r\n')],
  ['SSH', Buffer.from('SSH-2.0-OpenSSH_9.6\r\n')],
  ['one wrong octet in the header', Buffer.from('AMQX\0\0\x09\x01', 'latin1')],
  ['a frame in place of the header', channelOpen(1)],
];

/** What is sent, and what {@link lastWords} are in mode transparent, and in mode pool where they are others. */
export type Abuse = readonly [name: string, octets: Buffer, transparent: string, pool?: string];

/** Instead of connection.start-ok. To those who haven't logged in RabbitMQ says nothing, and hangs up after 3 seconds. */
export const LOGINS: readonly Abuse[] = [
  ['a second protocol header', HEADER, 'close 501'],
  ['connection.tune-ok', TUNES, 'end', 'close 503'],
  ['connection.open', OPENS, 'end', 'close 503'],
  ['a method of the broker', method(0, 10, 10), 'end', 'close 503'],
  ['a method that there is none of', method(0, 10, 99), 'end', 'close 503'],
  ['channel.open', channelOpen(1), 'end', 'close 505'],
  ['a publish', basicPublish(1, 'abused', 'x'), 'end', 'close 505'],
  [
    'a publish behind the login',
    Buffer.concat([STARTS, TUNES, channelOpen(1), basicPublish(1, 'abused', 'x')]),
    'close 505',
  ],
  ['a heartbeat on a channel', frame(8, 1, Buffer.alloc(0)), 'close 501'],
  ['a frame of 4 GiB', announcedFrame(1, 0, 0xffff_ffff), 'close 501'],
  ['a frame of 1 MiB', startOk(encodeTable([entry('k', big(1 << 20))])), 'close 501'],
  [
    'client properties of 100 KiB',
    Buffer.concat([startOk(encodeTable([entry('k', big(100 << 10))])), TUNES, OPENS]),
    'end',
    'let in',
  ],
  ['a login of 100 KiB', startOk(encodeTable([]), Buffer.alloc(100 << 10, 'x')), 'end'],
  ['tables 10,000 deep', startOk(nested('F')), 'end', 'close 502'],
  ['arrays 10,000 deep', startOk(nested('A')), 'end', 'close 502'],
  ['client properties of 4 GiB', startOk(announced(0xffff_ffff, Buffer.alloc(20))), 'end', 'close 502'],
  [
    'client properties longer than their frame',
    startOk(announced(1000, Buffer.alloc(20))),
    'end',
    'close 502',
  ],
  [
    'an entry longer than its table',
    startOk(sized(Buffer.from('\x01kS\0\0\x01\0x', 'latin1'))),
    'end',
    'close 502',
  ],
  ['a wrong end octet', Buffer.concat([STARTS.subarray(0, -1), Buffer.of(0xcd)]), 'close 501'],
  [
    'more channels than are offered',
    Buffer.concat([STARTS, method(0, 10, 31, tuneArguments(131_072, 65_535)), OPENS]),
    'end',
    'close 530',
  ],
  [
    'channels without a limit',
    Buffer.concat([STARTS, method(0, 10, 31, tuneArguments(131_072, 0)), OPENS]),
    'end',
    'close 530',
  ],
];

/** Of a client with channel 1 open and a channel_max of 20. */
export const FRAMES: readonly Abuse[] = [
  ['a second protocol header', HEADER, 'close 501'],
  ['random octets', Buffer.from('9fd3a8c15b7e00421177', 'hex'), 'close 501'],
  ['a second login', STARTS, 'close 504', 'close 503'],
  ['connection.tune-ok again', TUNES, 'close 504', 'close 503'],
  ['connection.open again', OPENS, 'close 504', 'close 503'],
  ['a frame of 4 GiB', announcedFrame(1, 1, 0xffff_ffff), 'close 501'],
  [
    'a body of 4 GiB',
    Buffer.concat([PUBLISH, contentHeader(1n), announcedFrame(3, 1, 0xffff_ffff)]),
    'close 501',
  ],
  ['a method frame without a method', frame(1, 1, Buffer.alloc(0)), 'close 501'],
  ['a frame on channel 65535', queueDeclare({ channel: 65_535 }), 'close 504'],
  ['content on channel 65535', frame(3, 65_535, Buffer.from('x')), 'close 504'],
  ['content on channel 0', frame(3, 0, Buffer.from('x')), 'close 504'],
  ['a heartbeat on a channel', frame(8, 1, Buffer.alloc(0)), 'close 501'],
  ['a heartbeat with something in it', frame(8, 0, Buffer.from('x')), 'close 501'],
  ['a method of the connection on a channel', method(1, 10, 40, OPEN_ARGUMENTS), 'close 503'],
  ['a method of a channel on channel 0', method(0, 50, 10), 'close 503'],
  ['a class that there is none of', method(1, 999, 10), 'close 320', 'close 503'],
  ['a method that there is none of', method(1, 60, 999), 'close 320', 'close 503'],
  ['a body before its header', Buffer.concat([PUBLISH, frame(3, 1, Buffer.from('x'))]), 'close 505'],
  [
    'a header for another channel',
    Buffer.concat([PUBLISH, frame(2, 2, contentHeader(1n).subarray(7, -1))]),
    'close 505',
  ],
  [
    'a body longer than its header says',
    Buffer.concat([PUBLISH, contentHeader(1n), frame(3, 1, Buffer.from('xyz'))]),
    'close 501',
  ],
  [
    'a body of 2^64 - 1 octets',
    Buffer.concat([PUBLISH, contentHeader(0xffff_ffff_ffff_ffffn)]),
    'close 501',
    'close 502',
  ],
  ['a declare with tables 10,000 deep', accepted(declareWith(nested('F'))), 'close-ok', 'close 502'],
  ['a declare with arrays 10,000 deep', accepted(declareWith(nested('A'))), 'close-ok', 'close 502'],
  ['a declare with a table of 4 GiB', declareWith(announced(0xffff_ffff, Buffer.alloc(20))), 'close 502'],
  [
    'a declare with an entry longer than its table',
    declareWith(sized(Buffer.from('\x01kS\0\0\x01\0x', 'latin1'))),
    'close 502',
  ],
  [
    'a declare with a field of no known type',
    declareWith(sized(Buffer.from('\x01ky', 'latin1'))),
    'close 502',
  ],
  [
    'message headers 10,000 deep',
    accepted(PUBLISH, contentHeader(0n, HEADERS, nested('F'))),
    'close-ok',
    'close 502',
  ],
  [
    'message headers of arrays 10,000 deep',
    accepted(PUBLISH, contentHeader(0n, HEADERS, nested('A'))),
    'close-ok',
    'close 502',
  ],
  [
    'message headers of 4 GiB',
    Buffer.concat([PUBLISH, contentHeader(0n, HEADERS, announced(0xffff_ffff, Buffer.alloc(20)))]),
    'close 541',
    'close 502',
  ],
];

/** connection.open-ok, connection.close and connection.close-ok. */
const OPEN_OK = 0x000a_0029;
const CLOSE = 0x000a_0032;
const CLOSED = 0x000a_0033;

const CLOSE_OK = method(0, 10, 51);
const PATIENCE_MS = 30_000;

/** A method that the client got on channel 0, as far as it is one of its last words. */
function wordOf(frame: Buffer): string | undefined {
  switch (frame[0] === 1 ? frame.readUInt32BE(7) : 0) {
    case OPEN_OK:
      return 'let in';
    case CLOSE:
      return `close ${frame.readUInt16BE(11)}`;
    case CLOSED:
      return 'close-ok';
    default:
      return undefined;
  }
}

/**
 * What a client hears until its connection ends: `header` for the protocol header of AMQP 0-9-1, `close 501` for
 * connection.close with its reply code, or `end` for nothing of these. `close-ok`, and `let in` for connection.open-ok, are not
 * waited behind.
 */
export async function lastWords(peer: Peer): Promise<string> {
  let words = 'end';
  await peer.until(
    'the end',
    () => {
      if (peer.received.equals(HEADER)) words = 'header';
      for (;;) {
        const { received } = peer;
        const size = received.length < 8 || words === 'header' ? Infinity : received.readUInt32BE(3) + 8;
        if (received.length < size)
          return peer.ended || peer.closed || words === 'let in' || words === 'close-ok';
        peer.received = received.subarray(size);
        const word = wordOf(received);
        if (word?.startsWith('close ')) peer.write(CLOSE_OK);
        words = word ?? words;
      }
    },
    PATIENCE_MS,
  );
  peer.socket.destroy();
  return words;
}

/** A client that has got connection.start. */
export async function greeted(port: number): Promise<Peer> {
  const peer = await connectPeer(port);
  peer.write(HEADER);
  await peer.frame();
  return peer;
}

/** A client with channel 1 open; its tune-ok asks for `channelMax`. */
export async function opened(port: number, channelMax = 20): Promise<Peer> {
  const peer = await greeted(port);
  peer.write(STARTS);
  await peer.frame();
  peer.write(method(0, 10, 31, tuneArguments(131_072, channelMax)), OPENS);
  await peer.frame();
  peer.write(channelOpen(1));
  await peer.frame();
  return peer;
}

/** Octets that are as good as random, and always the same for a seed. */
export function seededOctets(seed: string, length: number): Buffer {
  const key = createHash('sha256').update(seed).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

/** Writes one octet after the other, so many milliseconds apart, until they are all written or the other end is gone. */
export async function drip(peer: Peer, octets: Buffer, milliseconds: number): Promise<void> {
  for (const octet of octets) {
    if (peer.ended || peer.closed || peer.socket.destroyed) return;
    peer.write(Buffer.of(octet));
    await sleep(milliseconds);
  }
}

/** Milliseconds after which a socket that takes no more octets is taken to be held back. */
const HELD_BACK_MS = 2000;

/** Writes the same octets again and again, up to so many, as long as the other end takes them. */
export async function flood({ socket }: Peer, octets: Buffer, most: number): Promise<void> {
  for (let sent = 0; sent < most && !socket.destroyed; sent += octets.length) {
    if (socket.write(octets)) continue;
    const signal = AbortSignal.timeout(HELD_BACK_MS);
    const isTaken = await once(socket, 'drain', { signal }).then(
      () => true,
      () => false,
    );
    if (!isTaken) return;
  }
}
