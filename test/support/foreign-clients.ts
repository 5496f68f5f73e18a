// Programs of clients that are not JavaScript, with the defaults of their libraries, and the tests that they do through
// a proxy.
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runClient, startBroker, startClient } from './broker.ts';
import type { Broker, BrokerVersion, ClientName } from './broker.ts';
import type { QueueInfo } from './management.ts';
import { HOME } from './processes.ts';
import type { Child } from './processes.ts';
import { startProxyProcess } from './service.ts';
import type { ProxyProcess } from './service.ts';

const START_MS = 30_000;
const MESSAGES = 100;
/** In the log of a Python program: something went wrong. */
const TROUBLE = /\b(ERROR|CRITICAL|Traceback)\b/;

export function programOf(name: string): string {
  return join(HOME, `test/broker/${name}.py`);
}

/** A program that runs until its input ends. */
interface Running {
  child: Child;
  /** What it printed and logged so far. */
  lines: string[];
  /** Ends its input and returns its exit code. */
  stop(): Promise<number | null>;
}

export function launch(client: ClientName, program: string, args: string[]): Running {
  const lines: string[] = [];
  const child = startClient(client, program, args, (line) => lines.push(line));
  const stop = async () => {
    child.end();
    const timer = setTimeout(() => child.kill('SIGKILL'), START_MS);
    const { code } = await child.exited;
    clearTimeout(timer);
    return code;
  };
  return { child, lines, stop };
}

