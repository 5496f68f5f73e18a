// `quorumbridge dlq` on real brokers: what is in the queues before and after.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { text as textOf } from 'node:stream/consumers';
import { type ChannelModel, type ConfirmChannel, type GetMessage, type Options, connect } from 'amqplib';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { runCommandLine } from '../../cli/run.ts';
import { parseMessaging } from '../../messaging/config.ts';
import { Consumers } from '../../messaging/consumer/consumers.ts';
import { handler } from '../../messaging/consumer/handler.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { Child, HOME } from '../support/processes.ts';
import { RelayLink } from '../support/relay-link.ts';

const LONG = { timeout: 60_000, interval: 50 };

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-dlq-'));
  let broker: Broker;
  /** Where the command goes in place of the broker's. */
  let port: number | undefined;
  let model: ChannelModel;
  let channel: ConfirmChannel;
  const env = () => ({ RABBITMQ_HOST: '127.0.0.1', RABBITMQ_PORT: String(port ?? broker.port) });

  beforeAll(async () => {
    // So few that it shows how many channels a look at many takes.
    broker = await startBroker(version, { conf: 'channel_max = 8' });
    model = await connect(broker.url);
    channel = await model.createConfirmChannel();
  });
  afterAll(async () => {
    await model?.close();
    await broker?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Queues NAME and NAME.other, whose dead letters are in NAME.dead. */
  async function declared(name: string, keys = ''): Promise<{ file: string; text: string }> {
    const file = join(folder, `${name}.yaml`);
    const text = `exchanges:
  - name: ''
    dlx_name: ${name}.dlx
    dlq_name: ${name}.dead
    queues: [{ name: ${name}${keys} }, { name: ${name}.other }]
`;
    writeFileSync(file, text);
    expect(await command('topology', 'apply', '-f', file, '--management=none')).toMatchObject({ code: 0 });
    return { file, text };
  }

  async function command(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const io = { stdin: Readable.from([]), stdout, stderr, env: {} };
    const loaders = {
      dlq: () => import('../../cli/dlq.ts'),
      topology: () => import('../../cli/topology.ts'),
    };
    for (const [key, value] of Object.entries(env())) vi.stubEnv(key, value);
    const code = await runCommandLine(args, loaders, io);
    vi.unstubAllEnvs();
    stdout.end();
    stderr.end();
    return { code, stdout: await textOf(stdout), stderr: await textOf(stderr) };
  }

  async function send(queue: string, ids: string[], options: Options.Publish = {}): Promise<void> {
    for (const messageId of ids)
      channel.sendToQueue(queue, Buffer.from(`content of ${messageId}`), {
        messageId,
        persistent: true,
        ...options,
      });
    await channel.waitForConfirms();
  }

  const holds = async (queue: string): Promise<number> => (await channel.checkQueue(queue)).messageCount;

  const untilHeld = (queue: string, count: number): Promise<void> =>
    vi.waitFor(async () => expect(await holds(queue)).toBe(count), LONG);

  /** Puts messages into the dead letters of a queue by rejecting them. */
  async function reject(queue: string, ids: string[], options: Options.Publish = {}): Promise<void> {
    const before = await holds(`${queue.replace('.other', '')}.dead`);
    await send(queue, ids, options);
    for (const _ of ids) {
      const message = await takeFrom(queue, false);
      channel.reject(message, false);
    }
    await untilHeld(`${queue.replace('.other', '')}.dead`, before + ids.length);
  }

  function takeFrom(queue: string, noAck = true): Promise<GetMessage> {
    return vi.waitFor(async () => {
      const message = await channel.get(queue, { noAck });
      if (message === false) throw new Error(`nothing in ${queue}`);
      return message;
    }, LONG);
  }

  /** Takes all messages of a queue. */
  async function taken(queue: string): Promise<GetMessage[]> {
    const messages = [];
    for (;;) {
      const message = await channel.get(queue, { noAck: true });
      if (message === false) return messages;
      messages.push(message);
    }
  }

  const idsOf = (messages: readonly GetMessage[]): string[] =>
    messages.map(({ properties }) => String(properties.messageId));

  it('brings a poison message back once, with its attempts from the beginning', async () => {
    const { text } = await declared('poison', ', delivery_limit: 2, retry: 100ms');
    const attempts: number[] = [];
    const consume = async (isPoisoned: boolean): Promise<Consumers> => {
      const consumers = new Consumers(parseMessaging('test.yaml', text, env()), {
        name: 'test',
        handlers: {
          poison: handler({
            handle: (_, { attempt, retryLater }) => {
              attempts.push(attempt);
              if (!isPoisoned) return;
              if (attempt === 1) retryLater();
              else throw new Error('poison');
            },
          }),
        },
      });
      await consumers.ready();
      return consumers;
    };
    const failing = await consume(true);
    await send('poison', ['p'], { headers: { own: 'kept' }, contentType: 'text/plain', correlationId: 'c' });
    await untilHeld('poison.dead', 1);
    await failing.stop();
    expect(attempts.splice(0)).toEqual([1, 2, 3]);

    const { code, stdout } = await command(
      'dlq',
      'redrive',
      'poison.dead',
      '-f',
      join(folder, 'poison.yaml'),
    );
    expect(stdout).toContain('1 redriven to queue "poison"');
    expect([code, await holds('poison.dead'), await holds('poison')]).toEqual([0, 0, 1]);
    const message = await takeFrom('poison', false);
    expect(message.properties.headers).toMatchObject({
      own: 'kept',
      'x-redriven-count': 1,
      'x-redriven-from': 'poison.dead',
    });
    expect(message.properties.headers).not.toHaveProperty('x-death');
    expect(message.properties).toMatchObject({
      messageId: 'p',
      correlationId: 'c',
      contentType: 'text/plain',
    });
    expect(message.content.toString()).toBe('content of p');
    channel.nack(message);
    const working = await consume(false);
    await vi.waitFor(() => expect(working.stats.acked).toBe(1), LONG);
    await working.stop();
  });

  it('gives a message that dies again its full number of attempts on each trip', async () => {
    const { file } = await declared('again', ', delivery_limit: 2');
    const deliveries = async (): Promise<number> => {
      let count = 0;
      while ((await holds('again.dead')) === 0) {
        const message = await channel.get('again');
        if (message === false) continue;
        count++;
        channel.reject(message, true);
      }
      return count;
    };
    await send('again', ['a']);
    const counts = [await deliveries()];
    for (let trip = 0; trip < 2; trip++) {
      expect((await command('dlq', 'redrive', 'again.dead', '-f', file)).code).toBe(0);
      counts.push(await deliveries());
    }
    expect(counts).toEqual([3, 3, 3]);
    const shown = await command('dlq', 'show', 'again.dead', '-f', file, '--json');
    expect(JSON.parse(shown.stdout)).toMatchObject({
      letters: [
        { messageId: 'a', redriven: 2, death: { queue: 'again', reason: 'delivery_limit', count: 1 } },
      ],
    });
  });

  it('lists, shows and tries without changing anything, over more messages than a few channels hold', async () => {
    const { file } = await declared('look');
    const ids = Array.from({ length: 1230 }, (_, index) => `m${index}`);
    await reject('look', ids.slice(0, 2));
    await send('look.dead', ids.slice(2), { headers: { 'x-rejected-queue': 'look' } });
    const listed = await command('dlq', 'list', '-f', file);
    expect(listed.stdout).toBe('"look.dead": 1230 messages; dead letters of "look", "look.other"\n');
    const shown = await command('dlq', 'show', 'look.dead', '-f', file, '--limit=2', '--content=7');
    expect(shown.stdout).toMatch(
      /^"look\.dead" holds 1230 messages, 2 of them are shown\.\n1\. "m0": rejected in queue "look" at \S+Z, from exchange "", routing key "look"; 13 octets\n {3}content: "content"\n2\. "m1"/,
    );
    const last = await command('dlq', 'show', 'look.dead', '-f', file, '--filter=id=m1229', '--json');
    expect(JSON.parse(last.stdout)).toMatchObject({ letters: [{ position: 1230, messageId: 'm1229' }] });
    expect(last.stdout).not.toContain('content of');
    const tried = await command('dlq', 'redrive', 'look.dead', '-f', file, '--dry-run', '--json');
    expect(JSON.parse(tried.stdout)).toMatchObject({ matched: 1230, redriven: { 'queue "look"': 1230 } });
    await untilHeld('look.dead', 1230);
    expect(await holds('look')).toBe(0);
    expect(idsOf(await taken('look.dead'))).toEqual(ids);
  });

  it('redrives what the filters mean, each to its own queue, and leaves the others in their order', async () => {
    const { file } = await declared('filter', ', message_ttl: 200ms');
    await reject('filter.other', ['a', 'b'], { headers: { kind: 'x' } });
    await send('filter', ['c']);
    await untilHeld('filter.dead', 3);
    await reject('filter.other', ['d'], { headers: { kind: 'y' } });
    const run = (...args: string[]) => command('dlq', 'redrive', 'filter.dead', '-f', file, ...args);
    expect((await run('--filter=older-than=1h')).stdout).toMatch(/ 0 were meant/);
    expect((await run('--filter=reason=rejected', '--filter=header.kind=x', '--limit=1')).code).toBe(0);
    expect(idsOf(await taken('filter.other'))).toEqual(['a']);
    expect((await run('--filter=reason=expired', '--to=filter.other')).code).toBe(0);
    expect(idsOf(await taken('filter.other'))).toEqual(['c']);
    await untilHeld('filter.dead', 2);
    expect(idsOf(await taken('filter.dead'))).toEqual(['b', 'd']);
  });

  it('keeps what no queue gets, what a full queue refuses, and what came from elsewhere, and says so', async () => {
    const { file } = await declared('keep');
    await channel.assertExchange('keep.nowhere', 'direct');
    await channel.assertQueue('keep.full', {
      arguments: { 'x-queue-type': 'quorum', 'x-max-length': 1, 'x-overflow': 'reject-publish' },
    });
    await send('keep.full', ['1', '2', '3']).catch(() => {}); // some are refused: it is full then
    await reject('keep', ['a', 'b']);
    const run = (...args: string[]) => command('dlq', 'redrive', 'keep.dead', '-f', file, ...args);
    const unroutable = await run('--exchange=keep.nowhere');
    expect(unroutable.stdout).toContain(
      'stays: "a": exchange "keep.nowhere": no queue got it there (NO_ROUTE)',
    );
    const full = await run('--to=keep.full');
    expect(full.stdout).toContain('stays: "b": queue "keep.full": the broker could not keep it');
    await send('keep.dead', ['stranger'], { headers: { 'x-rejected-queue': 'keep.full' } });
    const back = await run();
    expect(back.stdout).toContain('stays: "stranger": it came from queue "keep.full", whose dead letters');
    expect([unroutable.code, full.code, back.code]).toEqual([1, 1, 1]);
    expect((await run('--to=nobody')).stderr).toContain('queue "nobody": ');
    expect(idsOf(await taken('keep'))).toEqual(['a', 'b']);
    await untilHeld('keep.dead', 1);
  });

  it('looks once at what comes back to the same dead letters', async () => {
    const { file } = await declared('round');
    await reject('round', ['a', 'b', 'c']);
    const { consumerTag } = await channel.consume('round', (message) => {
      if (message !== null) channel.reject(message, false);
    });
    const { code, stdout } = await command('dlq', 'redrive', 'round.dead', '-f', file, '--json');
    expect([code, JSON.parse(stdout)]).toEqual([0, expect.objectContaining({ found: 3, matched: 3 })]);
    await untilHeld('round.dead', 3);
    await channel.cancel(consumerTag);
  });

  it.each(['SIGKILL', 'SIGINT'] as const)('loses nothing when it is ended by %s', async (signal) => {
    const name = signal.toLowerCase();
    const { file } = await declared(name);
    const ids = Array.from({ length: 400 }, (_, index) => `m${index}`);
    await send(`${name}.dead`, ids, { headers: { 'x-rejected-queue': name } });
    const args = ['dlq', 'redrive', `${name}.dead`, '-f', file, '--rate=100'];
    for (let round = 0; round < 2; round++) {
      const before = await holds(name);
      const child = new Child('dlq', process.execPath, [join(HOME, 'cli/main.ts'), ...args], { env: env() });
      await vi.waitFor(async () => expect(await holds(name)).toBeGreaterThan(before + 20), LONG);
      child.kill(signal);
      expect(await child.exited).toEqual(
        signal === 'SIGKILL' ? { code: null, signal } : { code: 1, signal: null },
      );
    }
    // The broker gives back what a killed process had when it notices that its connection is gone.
    await vi.waitFor(async () => {
      const { messageCount, consumerCount } = await channel.checkQueue(`${name}.dead`);
      expect(consumerCount).toBe(0);
      expect((await holds(name)) + messageCount).toBeGreaterThanOrEqual(ids.length);
    }, LONG);
    const [moved, left] = [idsOf(await taken(name)), idsOf(await taken(`${name}.dead`))];
    expect(moved.length).toBeLessThan(ids.length);
    expect(left.length).toBeGreaterThan(0);
    expect(new Set([...moved, ...left])).toEqual(new Set(ids));
    const doubled = moved.length + left.length - ids.length;
    expect(signal === 'SIGINT' ? doubled : 0).toBe(0);
  });

  it('loses nothing when its connections are reset, and tells how far it came', async () => {
    const { file } = await declared('reset');
    const ids = Array.from({ length: 200 }, (_, index) => `m${index}`);
    await send('reset.dead', ids, { headers: { 'x-rejected-queue': 'reset' } });
    await using link = await new RelayLink(broker.port).start();
    port = link.port;
    const redriving = command('dlq', 'redrive', 'reset.dead', '-f', file, '--rate=100', '--json');
    port = undefined;
    await vi.waitFor(async () => expect(await holds('reset')).toBeGreaterThan(20), LONG);
    link.set('sever');
    const { code, stdout } = await redriving;
    expect([code, JSON.parse(stdout)]).toEqual([1, expect.objectContaining({ ended: expect.any(String) })]);
    await vi.waitFor(async () => {
      const { messageCount, consumerCount } = await channel.checkQueue('reset.dead');
      expect(consumerCount).toBe(0);
      expect((await holds('reset')) + messageCount).toBeGreaterThanOrEqual(ids.length);
    }, LONG);
    const found = [...idsOf(await taken('reset')), ...idsOf(await taken('reset.dead'))];
    expect(new Set(found)).toEqual(new Set(ids));
  });

  it('works on classic queues of others alike', async () => {
    const { file } = await declared('classic');
    await channel.deleteQueue('classic.dead');
    await channel.assertQueue('classic.dead', { arguments: { 'x-queue-type': 'classic' } });
    const ids = Array.from({ length: 120 }, (_, index) => `m${index}`);
    await send('classic.dead', ids, { headers: { 'x-rejected-queue': 'classic' } });
    expect((await command('dlq', 'redrive', 'classic.dead', '-f', file, '--filter=id=m119')).code).toBe(0);
    expect(idsOf(await taken('classic'))).toEqual(['m119']);
    expect(idsOf(await taken('classic.dead'))).toEqual(ids.slice(0, -1));
  });

  it('purges what the filters mean, only with --yes', async () => {
    const { file } = await declared('purge');
    await reject('purge', ['a', 'b']);
    await reject('purge.other', ['c']);
    const run = (...args: string[]) => command('dlq', 'purge', 'purge.dead', '-f', file, ...args);
    expect(await run('--filter=queue=purge')).toMatchObject({
      code: 2,
      stdout: '2 of 3 messages in "purge.dead" would be lost for good: say --yes.\n',
    });
    await untilHeld('purge.dead', 3);
    expect((await run('--filter=queue=purge', '--yes')).code).toBe(0);
    await untilHeld('purge.dead', 1);
    expect((await run('--yes')).stdout).toBe('1 of 1 messages in "purge.dead" are purged.\n');
    expect(await holds('purge.dead')).toBe(0);
  });

  it('refuses a queue that would drop what is looked at too often', async () => {
    const { file } = await declared('limited');
    await channel.deleteQueue('limited.dead');
    await channel.assertQueue('limited.dead', {
      arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 3 },
    });
    const refused = await command('dlq', 'show', 'limited.dead', '-f', file);
    expect(refused.stderr).toContain('queue "limited.dead" has a delivery limit (3)');
    expect(refused.code).toBe(1);
    const shown = await command('dlq', 'show', 'limited.dead', '-f', file, '--ignore-delivery-limit');
    expect(shown).toMatchObject({ code: 0, stdout: '"limited.dead" holds 0 messages.\n' });
    await channel.deleteQueue('limited.dead');
    const missing = await command('dlq', 'show', 'limited.dead', '-f', file);
    expect(missing.stderr).toContain(
      'queue "limited.dead" is not there: quorumbridge topology apply declares it',
    );
  });
});
