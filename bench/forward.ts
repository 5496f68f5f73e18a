import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { styleText } from 'node:util';
import { frame, method } from '../test/support/peers.ts';
import { type Forwarder, open, out, startBackend, startForwarder, usage } from './peers.ts';

// CPU time that the proxy spends for each message it forwards, next to Node's own pipe between two sockets, which
// looks at nothing: what scanning every frame costs. Run: node bench/forward.ts [ROUNDS]. Loopback only, about 20 s.

/** Octets sent in each run: enough that the start doesn't count, few enough that a run takes a second. */
const OCTETS = 192 << 20;
const CASES = [
  { name: 'publish 16 B', size: 16, from: 'client', octets: OCTETS / 8 },
  { name: 'publish 1 KiB', size: 1024, from: 'client', octets: OCTETS },
  { name: 'publish 16 KiB', size: 16_384, from: 'client', octets: OCTETS * 2 },
  { name: 'deliver 1 KiB', size: 1024, from: 'broker', octets: OCTETS },
] as const;
type Case = (typeof CASES)[number];

const rounds = Number(process.argv[2] ?? 5);

/** One message as its frames: basic.publish or basic.deliver, header, body. */
function message(size: number, from: Case['from']): Buffer {
  const properties = Buffer.alloc(14);
  properties.writeUInt16BE(60, 0);
  properties.writeBigUInt64BE(BigInt(size), 4);
  const start =
    from === 'client'
      ? method(1, 60, 40, Buffer.from('\0\0\0\x05topic\0', 'latin1'))
      : method(1, 60, 60, Buffer.from('\x01c\0\0\0\0\0\0\0\x01\0\0\x05topic', 'latin1'));
  return Buffer.concat([start, frame(2, 1, properties), frame(3, 1, Buffer.alloc(size, 0x61))]);
}

/** Sends `octets` in whole chunks as fast as they are taken. */
async function pump(socket: Socket, chunk: Buffer, octets: number): Promise<void> {
  for (let sent = 0; sent < octets; sent += chunk.length) {
    if (!socket.write(chunk)) await once(socket, 'drain');
  }
}

async function receive(socket: Socket, octets: number): Promise<void> {
  let left = octets;
  await new Promise<void>((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      left -= chunk.length;
      if (left <= 0) resolve();
    });
  });
}

const backend = await startBackend();

/** Microseconds of CPU per message in one run. */
async function measure(forwarder: Forwarder, { size, from, octets }: Case): Promise<number> {
  const { client, broker } = await open(forwarder, backend);
  const [sender, receiver] = from === 'client' ? [client, broker] : [broker, client];
  const one = message(size, from);
  const chunk = Buffer.concat(Array<Buffer>(Math.max(1, Math.floor(65_536 / one.length))).fill(one));
  const total = Math.ceil(octets / chunk.length) * chunk.length;
  const { cpu: before } = await usage(forwarder);
  await Promise.all([receive(receiver, total), pump(sender, chunk, total)]);
  const spent = (await usage(forwarder)).cpu - before;
  for (const socket of [client, broker]) socket.destroy();
  return spent / (total / one.length);
}

const median = (numbers: number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]!;

const { port } = backend.address() as AddressInfo;
const proxy = await startForwarder('proxy', port);
const pipe = await startForwarder('pipe', port);
out(`CPU per message in microseconds, median of ${rounds} interleaved rounds, Node ${process.versions.node}`);
out(
  styleText(
    'bold',
    `${'case'.padEnd(16)}${'proxy'.padStart(10)}${'pipe'.padStart(10)}${'proxy/pipe'.padStart(12)}`,
  ),
);
for (const one of CASES) {
  const spent = { proxy: [] as number[], pipe: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    spent.proxy.push(await measure(proxy, one));
    spent.pipe.push(await measure(pipe, one));
  }
  const [own, peer] = [median(spent.proxy), median(spent.pipe)];
  const cells = [own.toFixed(3), peer.toFixed(3)].map((cell) => cell.padStart(10)).join('');
  out(`${one.name.padEnd(16)}${cells}${(own / peer).toFixed(2).padStart(12)}`);
}
for (const { child } of [proxy, pipe]) child.disconnect();
backend.close();
