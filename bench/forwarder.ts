import net from 'node:net';
import { createLogger } from '../common/log.ts';
import { resolveOptions } from '../common/resolve.ts';
import { startProxy } from '../proxy/main.ts';
import { proxyOptions } from '../proxy/options.ts';
import type { Flags } from './peers.ts';

// The process that the benchmarks measure: the proxy, or Node's plain pipe between two sockets. It tells its ports, and
// its CPU time and memory whenever it is asked.

const [kind, backendPort, given] = process.argv.slice(2);

async function listenProxy(): Promise<number[]> {
  const addresses = {
    backend: `127.0.0.1:${backendPort}`,
    listen: ['127.0.0.1:0'],
    adminListen: '127.0.0.1:0',
  };
  const flags = { ...addresses, ...(JSON.parse(given!) as Flags) };
  const read = () => resolveOptions(proxyOptions, { flags, env: {} });
  const configuration = { table: proxyOptions, file: undefined, read };
  const proxy = await startProxy(configuration, createLogger({ name: 'proxy', level: 'warn' }));
  return proxy.listeners.map(({ address }) => address.port);
}

function listenPipe(): Promise<number[]> {
  const server = net.createServer({ noDelay: true }, (client) => {
    const backend = net.connect({ host: '127.0.0.1', port: Number(backendPort), noDelay: true });
    client.pipe(backend).pipe(client);
    for (const socket of [client, backend]) socket.on('error', () => socket.destroy());
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve([(server.address() as net.AddressInfo).port]));
  });
}

process.on('message', () => {
  const { user, system } = process.cpuUsage();
  process.send!({ cpu: user + system, rss: process.memoryUsage.rss() });
});
process.on('disconnect', () => process.exit());
process.send!({ ports: await (kind === 'proxy' ? listenProxy() : listenPipe()) });
