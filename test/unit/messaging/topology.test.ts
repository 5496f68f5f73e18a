import { describe, expect, it } from 'vitest';
import type { Version } from '../../../common/version.ts';
import { parseMessaging } from '../../../messaging/config.ts';
import type { Arguments } from '../../../messaging/config/kinds.ts';
import {
  type Declaration,
  declarations,
  queueForm,
  retryQueues,
} from '../../../messaging/topology/declarations.ts';
import { exportTopology } from '../../../messaging/topology/export.ts';
import { yamlOf } from '../../../messaging/topology/file.ts';
import { parseInequivalent } from '../../../messaging/topology/inequivalent.ts';
import type { Observed, ObservedExchange, ObservedQueue } from '../../../messaging/topology/observed.ts';
import { compare, extrasOf } from '../../../messaging/topology/plan.ts';
import { planText } from '../../../messaging/topology/text.ts';
import { EVENTS, ODDITIES, REST, TASKS } from '../../support/messaging-files.ts';

const V310: Version = { major: 3, minor: 10, patch: 8 };
const V40: Version = { major: 4, minor: 0, patch: 5 };
const V43: Version = { major: 4, minor: 3, patch: 6 };
const VERSIONS = [V310, V40, V43];

const load = (text: string) => parseMessaging('m.yaml', text, {});
const declared = (text: string, version = V43): readonly Declaration[] => declarations(load(text), version);

/** The virtual host in which these have been declared. */
function hostWith(items: readonly Declaration[], version: Version): Observed {
  const exchanges = items.flatMap((one): ObservedExchange[] => {
    const { kind } = one;
    return kind === 'exchange' ? [{ ...one, autoDelete: false, internal: false }] : [];
  });
  const topic: ObservedExchange = {
    name: 'amq.topic',
    type: 'topic',
    durable: true,
    autoDelete: false,
    internal: false,
    arguments: {},
  };
  const queues = items.flatMap((one): ObservedQueue[] => (one.kind === 'queue' ? [queueLike(one)] : []));
  return {
    version,
    exchanges: new Map([topic, ...exchanges].map((one) => [one.name, one])),
    queues: new Map(queues.map((one) => [one.name, one])),
    bindings: items.flatMap((one) => (one.kind === 'binding' ? [one] : [])),
    exchangeBindings: [],
  };
}

function queueLike({ name, arguments: table }: { name: string; arguments: Arguments }): ObservedQueue {
  const type = (table['x-queue-type'] ?? 'classic') as string;
  return { name, type, durable: true, autoDelete: false, exclusive: false, arguments: table };
}

const argumentsOf = (items: readonly Declaration[], name: string): Arguments | undefined =>
  items.find((one) => one.kind === 'queue' && one.name === name)?.arguments;

