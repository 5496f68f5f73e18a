// The broker's side of a connection of pool mode, octet by octet.
import { encodeTable, entry, frame, longstr, method, shortstr } from './amqp-frames.ts';
import { type Peer, type ScriptedBroker, tuneArguments } from './peers.ts';
import { startUpstream, type TestUpstream } from './upstreams.ts';

export const HEARTBEAT = frame(8, 0, Buffer.alloc(0));

/** connection.start of a broker with these mechanisms. */
export function start(mechanisms = 'PLAIN AMQPLAIN'): Buffer {
  const list = [mechanisms, 'en_US'].map((text) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(text.length);
    return Buffer.concat([length, Buffer.from(text)]);
  });
  const properties = encodeTable([entry('product', longstr('RabbitMQ'))]);
  return method(0, 10, 10, Buffer.concat([Buffer.of(0, 9), properties, ...list]));
}

/** connection.close, or channel.close on another channel than 0, with the method at fault. */
export function close(code: number, text: string, at: [number, number] = [0, 0], channel = 0): Buffer {
  const args = Buffer.alloc(2);
  args.writeUInt16BE(code);
  const [classId, methodId] = channel === 0 ? [10, 50] : [20, 40];
  const fault = Buffer.of(0, at[0], 0, at[1]);
  return method(channel, classId, methodId, Buffer.concat([args, shortstr(text), fault]));
}

/** Content of the broker: its method, a header and a body in frames of so many octets. */
export function content(channel: number, methodFrame: Buffer, body: Buffer, size = 100_000): Buffer {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(60, 0);
  header.writeBigUInt64BE(BigInt(body.length), 4);
  const frames = [methodFrame, frame(2, channel, header)];
  for (let at = 0; at < body.length; at += size) frames.push(frame(3, channel, body.subarray(at, at + size)));
  return Buffer.concat(frames);
}

export function deliver(channel: number, tag: number, body: Buffer, size?: number): Buffer {
  const args = Buffer.alloc(9);
  args.writeBigUInt64BE(BigInt(tag));
  const names = [shortstr('ctag'), args, shortstr(''), shortstr('q')];
  return content(channel, method(channel, 60, 60, Buffer.concat(names)), body, size);
}

/** basic.return of an unroutable publish. */
export function basicReturn(channel: number, body: Buffer): Buffer {
  const args = [Buffer.of(312 >>> 8, 312 & 0xff), shortstr('NO_ROUTE'), shortstr(''), shortstr('nowhere')];
  return content(channel, method(channel, 60, 50, Buffer.concat(args)), body);
}

/** Answers the protocol header and connection.start-ok; connection.tune-ok is left to be read. */
export async function logIn(peer: Peer, channelMax = 2047): Promise<void> {
  await peer.take(8);
  peer.write(start());
  await peer.frame();
  peer.write(method(0, 10, 30, tuneArguments(131_072, channelMax)));
}

/** An open connection, with nothing left unread. */
export async function openUpstream(
  broker: ScriptedBroker,
  settings: Parameters<typeof startUpstream>[1] = {},
  channelMax = 2047,
): Promise<TestUpstream & { peer: Peer }> {
  const arriving = broker.next();
  const test = startUpstream({ backend: `127.0.0.1:${broker.port}` }, settings);
  test.upstream.open('/');
  const peer = await arriving;
  await logIn(peer, channelMax);
  await peer.frame();
  await peer.frame();
  peer.write(method(0, 10, 41, Buffer.of(0)));
  await peer.until('the proxy knows', () => test.upstream.state === 'open');
  return { ...test, peer };
}
