import { afterAll, beforeAll } from 'vitest';
import { type Broker, type BrokerSettings, type BrokerVersion, startBroker } from './broker.ts';
import { startTestProxy, type TestProxy } from './peers.ts';

/** A broker and a proxy in front of it, there while the tests of a suite run. */
export interface ProxiedBroker {
  readonly broker: Broker;
  readonly proxy: TestProxy;
  /** The broker's own port. */
  readonly direct: number;
  /** The proxy's port. */
  readonly through: number;
}

/**
 * To be called in a suite: starts them before its tests and stops them behind.
 * @param flags the proxy's options, as {@link startTestProxy} has them
 */
export function useProxiedBroker(
  version: BrokerVersion,
  settings: BrokerSettings = {},
  flags: Record<string, string | string[] | boolean> = {},
): ProxiedBroker {
  let broker: Broker | undefined;
  let proxy: TestProxy | undefined;
  beforeAll(async () => {
    broker = await startBroker(version, settings);
    proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, ...flags });
  });
  afterAll(async () => {
    await proxy?.[Symbol.asyncDispose]();
    await broker?.stop();
  });
  return {
    get broker() {
      return broker!;
    },
    get proxy() {
      return proxy!;
    },
    get direct() {
      return broker!.port;
    },
    get through() {
      return proxy!.port;
    },
  };
}

/** The number that a counter of the proxy is at. @param sample such as `name{label="value"}` */
export async function counted(proxy: TestProxy, sample: string): Promise<number> {
  return Number((await proxy.metric(`${sample} `))[0] ?? 0);
}