describe('declarations', () => {
  it('come in an order in which nothing refers to what comes later, and none comes twice', () => {
    const order = declared(EVENTS).map((one) =>
      one.kind === 'binding'
        ? `${one.source} > ${one.destination} (${one.routingKey})`
        : `${one.kind} ${one.name}`,
    );
    expect(order).toEqual([
      'exchange auth',
      'exchange auth.dlx',
      'queue auth.dlq',
      'queue user.created.dlq',
      'auth.dlx > auth.dlq ()',
      'auth.dlx > user.created.dlq ()',
      'queue user.password.updated',
      'queue user.created',
      'auth > user.password.updated (password.changed)',
      'auth > user.created (user.created)',
    ]);
    expect(declared(EVENTS)[1]).toMatchObject({ type: 'fanout', durable: true, declare: true });
  });

  it('make quorum queues that keep dead letters until they have arrived', () => {
    expect(argumentsOf(declared(EVENTS), 'user.created')).toEqual({
      'x-queue-type': 'quorum',
      'x-delivery-limit': 5,
      'x-overflow': 'reject-publish',
      'x-dead-letter-exchange': 'auth.dlx',
      'x-dead-letter-strategy': 'at-least-once',
    });
    expect(argumentsOf(declared(EVENTS), 'auth.dlq')).toEqual({
      'x-queue-type': 'quorum',
      'x-delivery-limit': 2_147_483_647,
      'x-message-ttl': 604_800_000,
      'x-max-length': 100_000,
    });
  });

  it.each([
    [V310, 10, 'classic'],
    [V40, 10, 'classic'],
    [V43, 10, 'quorum'],
    [V43, 31, 'quorum'],
    [V43, 32, 'classic'],
    [V310, undefined, 'quorum'],
  ] as const)('on %j priorities up to %s need a %s queue', (version, maxPriority, type) => {
    const text = `exchanges: [{ name: '', queues: [{ name: a, ${maxPriority === undefined ? '' : `max_priority: ${maxPriority}, `}delivery_limit: 3 }] }]`;
    const queue = load(text).exchanges[0]!.queues[0]!;
    const isClassic = type === 'classic';
    expect(queueForm(queue, version)).toEqual({ type, limitedBy: isClassic ? 'consumer' : 'broker' });
    expect(argumentsOf(declared(text, version), 'a')).toEqual(
      isClassic
        ? { 'x-queue-type': 'classic', 'x-max-priority': maxPriority }
        : { 'x-queue-type': 'quorum', 'x-delivery-limit': 3 },
    );
  });

  it('leave the type to a file that names one, and all arguments to one that gives them', () => {
    const queue = (keys: string) => `exchanges: [{ name: '', queues: [{ name: a, ${keys} }] }]`;
    expect(argumentsOf(declared(queue('max_priority: 10, queue_type: quorum'), V310), 'a')).toEqual({
      'x-queue-type': 'quorum',
      'x-delivery-limit': 20,
    });
    expect(argumentsOf(declared(queue('queue_type: classic, max_length: 5')), 'a')).toEqual({
      'x-queue-type': 'classic',
      'x-max-length': 5,
      'x-overflow': 'reject-publish',
    });
    expect(argumentsOf(declared(queue('arguments: { x-expires: 5 }')), 'a')).toEqual({ 'x-expires': 5 });
  });

  it('have a queue for each delay of a ladder, from which messages come back', () => {
    const queue = load(TASKS).exchanges[0]!.queues[1]!;
    expect(retryQueues(queue)).toEqual([
      { name: 'tasks.llm.retry.5s', delayMs: 5000 },
      { name: 'tasks.llm.retry.1m', delayMs: 60_000 },
    ]);
    expect(argumentsOf(declared(TASKS), 'tasks.llm.retry.5s')).toEqual({
      'x-queue-type': 'quorum',
      'x-message-ttl': 5000,
      'x-max-length': 10_000,
      'x-overflow': 'reject-publish',
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'tasks.llm',
      'x-dead-letter-strategy': 'at-least-once',
    });
    expect(argumentsOf(declared(TASKS), 'tasks.background.retry.1m')).toMatchObject({
      'x-message-ttl': 60_000,
    });
  });

  it('name what others declare without declaring it', () => {
    const items = declared(
      'exchanges: [{ name: e, declare_exchange: false, queues: [{ name: a, declare: false, bindings: [k], dlx_name: d, declare_dlx: false }] }]',
    );
    expect(items.map((one) => (one.kind === 'binding' ? one.kind : [one.name, one.declare]))).toEqual([
      ['e', false],
      ['d', false],
      ['a', false],
      'binding',
    ]);
  });
});

