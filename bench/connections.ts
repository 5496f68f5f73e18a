import type { AddressInfo, Socket } from 'node:net';
import { type Forwarder, open, out, startBackend, startForwarder, usage } from './peers.ts';

// Memory that the proxy needs for each idle connection, and CPU for each one that comes and goes, next to Node's own
// pipe between two sockets. Run: node bench/connections.ts [COUNT]. Loopback only, about 10 s.

const count = Number(process.argv[2] ?? 1000);

const backend = await startBackend();
const { port } = backend.address() as AddressInfo;

interface Cost {
  readonly start: number;
  readonly each: number;
  readonly cycle: number;
}

async function measure(forwarder: Forwarder): Promise<Cost> {
  const before = await usage(forwarder);
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i++) sockets.push(...Object.values(await open(forwarder, backend)));
  const opened = await usage(forwarder);
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 500));
  const { cpu } = await usage(forwarder);
  return { start: before.rss, each: (opened.rss - before.rss) / count, cycle: (cpu - before.cpu) / count };
}

const forwarders = { proxy: await startForwarder('proxy', port), pipe: await startForwarder('pipe', port) };
out(`${count} connections, Node ${process.versions.node}`);
out(
  `${'peer'.padEnd(8)}${'RSS at start MiB'.padStart(18)}${'KiB a connection'.padStart(18)}${'CPU us a cycle'.padStart(16)}`,
);
const costs: Record<string, Cost> = {};
for (const [kind, forwarder] of Object.entries(forwarders)) {
  const cost = (costs[kind] = await measure(forwarder));
  const cells = [(cost.start / 2 ** 20).toFixed(1), (cost.each / 1024).toFixed(1)].map((cell) =>
    cell.padStart(18),
  );
  out(`${kind.padEnd(8)}${cells.join('')}${cost.cycle.toFixed(0).padStart(16)}`);
  forwarder.child.disconnect();
}
const { proxy, pipe } = costs as { proxy: Cost; pipe: Cost };
const ratios = [proxy.start / pipe.start, proxy.each / pipe.each].map((ratio) =>
  ratio.toFixed(2).padStart(18),
);
out(`${'ratio'.padEnd(8)}${ratios.join('')}${(proxy.cycle / pipe.cycle).toFixed(2).padStart(16)}`);
backend.close();
