import { readdirSync, readFileSync } from 'node:fs';
import { entry, longstr, queueDeclare } from '../test/support/amqp-frames.ts';
import { queuePurge } from '../test/support/amqp-methods.ts';
import { type BrokerVersion, startBroker } from '../test/support/broker.ts';
import { RawClient } from '../test/support/raw-client.ts';
import { QUEUE } from './messages.ts';

/** A real broker with a quorum queue. */
export interface Rabbit {
  readonly version: string;
  readonly pid: number;
  readonly port: number;
  /** Empties the queue. */
  purge(): Promise<void>;
}

/** Starts a RabbitMQ of its own (see test/support/brokers.sh) with a durable quorum queue. */
export async function startRabbit(version: BrokerVersion, cleanup: AsyncDisposableStack): Promise<Rabbit> {
  const broker = cleanup.use(await startBroker(version, { conf: 'collect_statistics_interval = 60000' }));
  const owner = cleanup.use(await RawClient.connect(broker.port));
  await owner.channels(1);
  await owner.ask(
    queueDeclare({ name: QUEUE, flags: 2, entries: [entry('x-queue-type', longstr('quorum'))] }),
  );
  return {
    version: await broker.management.version(),
    pid: beamOf(broker.port),
    port: broker.port,
    purge: async () => void (await owner.ask(queuePurge(1, QUEUE))),
  };
}

/** The Erlang machine of the node that listens on this port: it carries the node's name in its environment. */
function beamOf(port: number): number {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
      if (!environment.includes(`RABBITMQ_NODENAME=rabbit-${port}@localhost`)) continue;
      if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'beam.smp') return Number(pid);
    } catch {
      // a process that has ended, or isn't ours to look at
    }
  }
  throw new Error(`found no process of the node on port ${port}`);
}
