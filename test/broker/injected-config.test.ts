import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempDisposable } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { connect } from 'amqplib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { named, objectsAt, textAt, valueAt } from '../../common/kube/json.ts';
import { mutate } from '../../webhook/mutate.ts';
import { spliceOverlay } from '../../webhook/overlay.ts';
import type { Json, JsonObject, KubeObject } from '../../common/kube/types.ts';
import { startBroker } from '../support/broker.ts';
import type { Broker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { freePort } from '../support/ports.ts';
import { Service } from '../support/service.ts';

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

async function listensOn(host: string): Promise<boolean> {
  const server = createServer().listen(0, host);
  try {
    await once(server, 'listening');
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}

const hasIpv6 = await listensOn('::1');
const onIpv6 = hasIpv6 ? '' : ' (there is no ::1 here)';

/** A StatefulSet whose proxy reaches RabbitMQ at ::1. */
function injectedAtIpv6(container: JsonObject): KubeObject {
  const annotations = {
    'quorumbridge.io/inject': 'true',
    'quorumbridge.io/backend-host': '::1',
  };
  const object = {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name: 'mq', annotations },
    spec: { template: { spec: { containers: [{ name: 'rabbitmq', ...container }] } } },
  };
  const result = mutate({ object, owner: { state: 'absent' }, settings: { image: 'i' } });
  if (!result.allowed) throw new Error(result.message);
  return result.object;
}

function configOf(object: KubeObject, name: string): string {
  const config = textAt(object, 'spec', 'template', 'metadata', 'annotations', `quorumbridge.io/${name}`);
  if (config === undefined) throw new Error(`there is no annotation ${name}`);
  return config;
}

function containerOf(object: KubeObject, name: string): JsonObject {
  return named(objectsAt(object, 'spec', 'template', 'spec', 'containers'), name)!;
}

function textsAt(value: Json, ...path: string[]): string[] {
  return valueAt(value, ...path) as string[];
}

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version);
  });
  afterAll(() => broker.stop());

  /** The port that pods have to themselves is somebody else's here. */
  function here(text: string): string {
    return text.replaceAll('5673', String(broker.backendPort));
  }

  it.each([
    ['nothing', ''],
    ["a user's advanced.config", USERS],
  ])('boots with the overlay spliced into %s, which has the last word', async (_name, users) => {
    const { text } = spliceOverlay(users, { host: '127.0.0.1', proxyProtocol: true });
    await broker.replace({
      advanced: here(text),
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

  it.skipIf(!hasIpv6).each([
    ['advanced.config', 'rabbitmq-advanced-config', {}],
    [
      'the last file of conf.d',
      'rabbitmq-conf',
      { volumeMounts: [{ name: 'own', mountPath: '/etc/rabbitmq/advanced.config' }] },
    ],
  ])(
    `listens on ::1 alone by %s, where its probe and the proxy find it${onIpv6}`,
    async (_name, annotation, mounts) => {
      const object = injectedAtIpv6(mounts);
      const config = here(configOf(object, annotation));
      await broker.replace(annotation === 'rabbitmq-conf' ? { conf: config } : { advanced: config });

      const container = containerOf(object, 'rabbitmq');
      const [shell = '', ...args] = textsAt(container, 'readinessProbe', 'exec', 'command').map(here);
      const probe = promisify(execFile);
      await probe(shell, args);
      const onIpv4 = args.map((arg) => arg.replace('::1', '127.0.0.1'));
      await expect(probe(shell, onIpv4)).rejects.toThrow('Connection refused');

      // Clients of both families, through a proxy that was started as the container would start it.
      const [port, adminPort] = [await freePort(), await freePort()];
      const proxyArgs = textsAt(containerOf(object, 'amqp-proxy'), 'args').map((arg) =>
        here(arg).replace(':5672', `:${port}`).replace(':15695', `:${adminPort}`),
      );
      await using folder = await mkdtempDisposable(join(tmpdir(), 'injected-'));
      const proxy = new Service(['proxy', ...proxyArgs], join(folder.path, 'log'));
      try {
        await proxy.ready(`http://[::1]:${adminPort}/readyz`);
        for (const [host, peer] of [
          ['127.0.0.1', '127.0.0.1'],
          ['[::1]', '::1'],
        ] as const) {
          const connection = await connect(`amqp://guest:guest@${host}:${port}`);
          expect(await broker.ctl('-q', 'list_connections', 'peer_host')).toContain(peer);
          await connection.close();
        }
      } finally {
        await proxy.stop();
      }
    },
  );
});
