import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { connectionGroup } from '../../../proxy/identity.ts';
import type { LedgerClient, Mode } from '../../../proxy/ledger-document.ts';
import { Ledger } from '../../../proxy/ledger.ts';
import type { ClientWho } from '../../../proxy/record.ts';
import { exchangeDeclare, queueDeclare } from '../../support/amqp-frames.ts';

const START = Date.parse('2026-11-21T14:00:00Z');
const QUEUE_DECLARE = 0x32_000a;
const EXCHANGE_DECLARE = 0x28_000a;
const TRANSIENT = queueDeclare({ name: 'tasks' });
const DURABLE = queueDeclare({ name: 'tasks', flags: 2 });

/** A ledger on a clock of its own: `at` sets it, in seconds since the start. */
function makeLedger({ mode = 'transparent', limit = 1000 }: { mode?: Mode; limit?: number } = {}): {
  ledger: Ledger;
  at: (seconds: number) => void;
} {
  let now = START;
  const ledger = new Ledger({ mode, limit, now: () => now });
  return { ledger, at: (seconds) => (now = START + seconds * 1000) };
}

function who(differing: Partial<ClientWho> = {}): ClientWho {
  return {
    user: 'nova',
    virtualHost: '/',
    product: 'py-amqp',
    version: '5.1.1',
    platform: undefined,
    connectionName: undefined,
    mechanism: 'AMQPLAIN',
    address: '10.0.0.5',
    frameMax: 131_072,
    ...differing,
  };
}

const users = (ledger: Ledger): (string | null)[] => ledger.document().clients.map(({ user }) => user);