describe('a plan', () => {
  it('has everything to create on an empty broker, and nothing once it is there', () => {
    const items = declared(TASKS);
    const empty = compare(items, hostWith([], V43));
    expect(new Set(empty.map(({ status }) => status))).toEqual(new Set(['create']));
    const full = hostWith(items, V43);
    expect(new Set(compare(items, full).map(({ status }) => status))).toEqual(new Set(['same']));
    expect(extrasOf(items, full)).toEqual({ exchanges: [], queues: [], bindings: [] });
  });

  it('tells each field that differs, and what to do', () => {
    const old = `exchanges: [{ name: e, kind: direct, queues: [{ name: a, bindings: [k], message_ttl: 1m, max_length: 7 }] }]`;
    const now = `exchanges: [{ name: e, kind: topic, queues: [{ name: a, bindings: [k], message_ttl: 2m, max_priority: 5 }] }]`;
    const items = compare(declared(now, V40), hostWith(declared(old, V40), V40));
    expect(items.map(({ declaration, status }) => [declaration.kind, status])).toEqual([
      ['exchange', 'conflict'],
      ['queue', 'conflict'],
      ['binding', 'same'],
    ]);
    const anew = 'or let apply --delete make the queue anew once it is empty and nobody consumes';
    expect(items[0]!.differences).toEqual([
      {
        field: 'type',
        want: 'topic',
        have: 'direct',
        wayOut: 'say kind: "direct" in the file, or let apply --delete make the exchange anew',
      },
    ]);
    expect(items[1]!.differences).toEqual([
      {
        field: 'x-queue-type',
        want: 'classic',
        have: 'quorum',
        wayOut: `say queue_type: quorum in the file, ${anew}`,
      },
      {
        field: 'x-max-priority',
        want: 5,
        have: undefined,
        wayOut: `take max_priority out of the file, ${anew}`,
      },
      {
        field: 'x-message-ttl',
        want: 120_000,
        have: 60_000,
        wayOut: `say message_ttl: 1m in the file, ${anew}`,
      },
      {
        field: 'x-delivery-limit',
        want: undefined,
        have: 20,
        wayOut: `say delivery_limit: 20 in the file, ${anew}`,
      },
      { field: 'x-max-length', want: undefined, have: 7, wayOut: `say max_length: 7 in the file, ${anew}` },
      {
        field: 'x-overflow',
        want: undefined,
        have: 'reject-publish',
        wayOut: `give its arguments in the file as the broker has them, ${anew}`,
      },
    ]);
    expect(planText(items)).toContain('0 to create, 1 as the file has them, 2 in conflict.');
  });

  it('knows ways out for queues that keep dead letters', () => {
    const items = declared(EVENTS);
    const plain = { name: 'auth.dlq', arguments: { 'x-queue-type': 'classic' } };
    const host = hostWith(items, V43);
    const queues = new Map([...host.queues, [plain.name, queueLike(plain)]]);
    const [conflict] = compare(items, { ...host, queues }).filter(({ status }) => status === 'conflict');
    expect(conflict!.differences.map(({ field, wayOut }) => [field, wayOut.split(',')[0]])).toEqual([
      ['x-queue-type', 'say declare_dlq: false in the file'],
      ['x-delivery-limit', 'say declare_dlq: false in the file'],
      ['x-message-ttl', 'say dlq_message_ttl: none in the file'],
      ['x-max-length', 'say dlq_max_length: none in the file'],
    ]);
  });

  it('misses what others have to declare, and does not look at how they did', () => {
    const text =
      'exchanges: [{ name: e, declare_exchange: false, queues: [{ name: a, declare: false, bindings: [k] }] }]';
    const items = declared(text);
    expect(compare(items, hostWith([], V43)).map(({ status }) => status)).toEqual([
      'missing',
      'missing',
      'create',
    ]);
    const other = declared(
      'exchanges: [{ name: e, kind: direct, queues: [{ name: a, max_length: 3, bindings: [k] }] }]',
    );
    expect(compare(items, hostWith(other, V43)).map(({ status }) => status)).toEqual([
      'same',
      'same',
      'same',
    ]);
  });

  it('finds what only the broker has, but for what is its own or its clients', () => {
    const host = hostWith(declared(TASKS), V43);
    const passing = { ...queueLike({ name: 'mine', arguments: {} }), exclusive: true };
    const extras = extrasOf(declared(EVENTS), {
      ...host,
      queues: new Map([
        ['mine', passing],
        ['old', queueLike({ name: 'old', arguments: {} })],
      ]),
      bindings: [
        { kind: 'binding', source: 'auth', destination: 'old', routingKey: '', arguments: {} },
        { kind: 'binding', source: 'auth', destination: 'mine', routingKey: '', arguments: {} },
      ],
    });
    expect(extras.queues.map(({ name }) => name)).toEqual(['old']);
    expect(extras.bindings.map(({ destination }) => destination)).toEqual(['old']);
    expect(extras.exchanges.map(({ name }) => name)).toEqual(['tasks', 'events', 'notices', 'tasks.dlx']);
  });
});

