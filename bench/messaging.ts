import { styleText } from 'node:util';
import { type ChannelModel, type ConfirmChannel, connect } from 'amqplib';
import rabbit from 'rabbitmq-client';
import { Consumers, Publisher, handler, parseMessaging } from '../messaging/index.ts';
import { type BrokerVersion, startBroker } from '../test/support/broker.ts';
import { median, out, runToEnd } from './peers.ts';

// What the messaging kit costs next to amqplib, on which it is built, and rabbitmq-client: confirmed publishes and acked
// deliveries per second on a quorum queue, and the client's CPU for each, with the same messages, window of unconfirmed
// messages and prefetch. The clients take turns in each round. `amqplib` publishes with nothing but `persistent`;
// `amqplib, same` with the properties that the kit adds to messages: id, type, time and `mandatory`.
// Run: node bench/messaging.ts [BROKER] [ROUNDS]. Loopback only, about 2 min.

const MESSAGES = 10_000;
const WARM_UP = 2000;
const OCTETS = 256;
/** As many as the kit lets be on their way. */
const WINDOW = 1024;
const PREFETCH = 100;
const QUEUE = 'bench';

const [given = '4.0', rounds = '7'] = process.argv.slice(2);
const versions: readonly string[] = ['3.10', '4.0', '4.3'];
if (!versions.includes(given)) throw new Error(`BROKER is ${given}: expected one of ${versions.join(', ')}`);
if (!/^[1-9]\d?$/.test(rounds)) throw new Error(`ROUNDS is ${rounds}: expected a whole number from 1 to 99`);

const content = Buffer.alloc(OCTETS, 0x61);

/** A library with a connection to publish on. */
interface Library {
  readonly name: string;
  /** Publishes one, and calls back when it is confirmed. */
  readonly publish: (confirmed: () => void, failed: (error: Error) => void) => void;
  /** Consumes and acks until it is told to stop. @param taken at each message */
  consume(taken: () => void): Promise<() => Promise<void>>;
  close(): Promise<void>;
}

type PublishOptions = () => Parameters<ConfirmChannel['publish']>[3];

async function amqplib(port: number, name: string, options: PublishOptions): Promise<Library> {
  const url = `amqp://127.0.0.1:${port}`;
  const model: ChannelModel = await connect(url, { noDelay: true });
  const channel = await model.createConfirmChannel();
  // As the kit does: amqplib's socket is full before the window is.
  const waiting: Parameters<Library['publish']>[] = [];
  let isFull = false;
  const publish: Library['publish'] = (confirmed, failed) => {
    if (isFull) {
      waiting.push([confirmed, failed]);
      return;
    }
    isFull = !channel.publish('', QUEUE, content, options(), (error: unknown) => {
      if (error instanceof Error) failed(error);
      else confirmed();
    });
  };
  channel.on('drain', () => {
    isFull = false;
    for (const [confirmed, failed] of waiting.splice(0)) publish(confirmed, failed);
  });
  return {
    name,
    publish,
    async consume(taken) {
      const consuming = await connect(url, { noDelay: true });
      const own = await consuming.createChannel();
      await own.prefetch(PREFETCH);
      await own.consume(QUEUE, (message) => {
        own.ack(message!);
        taken();
      });
      return async () => {
        await own.close(); // behind its acks: connection.close may overtake them
        await consuming.close();
      };
    },
    close: () => model.close(),
  };
}

async function kit(port: number): Promise<Library> {
  const text = `
host: 127.0.0.1
port: ${port}
publish_timeout: 60s
exchanges:
  - name: ''
    kind: direct
    queues: [{name: ${QUEUE}, prefetch: ${PREFETCH}}]`;
  const config = parseMessaging('bench.yaml', text, {});
  const publisher = new Publisher(config, { name: 'bench' });
  await publisher.ready();
  const message = { exchange: '', routingKey: QUEUE, content };
  return {
    name: 'the kit',
    publish(confirmed, failed) {
      publisher.publish(message).then(confirmed, failed);
    },
    async consume(taken) {
      const consumers = new Consumers(config, {
        name: 'bench consumers',
        handlers: { [QUEUE]: handler({ handle: taken }) },
      });
      await consumers.ready();
      return async () => void (await consumers.stop());
    },
    close: () => publisher.close(),
  };
}

async function rabbitmqClient(port: number): Promise<Library> {
  const url = `amqp://guest:guest@127.0.0.1:${port}`;
  const connection = new rabbit.Connection(url);
  const publisher = connection.createPublisher({ confirm: true });
  await connection.onConnect();
  const envelope = { routingKey: QUEUE, durable: true };
  return {
    name: 'rabbitmq-client',
    publish(confirmed, failed) {
      publisher.send(envelope, content).then(confirmed, failed);
    },
    async consume(taken) {
      const consuming = new rabbit.Connection(url);
      const settings = {
        queue: QUEUE,
        queueOptions: { passive: true },
        qos: { prefetchCount: PREFETCH },
        concurrency: PREFETCH,
      };
      const consumer = consuming.createConsumer(settings, async () => taken());
      return async () => {
        await consumer.close();
        await consuming.close();
      };
    },
    async close() {
      await publisher.close();
      await connection.close();
    },
  };
}

