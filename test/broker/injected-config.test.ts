import { afterAll, beforeAll, expect, it } from 'vitest';
import { spliceOverlay } from '../../webhook/overlay.ts';
import { startBroker } from '../support/broker.ts';
import type { Broker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';

/** What a user may have written: quoted atoms, brackets in strings and comments, listeners and two rabbit tuples. */
const USERS = `%% mine: {rabbit, [
[
  {rabbit, [{heartbeat, 11}]},                       % lost, for a second one follows
  {'rabbit', [
    {tcp_listeners, [5672]}, {ssl_listeners, [5671]}, % ]}
    {channel_max, 77}, {default_consumer_prefetch, {false, 0}}
  ]},
  {rabbitmq_management, [{rates_mode, basic}]}
].
`;

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version);
  });
  afterAll(() => broker.stop());

  it.each([
    ['nothing', ''],
    ["a user's advanced.config", USERS],
  ])('boots with the overlay spliced into %s, which has the last word', async (_name, users) => {
    const { text } = spliceOverlay(users, { proxyProtocol: true });
    // The port that pods have to themselves is somebody else's here.
    await broker.restart({
      advanced: text.replaceAll('5673', String(broker.backendPort)),
      conf: 'listeners.ssl.default = 127.0.0.1:@AMQPS@',
    });
    const read =
      'lists:map(fun(K) -> element(2, application:get_env(rabbit, K)) end, [tcp_listeners, ssl_listeners, proxy_protocol, channel_max]).';
    const [listeners, ssl, proxyProtocol, channelMax] = (await broker.ctl('eval', read))
      .replace(/\s/g, '')
      .slice(1, -1)
      .split(/,(?![^[]*\])/);
    expect(listeners).toBe(`[{"127.0.0.1",${broker.backendPort}}]`);
    expect([ssl, proxyProtocol]).toEqual(['[]', 'true']);
    expect(channelMax).toBe(users === '' ? '2047' : '77');
  });
});