describe('the ledger', () => {
  it('tells of a client who it is, when it came, what it did and what was rewritten for it', () => {
    const { ledger, at } = makeLedger();
    at(1);
    const client = ledger.connected(who({ connectionName: 'nova-compute', platform: 'Linux' }), '4.3.6');
    at(2);
    client.said(QUEUE_DECLARE, TRANSIENT);
    client.rewritten('queue.declare');
    client.changed('delivery-limit');
    at(3);
    client.said(QUEUE_DECLARE, TRANSIENT);
    client.rewritten('queue.declare');
    client.said(EXCHANGE_DECLARE, exchangeDeclare({ flags: 2 }));
    at(4);
    expect(ledger.document()).toEqual({
      mode: 'transparent',
      startedAt: '2026-11-21T14:00:00Z',
      broker: { version: '4.3.6' },
      evicted: 0,
      summary: {
        text: '1 of 1 clients needs the proxy; the last rewrite was at 2026-11-21T14:00:03Z',
        unneededSince: null,
        lastRewrite: '2026-11-21T14:00:03Z',
        clients: 1,
        needing: 1,
      },
      clients: [
        {
          user: 'nova',
          vhost: '/',
          connectionName: 'nova-compute',
          product: 'py-amqp',
          version: '5.1.1',
          platform: 'Linux',
          address: '10.0.0.5',
          needsProxy: true,
          connections: { now: 1, needing: 1, total: 1 },
          firstSeen: '2026-11-21T14:00:01Z',
          lastSeen: '2026-11-21T14:00:04Z',
          lastRewrite: '2026-11-21T14:00:03Z',
          rewrites: { 'queue.declare': 2 },
          changes: { 'delivery-limit': 1 },
          usages: {
            'transient-queue': {
              count: 2,
              firstSeen: '2026-11-21T14:00:02Z',
              lastSeen: '2026-11-21T14:00:03Z',
              example: "queue 'tasks' (transient)",
            },
          },
        },
      ],
    });
  });

  it('has one entry for connections of the same client, at once and one after the other', () => {
    const { ledger, at } = makeLedger();
    const [first, second] = [ledger.connected(who(), '4.0.5'), ledger.connected(who(), '4.0.5')];
    first.ended();
    at(60);
    second.ended();
    at(90);
    expect(ledger.document().clients).toMatchObject([
      {
        connections: { now: 0, total: 2 },
        firstSeen: '2026-11-21T14:00:00Z',
        lastSeen: '2026-11-21T14:01:00Z',
      },
    ]);
    ledger.connected(who(), '4.0.5');
    expect(ledger.document().clients).toMatchObject([
      { connections: { now: 1, total: 3 }, lastSeen: '2026-11-21T14:01:30Z' },
    ]);
  });

  it.each<[string, Partial<ClientWho>]>([
    ['user', { user: undefined }],
    ['virtual host', { virtualHost: '/nova' }],
    ['connection_name', { connectionName: 'other' }],
    ['product', { product: 'pika' }],
    ['version', { version: '5.2.0' }],
    ['platform', { platform: 'Java' }],
    ['address', { address: '10.0.0.6' }],
  ])('has one entry for each %s', (_what, differing) => {
    const { ledger } = makeLedger();
    ledger.connected(who(), undefined);
    ledger.connected(who(differing), undefined);
    expect(ledger.document().clients).toHaveLength(2);
  });

  it('counts usages of all clients, and a frame_max below 8192 when it was let in', () => {
    const { ledger } = makeLedger();
    ledger.connected(who({ frameMax: 4096 }), undefined).said(QUEUE_DECLARE, DURABLE);
    ledger.connected(who({ address: 'other' }), undefined).said(QUEUE_DECLARE, DURABLE);
    expect(ledger.usages).toMatchObject({
      'small-frame-max': 1,
      'durable-classic-queue': 2,
      'global-qos': 0,
    });
    expect(ledger.document().clients[1]!.usages['small-frame-max']).toMatchObject({
      example: 'frame_max 4096',
    });
  });

  it('takes the end of a connection once', () => {
    const { ledger } = makeLedger();
    const client = ledger.connected(who(), undefined);
    client.rewritten('queue.declare');
    client.ended();
    client.ended();
    client.rewritten('queue.declare');
    expect(ledger.document().clients).toMatchObject([{ connections: { now: 0, needing: 0, total: 1 } }]);
  });

  it('bounds the texts that it keeps: an example has 200 characters, of the first time', () => {
    const { ledger } = makeLedger();
    const client = ledger.connected(who(), undefined);
    client.said(QUEUE_DECLARE, queueDeclare({ name: 'n'.repeat(255) }));
    client.said(QUEUE_DECLARE, TRANSIENT);
    const { example } = ledger.document().clients[0]!.usages['transient-queue']!;
    expect(example).toHaveLength(200);
    expect(example).toMatch(/^queue 'n+…$/);
  });
});

describe('the line that says whether clients need the proxy', () => {
  it('is about the start while nothing was rewritten', () => {
    const { ledger, at } = makeLedger();
    ledger.connected(who(), '4.3.6').said(QUEUE_DECLARE, DURABLE);
    at(100);
    expect(ledger.summary()).toEqual({
      text: 'no client has needed a rewrite since 2026-11-21T14:00:00Z (the start of the proxy)',
      unneededSince: '2026-11-21T14:00:00Z',
      lastRewrite: null,
      clients: 1,
      needing: 0,
    });
  });

  it('names the need as long as a connection that something was rewritten for is open', () => {
    const { ledger, at } = makeLedger();
    const one = ledger.connected(who(), undefined);
    const other = ledger.connected(who({ user: 'other' }), undefined);
    one.rewritten('queue.declare');
    at(50);
    expect(ledger.summary().text).toBe(
      '1 of 2 clients needs the proxy; the last rewrite was at 2026-11-21T14:00:00Z',
    );
    other.ended();
    expect(ledger.summary().unneededSince).toBeNull();
    one.ended();
    at(99);
    expect(ledger.summary()).toMatchObject({
      text: 'no client has needed a rewrite since 2026-11-21T14:00:50Z; 1 of 2 clients did before',
      unneededSince: '2026-11-21T14:00:50Z',
      lastRewrite: '2026-11-21T14:00:00Z',
    });
  });

  it('is about rewrites in mode pool, as in mode transparent', () => {
    const { ledger, at } = makeLedger({ mode: 'pool' });
    const client = ledger.connected(who(), '4.0.5');
    client.said(QUEUE_DECLARE, TRANSIENT);
    expect(ledger.summary().text).toContain('no client has needed a rewrite since');
    at(5);
    client.rewritten('queue.declare');
    expect(ledger.document()).toMatchObject({
      mode: 'pool',
      summary: { text: '1 of 1 clients needs the proxy; the last rewrite was at 2026-11-21T14:00:05Z' },
    });
  });

  it('is about what RabbitMQ 4 refuses in mode observe, where nothing is rewritten', () => {
    const { ledger, at } = makeLedger({ mode: 'observe' });
    const client = ledger.connected(who(), '3.10.8');
    client.said(QUEUE_DECLARE, DURABLE);
    expect(ledger.summary().text).toBe(
      'no client has used what RabbitMQ 4 refuses since 2026-11-21T14:00:00Z (the start of the proxy)',
    );
    at(5);
    client.said(QUEUE_DECLARE, TRANSIENT);
    expect(ledger.summary()).toMatchObject({
      text: '1 of 1 clients would need the proxy on RabbitMQ 4; the last operation that it refuses was at 2026-11-21T14:00:05Z',
      needing: 1,
    });
    at(9);
    client.ended();
    expect(ledger.summary().text).toBe(
      'no client has used what RabbitMQ 4 refuses since 2026-11-21T14:00:09Z; 1 of 1 clients did before',
    );
  });

  it('is not led astray by usages in mode transparent, where only rewrites count', () => {
    const { ledger } = makeLedger();
    ledger.connected(who({ frameMax: 4096 }), undefined).said(QUEUE_DECLARE, TRANSIENT);
    expect(ledger.summary()).toMatchObject({ lastRewrite: null, needing: 0 });
  });
});

describe('the bound of the ledger', () => {
  it('forgets the client first that has been gone for the longest', () => {
    const { ledger } = makeLedger({ limit: 3 });
    const [a, b, c] = ['a', 'b', 'c'].map((user) => ledger.connected(who({ user }), undefined));
    b!.ended();
    a!.ended();
    ledger.connected(who({ user: 'd' }), undefined);
    expect(users(ledger)).toEqual(['d', 'c', 'a']);
    ledger.connected(who({ user: 'e' }), undefined);
    expect(users(ledger)).toEqual(['e', 'd', 'c']);
    expect(ledger.evicted).toBe(2);
    c!.ended();
    expect(users(ledger)).toEqual(['e', 'd', 'c']);
  });

  it('forgets the one that came first where all are connected, whose connection then still counts for the line', () => {
    const { ledger, at } = makeLedger({ limit: 2 });
    const first = ledger.connected(who({ user: 'first' }), undefined);
    first.rewritten('queue.declare');
    ledger.connected(who({ user: 'second' }), undefined);
    const third = ledger.connected(who({ user: 'third' }), undefined);
    expect(users(ledger)).toEqual(['third', 'second']);
    at(10);
    first.said(QUEUE_DECLARE, TRANSIENT);
    first.rewritten('queue.declare');
    expect(ledger.summary()).toMatchObject({
      text: '0 of 2 clients (besides 1 forgotten) need the proxy; the last rewrite was at 2026-11-21T14:00:10Z',
      unneededSince: null,
      lastRewrite: '2026-11-21T14:00:10Z',
    });
    at(20);
    first.ended();
    expect(ledger.summary()).toMatchObject({ unneededSince: '2026-11-21T14:00:20Z', needing: 0 });
    third.ended();
    expect(users(ledger)).toEqual(['second', 'third']);
  });

  it('gives a forgotten client that comes again a new entry, which the old connection does not touch', () => {
    const { ledger } = makeLedger({ limit: 1 });
    const old = ledger.connected(who(), undefined);
    ledger.connected(who({ user: 'other' }), undefined).ended();
    ledger.connected(who(), undefined);
    old.said(QUEUE_DECLARE, TRANSIENT);
    old.ended();
    expect(ledger.document().clients).toMatchObject([
      { user: 'nova', connections: { now: 1, total: 1 }, usages: {} },
    ]);
    expect(ledger.evicted).toBe(2);
  });

  it('holds whatever clients come, go and do, and the figures add up', () => {
    type Step = readonly [kind: 'come' | 'go' | 'say' | 'rewrite', which: number];
    const steps: fc.Arbitrary<Step[]> = fc.array(
      fc.tuple(fc.constantFrom('come', 'come', 'go', 'say', 'rewrite'), fc.nat(9)),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), steps, (limit, taken) => {
        const { ledger, at } = makeLedger({ limit });
        let open: { user: string; record: ReturnType<Ledger['connected']>; rewritten: boolean }[] = [];
        const come = new Set<string>();
        taken.forEach(([kind, which], index) => {
          at(index);
          const one = open[which % Math.max(1, open.length)];
          if (kind === 'come') {
            const user = `user ${which}`;
            come.add(user);
            open.push({ user, record: ledger.connected(who({ user }), undefined), rewritten: false });
          } else if (one !== undefined && kind === 'go') {
            one.record.ended();
            open = open.filter((other) => other !== one);
          } else if (one !== undefined && kind === 'say') one.record.said(QUEUE_DECLARE, TRANSIENT);
          else if (one !== undefined) {
            one.record.rewritten('queue.declare');
            one.rewritten = true;
          }
          const { clients, evicted, summary } = ledger.document();
          expect(clients.length).toBeLessThanOrEqual(limit);
          expect(clients.length + evicted).toBeGreaterThanOrEqual(come.size);
          expect(evicted === 0 || clients.length === limit).toBe(true);
          expect(summary.unneededSince === null).toBe(open.some(({ rewritten }) => rewritten));
          expect(summary.clients).toBe(clients.length);
          for (const { user, connections } of clients) {
            const mine = open.filter((other) => other.user === user);
            expect(connections.now).toBeLessThanOrEqual(mine.length);
            expect(connections.now === mine.length || evicted > 0).toBe(true);
          }
          const present = clients.map(({ connections }) => connections.now > 0);
          expect(present).toEqual([...present].sort((left, right) => Number(right) - Number(left)));
        });
        for (const { record } of open) record.ended();
        const { clients } = ledger.document();
        expect(
          clients.every(
            ({ connections }: LedgerClient) => connections.now === 0 && connections.needing === 0,
          ),
        ).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

describe("a connection's group", () => {
  it.each([
    ['nova-compute', 'nova-compute'],
    ['nova-compute:4711:0b7e6a1c-93c2-4b3c-8f0a-2f6f1f4d5e6a', 'nova-compute:*:*'],
    ['0B7E6A1C-93C2-4B3C-8F0A-2F6F1F4D5E6A', '*'],
    ['worker-0b7e6a1c93c24b3c8f0a2f6f1f4d5e6a.reply', 'worker-*.reply'],
    ['rabbitConnectionFactory#5d1e09bc:3', 'rabbitConnectionFactory#*'],
    ['worker-1', 'worker-1'],
    ['10.0.0.5:41234 -> 10.0.0.6:5672', '10.0.0.5:41234 -> 10.0.0.6:5672'],
    ['a'.repeat(33), 'a'.repeat(33)],
    ['', ''],
  ])('is the same for each start of a client: %j', (name, group) => {
    expect(connectionGroup(name)).toBe(group);
    expect(connectionGroup(group)).toBe(group);
  });

  it('puts connections that differ in that alone into one entry', () => {
    const { ledger } = makeLedger();
    for (const [pid, id] of [
      [1, '0b7e6a1c-93c2-4b3c-8f0a-2f6f1f4d5e6a'],
      [2, '11111111-93c2-4b3c-8f0a-2f6f1f4d5e6a'],
    ])
      ledger.connected(who({ connectionName: `nova-compute:${pid}:${id}` }), undefined);
    expect(ledger.document().clients).toMatchObject([
      { connectionName: 'nova-compute:*:*', connections: { now: 2, needing: 0, total: 2 } },
    ]);
  });
});
