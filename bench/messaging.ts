import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, styleText } from 'node:util';
import { type Channel, type ChannelModel, type ConfirmChannel, connect } from 'amqplib';
import rabbit from 'rabbitmq-client';
import { Consumers, Publisher, handler, parseMessaging } from '../messaging/index.ts';
import { type BrokerVersion, startBroker } from '../test/support/broker.ts';
import { median, out, runToEnd } from './peers.ts';

// What the messaging kit costs next to amqplib, on which it is built, and rabbitmq-client: confirmed publishes and acked
// deliveries per second on a quorum queue, and the client's CPU for each, with the same messages, window of unconfirmed
// messages and prefetch. The clients take turns in each round, and each has to leave the queue empty: what it published it
// has to consume, and no message that it acked may come back. `amqplib` publishes with nothing but `persistent`;
// `amqplib, same` with the properties that the kit adds to messages: id, type, time and `mandatory`.
// Run: node bench/messaging.ts [BROKER] [ROUNDS] [--quick]. Loopback only, about 1 min; --quick about 20 s.

/** Few at a time, and many rounds: what else the machine does then meets all clients alike. */
const MESSAGES = 3000;
/** Until V8 has compiled what they run. */
const WARM_UP = 8000;
/** Of amqplib's throughput, at least. */
const TARGET = 0.85;
const OCTETS = 256;
/** As many as the kit lets be on their way. */
const WINDOW = 1024;
const PREFETCH = 100;
const QUEUE = 'bench';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false } },
});
const [given = '4.0', rounds = values.quick ? '7' : '25'] = positionals;
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
      const { consumerTag } = await own.consume(QUEUE, (message) => {
        own.ack(message!);
        taken();
      });
      return async () => {
        // Or messages come back that were acked: RabbitMQ holds acks of quorum queues back when more than 32 are under way
        // and forgets them with the channel, unless a cancel takes them along; and amqplib lets connection.close overtake
        // what its channels have not sent yet.
        await own.cancel(consumerTag);
        await own.close();
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
        handlers: { [QUEUE]: handler({ handle: async () => taken() }) },
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

/** @throws Error where messages have come back, which they do a moment after their consumer is gone */
async function checkIsEmpty(channel: Channel, { name }: Library): Promise<void> {
  await sleep(50);
  const { messageCount } = await channel.checkQueue(QUEUE);
  if (messageCount > 0) throw new Error(`${name} has left ${messageCount} messages that it had consumed`);
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
    await checkIsEmpty(channel, library);
    return [published, consumed];
  };
  for (const library of libraries) cleanup.defer(() => library.close());
  for (const library of libraries) await turn(library, WARM_UP);
  for (let round = 0; round < Number(rounds); round++) {
    for (let at = 0; at < libraries.length; at++) {
      // Another one begins each time, and has another one before it.
      const which = (round + (round % 2 === 0 ? at : libraries.length - at)) % libraries.length;
      const [published, consumed] = await turn(libraries[which]!, MESSAGES);
      results[which]!.publish.push(published);
      results[which]!.consume.push(consumed);
    }
  }

  out(
    `RabbitMQ ${given}, quorum queue, Node ${process.versions.node}: medians of ${rounds} interleaved rounds,`,
  );
  out(`${MESSAGES} messages of ${OCTETS} octets each; ratios to amqplib are medians of each round's`);
  const verdicts: string[] = [];
  for (const what of ['publish', 'consume'] as const) {
    out(
      styleText(
        'bold',
        what.padEnd(18) + ['msg/s', 'ratio', 'CPU us', 'ratio'].map((head) => head.padStart(10)).join(''),
      ),
    );
    const base = results[libraries.findIndex(({ name }) => name === 'amqplib')]![what];
    for (const [at, { name }] of libraries.entries()) {
      const own = results[at]![what];
      const middle = (key: keyof Result): string =>
        median(own.map((one) => one[key])).toFixed(key === 'cpu' ? 1 : 0);
      const ratio = (key: keyof Result): number =>
        median(own.map((one, round) => one[key] / base[round]![key]));
      const cells = [
        middle('perSecond'),
        ratio('perSecond').toFixed(2),
        middle('cpu'),
        ratio('cpu').toFixed(2),
      ];
      out(name.padEnd(18) + cells.map((cell) => cell.padStart(10)).join(''));
      if (name === 'the kit') verdicts.push(verdict(what, ratio('perSecond')));
    }
  }
  for (const line of verdicts) out(line);
}

function verdict(what: string, ratio: number): string {
  const share = `${Math.round((ratio / TARGET) * 100)} % of the target of ${TARGET}`;
  return `${what}: the kit has ${ratio.toFixed(2)} of amqplib's msg/s, ${share}: ${ratio >= TARGET ? 'met' : 'MISSED'}`;
}

await runToEnd(run);
