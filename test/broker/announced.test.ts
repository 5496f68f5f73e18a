// Clients behind a load balancer that says whose connections they are: RabbitMQ itself sees them.
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { proxyHeader } from '../../proxy/proxy-protocol.ts';
import { startTestProxy } from '../support/peers.ts';
import { WireClient } from '../support/wire-client.ts';

/** A client's address, from which RabbitMQ lets guest in. */
const CLIENT = '127.0.0.9';
const CLIENT_PORT = 4711;

/** A load balancer in front of a port of loopback. */
async function balance(port: number): Promise<net.Server> {
  const server = net.createServer((near) => {
    const far = net.connect(port, '127.0.0.1');
    far.write(
      proxyHeader({
        sourceAddress: CLIENT,
        sourcePort: CLIENT_PORT,
        destinationAddress: '127.0.0.1',
        destinationPort: 5672,
      }),
    );
    near.pipe(far).pipe(near);
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

await describeBrokers(['3.10', '4.3'], (version) => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version, { advanced: '[{rabbit,[{proxy_protocol,true}]}].\n' });
  });
  afterAll(() => broker?.stop());

  it.each(['transparent', 'pool'])('mode %s: the broker and /clients know their addresses', async (mode) => {
    await using proxy = await startTestProxy({
      mode,
      backend: `127.0.0.1:${broker.port}`,
      backendProxyProtocol: 'v2',
      trustProxyProtocol: ['127.0.0.1'],
    });
    const balancer = await balance(proxy.port);
    const client = await WireClient.connect((balancer.address() as AddressInfo).port);
    await client.channel(1);
    const listed = await broker.ctl('-q', 'list_connections', 'peer_host', 'peer_port');
    expect(listed).toMatch(new RegExp(`^${CLIENT.replaceAll('.', '\\.')}\\s+${CLIENT_PORT}$`, 'm'));
    const clients = await fetch(`http://127.0.0.1:${proxy.proxy.adminAddress.port}/clients`);
    expect(await clients.text()).toContain(CLIENT);
    await client.close();
    balancer.close();
  });
});