describe('an export', () => {
  const connection = load('').connection;
  const cases = VERSIONS.flatMap((version) =>
    [TASKS, EVENTS, ODDITIES, REST].map((text) => ({ version, text })),
  );

  it.each(cases)('declares exactly what is there: case %#', ({ version, text }) => {
    const host = hostWith(declared(text, version), version);
    const exported = exportTopology(host);
    expect(exported.leftOut).toEqual([]);
    const items = declared(yamlOf(exported, connection), version);
    expect(new Set(compare(items, host).map(({ status }) => status))).toEqual(new Set(['same']));
    expect(extrasOf(items, host)).toEqual({ exchanges: [], queues: [], bindings: [] });
  });

  it('has the words of the file where it can, and no password', () => {
    const yaml = yamlOf(exportTopology(hostWith(declared(TASKS), V43)), {
      ...connection,
      password: 'sekret',
    });
    expect(yaml).toContain(
      '# RabbitMQ at localhost:5672, virtual host /. The password is not here: set RABBITMQ_PASSWORD.',
    );
    expect(yaml).toMatch(
      /name: tasks\.debate\n +message_ttl: 10m\n +dlx_name: tasks\.dlx\n +dlq_name: tasks\.dlq\n/,
    );
    expect(yaml).toMatch(/name: tasks\.llm\n(?: .*\n)*? +retry:\n +- 5s\n +- 1m\n/);
    expect(yaml).not.toMatch(/arguments|sekret/);
  });

  it('says which limits no broker knows', () => {
    const yamlOn = (version: Version) =>
      yamlOf(exportTopology(hostWith(declared(REST, version), version)), connection);
    const nor = (queue: string) => `# Nor the delivery_limit of a classic queue: say it for "${queue}".\n`;
    expect(yamlOn(V40)).toContain(
      `# No broker knows prefetch, nor the max_priority of quorum queues: say them where a queue has its own.\n${nor('rest.classic')}${nor('rest.urgent')}rabbitmq:`,
    );
    expect(yamlOn(V43)).not.toContain(nor('rest.urgent'));
  });

  it.each([
    [{}, 'queue_type: classic'],
    [{ 'x-queue-type': 'quorum' }, 'arguments:'],
    [{ 'x-queue-type': 'quorum', 'x-delivery-limit': -1 }, 'arguments:'],
    [{ 'x-queue-type': 'quorum', 'x-delivery-limit': 20, 'x-max-length': 0 }, 'arguments:'],
    [{ 'x-queue-type': 'quorum', 'x-dead-letter-exchange': 'nowhere' }, 'arguments:'],
    [{ 'x-message-ttl': '60000' }, 'arguments:'],
    [{ 'x-queue-type': 'classic', 'x-max-priority': 10, 'x-expires': 5 }, 'arguments:'],
  ] as const)('of a queue with %j has %s', (table, words) => {
    const queue = queueLike({ name: 'a', arguments: table });
    const host = { ...hostWith([], V43), queues: new Map([['a', queue]]) };
    const yaml = yamlOf(exportTopology(host), connection);
    expect(yaml).toContain(words);
    expect(compare(declared(yaml), host).map(({ status }) => status)).toEqual(['same']);
  });

  it('says what it leaves out', () => {
    const host = hostWith(declared(TASKS), V43);
    const exchanges = new Map(host.exchanges);
    exchanges.set('gone', { ...exchanges.get('events')!, name: 'gone', autoDelete: true });
    const queues = new Map([['q', { ...queueLike({ name: 'q', arguments: {} }), durable: false }]]);
    const exchangeBindings = [
      { kind: 'binding', source: 'events', destination: 'tasks', routingKey: '', arguments: {} },
    ] as const;
    const exported = exportTopology({ ...host, exchanges, queues, exchangeBindings, bindings: [] });
    expect(exported.leftOut).toEqual([
      'exchange "gone", which is auto-delete',
      'queue "q", which is not durable',
      'the binding of exchange "tasks" to exchange "events"',
    ]);
    expect(yamlOf(exported, connection)).toContain('# Left out: queue "q", which is not durable.\n');
  });
});

describe('the text of a 406', () => {
  const said = (end: string) =>
    `Operation failed: QueueDeclare; 406 (PRECONDITION-FAILED) with message "PRECONDITION_FAILED - inequivalent arg ${end}"`;
  it.each([
    [
      "'x-delivery-limit' for queue 'm' in vhost '/': received '6' but current is '5'",
      'x-delivery-limit',
      6,
      5,
    ],
    [
      "'x-max-length' for queue 'm' in vhost '/': received the value '4' of type 'byte' but current is none",
      'x-max-length',
      4,
      undefined,
    ],
    [
      "'x-message-ttl' for queue 'it's' in vhost '/': received none but current is the value '1000' of type 'short'",
      'x-message-ttl',
      undefined,
      1000,
    ],
    [
      "'x-queue-type' for queue 'm' in vhost '/': received 'classic' but current is 'quorum'",
      'x-queue-type',
      'classic',
      'quorum',
    ],
    [
      "'type' for exchange 'e' in vhost '/': received 'fanout' but current is 'topic'",
      'type',
      'fanout',
      'topic',
    ],
    [
      "'durable' for exchange 'e' in vhost '/': received 'false' but current is 'true'",
      'durable',
      false,
      true,
    ],
    [
      "'alternate-exchange' for exchange 'e' in vhost '/': received the value 'x' of type 'longstr' but current is none",
      'alternate-exchange',
      'x',
      undefined,
    ],
  ])('is read: %s', (end, field, received, current) => {
    expect(parseInequivalent(said(end))).toEqual({ field, received, current });
  });

  it('is told from other refusals', () => {
    expect(
      parseInequivalent("PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q' in vhost '/'"),
    ).toBeUndefined();
  });
});
