// A client that reads slower than the broker sends, in pool mode, where nobody shares its connection.
import { expect, it } from 'vitest';
import { basicConsume } from '../support/amqp-frames.ts';
import { basicPublish, confirmSelect } from '../support/amqp-methods.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { usePooledBroker } from '../support/pooled-broker.ts';
import { counted } from '../support/proxied-broker.ts';
import { RawClient } from '../support/raw-client.ts';
import { RelayLink } from '../support/relay-link.ts';
import { quorumQueue } from '../support/shared-upstream.ts';

const PRIVATE = 'quorumbridge_proxy_pool_connections{kind="private"}';

/** More than the sockets between broker and client hold. */
const COUNT = 300;
const BODY = 'x'.repeat(120_000);

await describeBrokers(['4.3'], (version) => {
  const served = usePooledBroker(version, false);

  it('a client that is alone on its connection may read slowly: the broker waits for it, and it gets everything', async () => {
    await using pooled = await served.pool('slow', { clientBacklog: '64KiB' });
    const { virtualHost } = pooled.upstream;
    await using publisher = await RawClient.connect(served.broker.port, { virtualHost });
    await publisher.channels(1);
    await publisher.ask(quorumQueue(1, 'large'));
    await publisher.ask(confirmSelect(1));
    for (let i = 1; i <= COUNT; i++)
      expect(await publisher.ask(basicPublish(1, 'large', BODY))).toBe(`basic.ack ${i}`);

    await using relay = await new RelayLink(pooled.proxy.port).start();
    await using client = await RawClient.connect(relay.port, { virtualHost });
    await client.channels(1);
    client.send(basicConsume({ name: 'large', tag: 'slow' }));
    expect(await client.hear()).toBe('basic.consume-ok slow');
    relay.set('blackhole');
    await expect.poll(async () => counted(pooled.proxy, PRIVATE), { timeout: 20_000 }).toBe(1);
    relay.set('pass');
    for (let i = 1; i <= COUNT; i++)
      expect(await client.hear()).toBe(`basic.deliver slow ${i} 0 <${BODY.length} octets>`);
    expect(pooled.proxy.log().filter(({ code }) => code === 'SHARED_LIMIT')).toEqual([]);
  });
});
