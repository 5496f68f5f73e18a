// The programs of messaging/examples and of the documents, as processes.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Channel, type ChannelModel, type GetMessage, connect } from 'amqplib';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { Child, HOME } from '../support/processes.ts';

const PATIENCE_MS = 90_000;

/** The ten lines of a document. */
function tenLines(path: string): string {
  const blocks = readFileSync(join(HOME, path), 'utf8').matchAll(/^```ts\n([^]*?)^```$/gm);
  return [...blocks].map(([, text]) => text!).find((text) => text.includes('hello.yaml')) ?? '';
}

describe('the program of README.md and docs/messaging.md', () => {
  it('is the same, and has ten lines', () => {
    expect(tenLines('README.md')).toBe(tenLines('docs/messaging.md'));
    expect(tenLines('README.md').trimEnd().split('\n')).toHaveLength(10);
  });
});

await describeBrokers(['3.10', '4.3'], (version) => {
  let broker: Broker;
  let model: ChannelModel;
  let channel: Channel;
  const running: Child[] = [];

  beforeAll(async () => {
    broker = await startBroker(version);
    model = await connect(broker.url);
    channel = await model.createChannel();
  });
  afterEach(async () => {
    for (const child of running.splice(0)) await child.stop();
  });
  afterAll(async () => {
    await model?.close();
    await broker?.stop();
  });

  function start(...args: string[]): Child {
    const env = { RABBITMQ_HOST: '127.0.0.1', RABBITMQ_PORT: String(broker.port), TASKS_RETRY: '500ms' };
    const child = new Child(args.slice(0, 2).join(' '), process.execPath, args, { env });
    running.push(child);
    return child;
  }

  /** Runs a program that ends by itself, and gives what it printed. */
  async function run(...args: string[]): Promise<readonly string[]> {
    const child = start(...args);
    const { code } = await child.exited;
    expect({ code, printed: child.lines }).toMatchObject({ code: 0 });
    return child.lines;
  }

  const prints = (child: Child, line: string): Promise<true> =>
    child.waitFor(line, PATIENCE_MS, (lines) => lines.includes(line) || undefined);

  /** By a field of their content. */
  async function deadLetters(queue: string, field: string, count: number): Promise<Map<unknown, GetMessage>> {
    await vi.waitFor(async () => expect((await channel.checkQueue(queue)).messageCount).toBe(count), {
      timeout: PATIENCE_MS,
      interval: 100,
    });
    const found = new Map<unknown, GetMessage>();
    for (let message; (message = await channel.get(queue, { noAck: true }));) {
      const content = JSON.parse(message.content.toString()) as Record<string, unknown>;
      found.set(content[field], message);
    }
    return found;
  }

  describe('tasks.ts', { timeout: 180_000 }, () => {
    it('works on all that was submitted, the most urgent first, and buries what fails too often', async () => {
      expect(await run('messaging/examples/tasks.ts', 'submit')).toEqual(['submitted: 20']);
      const worker = start('messaging/examples/tasks.ts', 'work');
      const names = ['background-1', 'debate-1', 'debate-2', 'verification-1'];
      names.push('notification-1', 'notification-2', 'notification-3', 'llm-0');
      for (const name of names) await prints(worker, `done: ${name} at attempt 1`);
      const letters = await deadLetters('tasks.dlq', 'name', 2);
      const printed = worker.lines;
      const priorities = printed.flatMap((line) => /^done: llm-(\d+) /.exec(line)?.[1] ?? []);
      expect(priorities.map(Number)).toEqual([10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
      expect(printed.filter((line) => line.startsWith('failed: '))).toEqual(
        [1, 2, 3, 4].map(
          (attempt) => `failed: background-broken at attempt ${attempt}: Error: it never works`,
        ),
      );
      expect(letters.get('background-broken')?.properties.headers).toMatchObject({ 'x-attempt': 3 });
      expect(letters.get('verification-broken')?.properties.headers).toMatchObject({
        'x-rejected-reason': 'Error: it never works',
        'x-rejected-queue': 'tasks.verification',
      });
      expect(await worker.stop(PATIENCE_MS)).toEqual({ code: 0, signal: null });
    });
  });

  describe('events.ts', { timeout: 180_000 }, () => {
    it('handles the events that fit their schema, and an invalid one is a dead letter with the reason', async () => {
      const service = start('messaging/examples/events.ts');
      await prints(service, 'published: 3');
      await prints(service, 'user.created: ada has a profile');
      await prints(service, 'user.password.updated: ada has to log in again');
      const letters = await deadLetters('user.created.dlq', 'user_id', 1);
      expect(letters.get('nobody')?.properties.headers).toMatchObject({
        'x-rejected-reason': 'invalid payload: email: expected a text that is not empty',
        'x-rejected-queue': 'user.created',
      });
      expect(await service.stop(PATIENCE_MS)).toEqual({ code: 0, signal: null });
      const left = await channel.checkQueue('user.created');
      expect(left.messageCount).toBe(0);
    });

    it('says which words it knows when it is given another one', async () => {
      const program = start('messaging/examples/events.ts', 'listen');
      expect(await program.exited).toEqual({ code: 1, signal: null });
      expect(program.lines).toEqual(['listen: expected publish or consume, or nothing for all of it']);
    });
  });

  it('the program of the documents publishes and consumes', async () => {
    const printed = await run('--input-type=module', '--eval', tenLines('docs/messaging.md'));
    expect(printed).toEqual(["{ text: 'Hello' }"]);
  });
});