/** Runs a Python program to its end: what it prints as JSON, a value a line. Its log must be free of errors. */
async function answersOf(client: ClientName, program: string, args: string[]): Promise<unknown[]> {
  const running = launch(client, programOf(program), args);
  const code = await running.stop();
  expectNoTrouble(running);
  expect(code).toBe(0);
  return running.lines.filter((line) => /^[[{]/.test(line)).map((line) => JSON.parse(line) as unknown);
}

function expectNoTrouble(running: Running): void {
  expect(running.lines.filter((line) => TROUBLE.test(line))).toEqual([]);
}

/** Waits for `times` lines with `text`. */
export async function seen(running: Running, text: string, times = 1): Promise<void> {
  const count = () => running.lines.filter((line) => line.includes(text)).length;
  await running.child.waitFor(`"${text}"`, START_MS, () => (count() >= times ? true : undefined));
}

/** What such a suite needs besides its broker. */
export const FOREIGN_CLIENTS: ClientName[] = ['amqp-tools', 'kombu', 'oslo'];

/** A broker and a proxy of its own process in front of it, there while the tests of a suite run. */
export interface ProxiedProcess {
  readonly broker: Broker;
  readonly proxy: ProxyProcess;
}

/**
 * oslo.messaging, Celery, kombu and the C client's tools through a proxy: to be called in a suite.
 * @param options the proxy's
 */
export function itServesForeignClients(version: BrokerVersion, options: string[] = []): ProxiedProcess {
  let broker: Broker;
  let proxy: ProxyProcess;
  beforeAll(async () => {
    broker = await startBroker(version);
    proxy = await startProxyProcess(broker.port, options);
  });
  afterAll(async () => {
    await proxy?.stop();
    await broker?.stop();
  });

  /** The queues of that name: all of them quorum and durable, or the test fails. */
  async function quorumQueues(name: RegExp): Promise<QueueInfo[]> {
    const queues = (await broker.management.queues()).filter((queue) => name.test(queue.name));
    for (const queue of queues) {
      expect(queue).toMatchObject({ type: 'quorum', durable: true, auto_delete: false, exclusive: false });
    }
    return queues.sort((left, right) => (left.name < right.name ? -1 : 1));
  }

  async function namesOf(name: RegExp): Promise<string[]> {
    return (await quorumQueues(name)).map((queue) => queue.name);
  }

  /** Servers and a client of oslo.messaging, started, used and stopped. */
  async function osloSession(round: string): Promise<void> {
    const args = [String(proxy.port), '', round];
    const servers = launch('oslo', programOf('oslo_server'), args);
    let code: number | null;
    try {
      await seen(servers, 'started');
      expect(await answersOf('oslo', 'oslo_client', args)).toEqual([
        Array.from({ length: 20 }, (_, number) => number + 1),
        { server: 'second', round, sum: 42 },
      ]);
      await seen(servers, 'cast ', 3);
      await seen(servers, 'notification ', 3);
      const names = (await quorumQueues(/^(compute|notifications|reply_)/)).map((queue) =>
        queue.name.replace(/_[0-9a-f]{32}$/, '_ID'),
      );
      expect([...new Set(names)]).toEqual([
        'compute',
        'compute.first',
        'compute.second',
        'compute_fanout_ID',
        'notifications.info',
        'reply_ID',
      ]);
      expect(names.filter((name) => name === 'compute_fanout_ID')).toHaveLength(2);
      expect(await broker.management.exchange('openstack')).toMatchObject({ type: 'topic', durable: true });
    } finally {
      code = await servers.stop();
    }
    expect(code).toBe(0);
    expect(servers.lines.filter((line) => /^(cast|notification) /.test(line)).sort()).toEqual([
      `cast first to-all-${round}`,
      `cast first to-one-${round}`,
      `cast second to-all-${round}`,
      ...[0, 1, 2].map((number) => `notification service-${round} instance.created ${number}`),
    ]);
    expect(servers.lines).toContain('stopped');
    expectNoTrouble(servers);
    expect(await quorumQueues(/_fanout_/)).toEqual([]);
  }

  it('oslo.messaging calls, casts, casts to all and notifies, on durable quorum queues', async () => {
    await osloSession('one');
  });

  it('oslo.messaging works again on the same topics when servers and clients were stopped and started again', async () => {
    await osloSession('two');
  });

  it('a Celery worker runs tasks with results, groups, countdowns and retries, and obeys remote control', async () => {
    const args = [String(proxy.port), ''];
    const worker = launch('kombu', programOf('celery_worker'), args);
    let code: number | null;
    try {
      await seen(worker, ' ready.');
      expect(await answersOf('kombu', 'celery_client', args)).toEqual([
        {
          task: 5,
          group: Array.from({ length: 10 }, (_, number) => 2 * number),
          countdown: 23,
          retry: 1,
          ping: [{ ok: 'pong' }],
          registered: [['celery_app.add', 'celery_app.flaky']],
        },
      ]);
      const names = (await quorumQueues(/celery|pidbox/)).map((queue) => queue.name);
      expect(names).toContain('celery');
      expect(names).toContainEqual(expect.stringMatching(/^celery@.*\.celery\.pidbox$/));
      expect(names).toContainEqual(expect.stringMatching(/^celeryev\./));
    } finally {
      code = await worker.stop();
    }
    expect(code).toBe(0);
    expectNoTrouble(worker);
    // auto-delete: gone with their last consumers, the client's reply queue and the worker's own
    await expect.poll(() => namesOf(/celery|pidbox/), { timeout: START_MS }).toEqual(['celery']);
  });

  it("kombu's SimpleQueue, SimpleBuffer and a transient queue lose nothing", async () => {
    const args = [String(proxy.port), '', String(MESSAGES)];
    expect(await answersOf('kombu', 'kombu_client', args)).toEqual([
      { 'simple-queue': MESSAGES, 'simple-buffer': MESSAGES, topic: MESSAGES },
    ]);
    // the buffer is auto-delete
    await expect
      .poll(() => namesOf(/^kombu-/), { timeout: START_MS })
      .toEqual(['kombu-simple-queue', 'kombu-topic']);
  });

  it("the C client's tools declare, publish, get and consume", async () => {
    const tool = (name: string, ...args: string[]) =>
      runClient('amqp-tools', name, ['-u', `amqp://127.0.0.1:${proxy.port}`, ...args]);
    expect(await tool('amqp-declare-queue', '-q', 'c-tools')).toBe('c-tools');
    expect(await quorumQueues(/^c-tools$/)).toHaveLength(1);
    await tool('amqp-publish', '-r', 'c-tools', '-b', 'one');
    expect(await tool('amqp-get', '-q', 'c-tools')).toBe('one');
    await tool('amqp-publish', '-r', 'c-tools', '-b', 'two');
    await tool('amqp-publish', '-r', 'c-tools', '-b', 'three');
    expect(await tool('amqp-consume', '-q', 'c-tools', '-c', '2', 'cat')).toBe('twothree');
  });

  it("the C client's tools consume from a queue without a name that they bind", async () => {
    const at = ['-u', `amqp://127.0.0.1:${proxy.port}`, '-e', 'amq.topic', '-r'];
    const consumer = launch('amqp-tools', 'amqp-consume', [...at, 'events.#', '-c', '1', 'cat']);
    let code: number | null;
    try {
      await seen(consumer, 'Server provided queue name: quorumbridge.gen-');
      for (let tries = 0; tries < 50 && !consumer.lines.includes('made'); tries += 1)
        // it may not have bound it yet
        await runClient('amqp-tools', 'amqp-publish', [...at, 'events.made', '-b', 'made\n']);
    } finally {
      code = await consumer.stop();
    }
    expect(code).toBe(0);
    expect(consumer.lines).toContain('made');
    await expect.poll(() => namesOf(/^quorumbridge\.gen-/), { timeout: START_MS }).toEqual([]);
  });

  return {
    get broker() {
      return broker;
    },
    get proxy() {
      return proxy;
    },
  };
}