/** Of one run: messages a second, and the client's CPU in microseconds a message. */
interface Result {
  readonly perSecond: number;
  readonly cpu: number;
}

function since(began: number, used: NodeJS.CpuUsage, count: number): Result {
  const seconds = (performance.now() - began) / 1000;
  const { user, system } = process.cpuUsage(used);
  return { perSecond: count / seconds, cpu: (user + system) / count };
}

/** Publishes so many, with a window of unconfirmed ones. */
async function publishAll({ publish }: Library, count: number): Promise<Result> {
  const [began, used] = [performance.now(), process.cpuUsage()];
  let [toSend, toCome] = [count, count];
  await new Promise<void>((resolve, reject) => {
    const next = (): void => {
      toSend--;
      publish(confirmed, reject);
    };
    const confirmed = (): void => {
      if (--toCome === 0) resolve();
      else if (toSend > 0) next();
    };
    while (toSend > Math.max(0, count - WINDOW)) next();
  });
  return since(began, used, count);
}

/** Consumes so many, from the first on. */
async function consumeAll(library: Library, count: number): Promise<Result> {
  let [left, began, used] = [count, 0, process.cpuUsage()];
  const { promise: all, resolve } = Promise.withResolvers<void>();
  const stop = await library.consume(() => {
    if (left === count) [began, used] = [performance.now(), process.cpuUsage()];
    if (--left === 0) resolve();
  });
  await all;
  const result = since(began, used, count);
  await stop();
  return result;
}

async function run(cleanup: AsyncDisposableStack): Promise<void> {
  const broker = cleanup.use(await startBroker(given as BrokerVersion));
  const { port } = broker;
  const watcher = await connect(broker.url);
  cleanup.defer(() => watcher.close());
  const channel = await watcher.createChannel();
  const same: PublishOptions = () => ({
    messageId: crypto.randomUUID(),
    persistent: true,
    mandatory: true,
    contentType: 'application/octet-stream',
    timestamp: Math.floor(Date.now() / 1000),
  });
  const ofKit = await kit(port);
  // The kit's consumers declare the queue as the file has it.
  await (
    await ofKit.consume(() => {})
  )();
  const libraries = [ofKit];
  for (const starting of [
    amqplib(port, 'amqplib', () => ({ persistent: true })),
    amqplib(port, 'amqplib, same', same),
    rabbitmqClient(port),
  ])
    libraries.push(await starting);
  const results = libraries.map(() => ({ publish: [] as Result[], consume: [] as Result[] }));
  const turn = async (library: Library, count: number): Promise<[Result, Result]> => {
    const published = await publishAll(library, count);
    const consumed = await consumeAll(library, count);
    // Acks may be under way when a consumer goes: some messages are back then.
    await channel.purgeQueue(QUEUE);
    return [published, consumed];
  };
  for (const library of libraries) cleanup.defer(() => library.close());
  for (const library of libraries) await turn(library, WARM_UP);
  for (let round = 0; round < Number(rounds); round++) {
    for (let at = 0; at < libraries.length; at++) {
      const which = (at + round) % libraries.length;
      const [published, consumed] = await turn(libraries[which]!, MESSAGES);
      results[which]!.publish.push(published);
      results[which]!.consume.push(consumed);
    }
  }

  out(
    `RabbitMQ ${given}, quorum queue, Node ${process.versions.node}: medians of ${rounds} interleaved rounds,`,
  );
  out(`${MESSAGES} messages of ${OCTETS} octets each; ratios to amqplib are medians of each round's`);
  for (const what of ['publish', 'consume'] as const) {
    out(
      styleText(
        'bold',
        what.padEnd(18) + ['msg/s', 'ratio', 'CPU us', 'ratio'].map((head) => head.padStart(10)).join(''),
      ),
    );
    for (const [at, { name }] of libraries.entries()) {
      const base = results[libraries.findIndex((one) => one.name === 'amqplib')]![what];
      const own = results[at]![what];
      const middle = (key: keyof Result): string =>
        median(own.map((one) => one[key])).toFixed(key === 'cpu' ? 1 : 0);
      const ratio = (key: keyof Result): string =>
        median(own.map((one, round) => one[key] / base[round]![key])).toFixed(2);
      const cells = [middle('perSecond'), ratio('perSecond'), middle('cpu'), ratio('cpu')];
      out(name.padEnd(18) + cells.map((cell) => cell.padStart(10)).join(''));
    }
  }
}

await runToEnd(run);
