// `quorumbridge topology` on real brokers: what it declares, what it finds in the way, what it reads back.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { type Channel, connect } from 'amqplib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runCommandLine } from '../../cli/run.ts';
import { parseTopology } from '../../messaging/config.ts';
import { connectManagement } from '../../reconciler/broker/management.ts';
import { type TopologyOutcome, declareTopology } from '../../reconciler/broker/topology.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { EVENTS, ODDITIES, REST, TASKS } from '../support/messaging-files.ts';

const { signal } = new AbortController();

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** What is there afterwards is all that matters of a conflict: exchange e, queue a and its dead letters. */
const BEFORE = `exchanges:
  - name: e
    kind: direct
    dlx_name: e.dlx
    dlq_name: e.dlq
    queues: [{ name: a, bindings: [k, old], message_ttl: 1m }]
`;
const AFTER = `exchanges:
  - name: e
    kind: topic
    dlx_name: e.dlx
    dlq_name: e.dlq
    queues: [{ name: a, bindings: [k], delivery_limit: 5, max_length: 9 }]
`;

const WORKING = `exchanges:
  - name: work
    kind: direct
    dlx_name: work.dlx
    dlq_name: work.dlq
    queues:
      - { name: first, bindings: [first], max_priority: 10 }
      - { name: poison, bindings: [poison], delivery_limit: 2, retry: 200ms }
`;

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-topology-'));
  let broker: Broker;
  let vhosts = 0;
  beforeAll(async () => {
    broker = await startBroker(version);
  });
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true });
    await broker?.stop();
  });

  /** As the reconciler reaches the broker of a pod. */
  const reconcilersAccess = () =>
    connectManagement({
      endpoints: [{ pod: 'server-0', url: broker.managementUrl }],
      credentials: { username: 'guest', password: 'guest' },
      credentialsFrom: 'Secret ns/default-user',
      timeoutMs: 30_000,
    });

  /** A virtual host of its own for each test, and the command line against it. */
  async function emptyHost() {
    vhosts += 1;
    const vhost = `v${vhosts}`;
    const management = broker.managementOf(vhost);
    await management.addVirtualHost(vhost);
    await management.permit('guest', { configure: '.*', write: '.*', read: '.*' });
    return {
      vhost,
      management,
      /** @param text the file; without one there is none */
      run: async (
        action: string,
        text: string | undefined,
        ...given: (string | Record<string, string>)[]
      ): Promise<Outcome> => {
        const options = given.filter((one) => typeof one === 'string');
        const more = given.filter((one) => typeof one !== 'string');
        const file = join(folder, `${vhost}.yaml`);
        if (text !== undefined) writeFileSync(file, text);
        const args = ['topology', action, ...(text === undefined ? [] : ['-f', file]), ...options];
        if (!options.some((option) => option.startsWith('--management')))
          args.push(`--management=${broker.managementUrl}`);
        const env = { RABBITMQ_HOST: '127.0.0.1', RABBITMQ_PORT: String(broker.port), RABBITMQ_VHOST: vhost };
        const variables = { ...env, RABBITMQ_USER: 'guest', RABBITMQ_PASSWORD: 'guest' };
        return runHere(args, Object.assign(variables, ...more));
      },
      connect: () => connect(`${broker.url}${vhost}`),
    };
  }

  it.each([
    ['a task queue', TASKS],
    ['event handlers', EVENTS],
    ['what few have', ODDITIES],
    ['all that is left', REST],
  ])('the file of %s is applied, found as it is, exported, and the export is the same', async (_, text) => {
    const { run } = await emptyHost();
    const planned = await run('plan', text);
    expect(planned.stdout).toMatch(/\n\d+ to create, [01] as the file has them\.\n$/);
    expect(planned.code).toBe(0);
    expect((await run('diff', text)).code).toBe(1);

    const applied = await run('apply', text);
    expect([applied.code, applied.stderr.replaceAll(/^warning: .*\n/gm, '')]).toEqual([0, '']);
    expect((await run('plan', text)).stdout).toMatch(/\n0 to create, \d+ as the file has them\.\n$/);
    const again = await run('apply', text);
    expect(again.stdout).toMatch(/Everything is declared; (\d+) of \1 were there already\.\n$/);
    expect((await run('diff', text)).code).toBe(0);

    const exported = await run('export', undefined);
    expect([exported.code, exported.stdout.includes('Left out')]).toEqual([0, false]);
    const diff = await run('diff', exported.stdout);
    expect(diff.stdout).toMatch(/\n0 to create, \d+ as the file has them, 0 only on the broker\.\n$/);
    expect(diff.code).toBe(0);
    expect((await run('apply', exported.stdout)).code).toBe(0);
  });

  it.each([
    ['a task queue', TASKS],
    ['event handlers', EVENTS],
    ['what few have', ODDITIES],
    ['all that is left', REST],
  ])(
    'the reconciler declares the file of %s by the management API as apply does by AMQP',
    async (_, text) => {
      const { vhost, run } = await emptyHost();
      const { exchanges } = parseTopology('file', text);
      const declare = () => declareTopology(reconcilersAccess(), { vhost, exchanges }, signal);
      const made = await declare();
      expect(made).toMatchObject({ result: 'declared', total: expect.any(Number) });
      const diff = await run('diff', text);
      expect(diff.stdout).toMatch(/\n0 to create, \d+ as the file has them, 0 only on the broker\.\n$/);
      expect(await declare()).toEqual({ ...made, created: 0 });
    },
  );

  it('the reconciler says of a conflict what plan says, and declares nothing', async () => {
    const { vhost, run } = await emptyHost();
    await run('apply', BEFORE);
    const file = (text: string) => ({ vhost, exchanges: parseTopology('file', text).exchanges });
    const outcome = await declareTopology(reconcilersAccess(), file(AFTER), signal);
    expect(outcome).toMatchObject({ result: 'conflict' });
    const { why } = outcome as TopologyOutcome & { result: 'conflict' };
    expect(why).toContain(
      'exchange "e": type: the file has topic, the broker has direct (say kind: "direct" in the file',
    );
    expect(why).toContain(
      'queue "a": x-delivery-limit: the file has 5, the broker has 20 (say delivery_limit: 20 in',
    );
    expect(why).toContain('x-message-ttl: the file has none, the broker has 60000');
    expect((await run('diff', BEFORE)).code).toBe(0);
    const missing = 'exchanges: [{ name: others, declare_exchange: false }, { name: ours }]';
    expect(await declareTopology(reconcilersAccess(), file(missing), signal)).toEqual({
      result: 'conflict',
      why: 'exchange "others": is not there, and the file does not declare it',
    });
    expect((await run('diff', BEFORE)).code).toBe(0);
  });

  it('the reconciler says what the broker refuses, and declares all else', async () => {
    const { vhost, management, run } = await emptyHost();
    const bad = '{ name: bad, arguments: { x-queue-type: nonsense } }';
    const text = `exchanges: [{ name: e, kind: direct, queues: [${bad}, { name: good, bindings: [k] }] }]`;
    const { exchanges } = parseTopology('file', text);
    const outcome = await declareTopology(reconcilersAccess(), { vhost, exchanges }, signal);
    expect(outcome).toMatchObject({ result: 'refused', why: expect.stringContaining('queues bad: ') });
    expect((await management.queues()).map(({ name }) => name)).toEqual(['good']);
    const { stdout } = await run('plan', text);
    expect(stdout).toMatch(/\n1 to create, 3 as the file has them\.\n$/);
    const elsewhere = declareTopology(reconcilersAccess(), { vhost: 'no/where', exchanges }, signal);
    await expect(elsewhere).rejects.toThrow('the broker has no virtual host "no/where": make it');
  });

  it('explains a conflict field by field, with the management API and without it alike', async () => {
    const { run } = await emptyHost();
    await run('apply', BEFORE);
    for (const options of [[], ['--management=none']]) {
      const { code, stdout } = await run('plan', AFTER, '--json', ...options);
      const { items } = JSON.parse(stdout) as { items: PlannedItem[] };
      expect(code).toBe(1);
      const conflicts = items.filter(({ status }) => status === 'conflict');
      expect(conflicts.map(({ declaration }) => declaration.name)).toEqual(['e', 'a']);
      const found = conflicts.flatMap(({ differences }) => differences);
      expect(Object.fromEntries(found.map(({ field, want, have }) => [field, [want, have]]))).toEqual({
        type: ['topic', 'direct'],
        'x-delivery-limit': [5, 20],
        'x-max-length': [9, undefined],
        'x-message-ttl': [undefined, 60_000],
      });
    }
    const { code, stdout } = await run('apply', AFTER);
    expect([code, stdout.endsWith('Nothing is changed.\n')]).toEqual([1, true]);
    expect((await run('diff', BEFORE)).code).toBe(0);
  });

  // Classic queues don't compare a delivery limit.
  it.each([
    ['queue_type: classic', 'queue_type: quorum', []],
    ['queue_type: classic, max_priority: 3', 'queue_type: quorum', ['x-max-priority']],
    ['delivery_limit: 5', 'queue_type: classic', ['x-delivery-limit']],
    ['arguments: { x-queue-type: classic, x-expires: 600000 }', 'queue_type: quorum', ['x-expires']],
  ])('tells a queue with %s from one with %s by AMQP alone', async (before, after, others) => {
    const { run } = await emptyHost();
    const file = (keys: string) => `exchanges: [{ name: '', queues: [{ name: a, ${keys} }] }]`;
    expect((await run('apply', file(before))).code).toBe(0);
    const found = [];
    for (const options of [[], ['--management=none']]) {
      const { stdout } = await run('plan', file(after), '--json', ...options);
      const { items } = JSON.parse(stdout) as { items: PlannedItem[] };
      found.push(items.flatMap(({ differences }) => differences));
    }
    const [byManagement = [], byAmqp = []] = found;
    expect(byAmqp.map(({ field }) => field).toSorted()).toEqual([...others, 'x-queue-type'].toSorted());
    expect(byManagement).toEqual(expect.arrayContaining(byAmqp));
    expect(byManagement.map(({ field }) => field)).toContain('x-delivery-limit');
  });

  it('plans without making anything, with the management API and without it', async () => {
    const { run, management } = await emptyHost();
    for (const options of [[], ['--management=none']]) {
      const { code, stdout } = await run('plan', TASKS, ...options);
      expect([code, stdout.includes('+ queue "tasks.llm"')]).toEqual([0, true]);
    }
    expect(await management.queues()).toEqual([]);
  });

  it('makes anew what is in conflict only when it is told to, and only what is empty', async () => {
    const { run, connect } = await emptyHost();
    await run('apply', BEFORE);
    const model = await connect();
    const channel = await model.createConfirmChannel();
    channel.sendToQueue('a', Buffer.from('kept'));
    await channel.waitForConfirms();
    await waitForMessages(channel, 'a', 1);
    const refused = await run('apply', AFTER, '--delete');
    expect([refused.code, refused.stderr]).toEqual([
      1,
      'quorumbridge topology: queue "a" is not deleted: it holds 1 messages and has 0 consumers; stop its clients and empty it first\n',
    ]);
    expect((await run('diff', BEFORE)).code).toBe(0);

    await channel.purgeQueue('a');
    const done = await run('apply', AFTER, '--delete');
    expect([done.stderr, done.code]).toEqual(['', 0]);
    expect(done.stdout).toContain('- binding of "a" to exchange "e" by "old"\n');
    expect((await run('diff', AFTER)).code).toBe(0);
    await model.close();
  });

  it('never deletes what the file does not have, nor what hangs on what it makes anew', async () => {
    const { run, connect, management } = await emptyHost();
    await run('apply', BEFORE);
    const model = await connect();
    const channel = await model.createChannel();
    await declareForeign(channel);
    const blocked = await run('apply', AFTER, '--delete');
    expect(blocked.code).toBe(1);
    expect(blocked.stderr).toContain(
      'nothing is changed: binding of "theirs" to exchange "e" by "k" would be lost',
    );
    const harmless = await run('apply', BEFORE, '--delete');
    expect([harmless.stderr, harmless.code]).toEqual(['', 0]);
    expect((await management.queues()).map(({ name }) => name).sort()).toEqual(['a', 'e.dlq', 'theirs']);
    const diff = await run('diff', BEFORE);
    expect(diff.code).toBe(1);
    expect(diff.stdout).toContain('- queue "theirs", classic: only on the broker\n');
    // Declared without a type, it is described and taken as the same.
    const exported = await run('export', undefined);
    expect((await run('apply', exported.stdout)).code).toBe(0);
    expect((await run('diff', exported.stdout)).code).toBe(0);
    await model.close();
  });

  it('works as it is declared: priorities, delivery limit, dead letters and retries', async () => {
    const { run, connect } = await emptyHost();
    await run('apply', WORKING);
    const model = await connect();
    const channel = await model.createConfirmChannel();
    for (const priority of [1, 9, 5])
      channel.publish('work', 'first', Buffer.from(String(priority)), { priority });
    await channel.waitForConfirms();
    await waitForMessages(channel, 'first', 3);
    const order = [];
    for (let count = 0; count < 3; count += 1) order.push(await next(channel, 'first'));
    expect(order).toEqual(['9', '5', '1']);

    // Beyond the limit of two returns it is a dead letter.
    channel.publish('work', 'poison', Buffer.from('poison'));
    for (let delivery = 1; delivery <= 3; delivery += 1) await next(channel, 'poison', { requeue: true });
    expect(await next(channel, 'work.dlq')).toBe('poison');
    expect(await channel.get('poison')).toBe(false);

    channel.publish('', 'poison.retry.200ms', Buffer.from('later'));
    expect(await next(channel, 'poison')).toBe('later');
    await model.close();
  });

  it('says what has to be there, who may not ask, and that another broker answers', async () => {
    const { run, management } = await emptyHost();
    const theirs = 'exchanges: [{ name: theirs, declare_exchange: false }]';
    const missing = await run('apply', theirs);
    expect(missing.stdout).toContain('? exchange "theirs": is not there, and the file does not declare it\n');
    expect(missing.code).toBe(1);

    const other = createServer((_, response) => {
      response.end('{"cluster_name":"other","rabbitmq_version":"4.3.6"}');
    }).listen(0, '127.0.0.1');
    await once(other, 'listening');
    const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
    const wrong = await run('diff', theirs, `--management=${url}`);
    expect([wrong.code, wrong.stdout]).toEqual([1, '']);
    expect(wrong.stderr).toContain(`the management API at ${url} is of cluster "other", but AMQP reaches "`);
    other.close();

    await broker.management.setUser('plain', 'sekret');
    await management.permit('plain', { configure: '.*', write: '.*', read: '.*' });
    const untagged = await run('diff', theirs, { RABBITMQ_USER: 'plain', RABBITMQ_PASSWORD: 'sekret' });
    expect([untagged.code, untagged.stderr]).toEqual([
      1,
      `quorumbridge topology: the management API at ${broker.managementUrl} does not let user plain in (401): it needs the tag management or monitoring\n`,
    ]);
    const refused = await run('diff', theirs, { RABBITMQ_USER: 'plain', RABBITMQ_PASSWORD: 'sekret-2' });
    expect(refused.stderr).toContain('the login of user plain is refused: check username and password');
    expect(refused.stderr).not.toContain('sekret');
    const away = await run('diff', theirs, '--management=http://127.0.0.1:1');
    expect([away.code, away.stderr]).toEqual([
      1,
      'quorumbridge topology: the management API at http://127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1\n',
    ]);
    const alone = await run('export', undefined, '--management=none');
    expect(alone.code).toBe(2);
    expect(alone.stderr).toContain('export needs the management API');
  });
});

