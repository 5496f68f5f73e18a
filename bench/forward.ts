import type { Socket } from 'node:net';
import { styleText } from 'node:util';
import { Client, CONSUME, LOGIN, QUEUE } from './client.ts';
import { FakeBroker } from './fake-broker.ts';
import { publish, send } from './messages.ts';
import { type Forwarder, median, out, startForwarder, usage } from './peers.ts';

// CPU time that the proxy spends for each message it forwards, transparent and in pool mode, next to Node's own pipe
// between two sockets, which looks at nothing: what scanning every frame costs, and what whole messages and other channel
// numbers cost. Run: node bench/forward.ts [ROUNDS]. Loopback only, about 60 s.

/** Octets sent in each run: enough that the start doesn't count, few enough that a run takes a second. */
const OCTETS = 192 << 20;
/** Messages that a consumer is sent at a time, as with a prefetch: pool mode ends those who have too much waiting for them. */
const BATCH = 4096;
const CASES = [
  { name: 'publish 16 B', size: 16, from: 'client', octets: OCTETS / 8 },
  { name: 'publish 1 KiB', size: 1024, from: 'client', octets: OCTETS },
  { name: 'publish 16 KiB', size: 16_384, from: 'client', octets: OCTETS * 2 },
  { name: 'publish 256 KiB', size: 262_144, from: 'client', octets: OCTETS * 2 },
  { name: 'deliver 1 KiB', size: 1024, from: 'broker', octets: OCTETS },
] as const;
type Case = (typeof CASES)[number];

const rounds = Number(process.argv[2] ?? 5);
if (!Number.isInteger(rounds) || rounds < 1 || rounds > 50) {
  throw new Error(`ROUNDS is ${process.argv[2]}: expected a whole number from 1 to 50`);
}

/** Waits for so many octets, and takes them. */
async function receive(socket: Socket, octets: number): Promise<void> {
  let left = octets;
  await new Promise<void>((resolve) => {
    const take = (chunk: Buffer): void => {
      left -= chunk.length;
      if (left > 0) return;
      socket.off('data', take);
      resolve();
    };
    socket.on('data', take);
  });
}

const broker = new FakeBroker();

/** Microseconds of CPU per message in one run. */
async function measure(forwarder: Forwarder, { size, from, octets }: Case): Promise<number> {
  const client = new Client({ port: forwarder.port, secure: undefined });
  await client.play(LOGIN);
  if (from === 'broker') await client.play(CONSUME);
  const count = Math.ceil(octets / size);
  const socket = client.handOver();
  const { cpu: before } = await usage(forwarder);
  if (from === 'client') {
    socket.resume();
    await Promise.all([
      broker.hasPublished(broker.published + count),
      send(socket, publish(1, QUEUE, size), count),
    ]);
  } else {
    const one = broker.delivery(size).length;
    for (let left = count; left > 0; left -= BATCH) {
      const batch = Math.min(left, BATCH);
      await Promise.all([receive(socket, one * batch), broker.deliver(batch, size)]);
    }
  }
  const spent = (await usage(forwarder)).cpu - before;
  socket.destroy();
  return spent / count;
}

const { port } = await broker.start();
const forwarders = {
  pipe: await startForwarder('pipe', port),
  proxy: await startForwarder('proxy', port),
  pool: await startForwarder('proxy', port, { mode: 'pool' }),
};
const kinds = ['pipe', 'proxy', 'pool'] as const;
out(`CPU per message in microseconds, median of ${rounds} interleaved rounds, Node ${process.versions.node}`);
const titles = [...kinds, 'proxy/pipe', 'pool/pipe', 'pool/proxy'];
out(styleText('bold', 'case'.padEnd(17) + titles.map((title) => title.padStart(12)).join('')));
for (const one of CASES) {
  const spent = { proxy: [] as number[], pipe: [] as number[], pool: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    for (const kind of kinds) spent[kind].push(await measure(forwarders[kind], one));
  }
  const [pipe, proxy, pool] = kinds.map((kind) => median(spent[kind])) as [number, number, number];
  const cells = [pipe, proxy, pool].map((cell) => cell.toFixed(3));
  const ratios = [proxy / pipe, pool / pipe, pool / proxy].map((cell) => cell.toFixed(2));
  out(one.name.padEnd(17) + [...cells, ...ratios].map((cell) => cell.padStart(12)).join(''));
}
for (const { child } of Object.values(forwarders)) child.disconnect();
broker.close();