/** Takes the next message and gives it up, to come again or not at all. */
async function next(channel: Channel, queue: string, { requeue = false } = {}): Promise<string> {
  for (;;) {
    const message = await channel.get(queue);
    if (message === false) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      continue;
    }
    if (requeue) channel.reject(message, true);
    else channel.ack(message);
    return message.content.toString();
  }
}

interface PlannedItem {
  status: string;
  declaration: { name?: string };
  differences: { field: string; want?: unknown; have?: unknown }[];
}

async function declareForeign(channel: Channel): Promise<void> {
  await channel.assertQueue('theirs', { durable: true });
  await channel.bindQueue('theirs', 'e', 'k');
  await channel.close();
}

/** A quorum queue counts a message some time after it has confirmed it. */
async function waitForMessages(channel: Channel, queue: string, count: number): Promise<void> {
  for (;;) {
    const { messageCount } = await channel.checkQueue(queue);
    if (messageCount === count) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function runHere(args: string[], variables: Record<string, string>): Promise<Outcome> {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const before = { ...process.env };
  Object.assign(process.env, variables);
  try {
    const io = { stdin: Readable.from([]), stdout, stderr, env: {} };
    const code = await runCommandLine(args, { topology: () => import('../../cli/topology.ts') }, io);
    return { code, stdout: read(stdout), stderr: read(stderr) };
  } finally {
    for (const name of Object.keys(variables)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  }
}

function read(stream: PassThrough): string {
  const chunk = stream.read() as Buffer | null;
  return chunk === null ? '' : chunk.toString();
}
