// Half an answer of a broker is no backup: what it lists has to be in what it exports.
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../../common/kube/types.ts';
import { exportDefinitions } from '../../../reconciler/broker/definitions.ts';
import type { ListedQueue, Management } from '../../../reconciler/broker/management.ts';

const { signal } = new AbortController();

const QUEUE: ListedQueue = {
  vhost: '/',
  name: 'orders',
  type: 'classic',
  durable: true,
  autoDelete: false,
  exclusive: false,
  arguments: { 'x-max-length': 5 },
  messages: 0,
  persistent: 0,
};

const EXCHANGE = {
  vhost: '/',
  name: 'inside',
  type: 'topic',
  durable: true,
  auto_delete: false,
  internal: true,
  arguments: {},
};
const BINDING = {
  source: 'inside',
  vhost: '/',
  destination: 'orders',
  destination_type: 'queue',
  routing_key: 'k',
  arguments: {},
};
const LISTS: Readonly<Record<string, JsonObject[]>> = {
  users: [{ name: 'alice', password_hash: 'h', tags: ['administrator'] }],
  vhosts: [
    { name: '/', description: 'the first', tags: ['x'], default_queue_type: 'undefined', messages: 4 },
  ],
  permissions: [{ vhost: '/', user: 'alice', configure: '.*', write: '.*', read: '.*' }],
  policies: [{ vhost: '/', name: 'p', pattern: '', definition: { expires: 5 }, priority: 0 }],
  exchanges: [
    { ...EXCHANGE, message_stats: {}, user_who_performed_action: 'alice' },
    { vhost: '/', name: 'amq.topic', type: 'topic' },
    { vhost: '/', name: '', type: 'direct' },
  ],
  bindings: [
    { ...BINDING, properties_key: 'k' },
    { ...BINDING, source: '' },
    { ...BINDING, destination: 'exclusive' },
  ],
};

/** All that the broker has, as it exports it. */
const WHOLE: JsonObject = {
  rabbitmq_version: '3.10.8',
  users: LISTS['users']!,
  vhosts: [{ name: '/' }],
  permissions: LISTS['permissions']!,
  policies: LISTS['policies']!,
  queues: [
    { vhost: '/', name: 'orders', durable: true, auto_delete: false, arguments: { 'x-max-length': 5 } },
  ],
  exchanges: [EXCHANGE],
  bindings: [BINDING],
};

/** A broker that answers so; `lists` are what it has at its first listing, where that is something else. */
function answering(definitions: JsonObject, lists: typeof LISTS = {}): Management {
  const asked = new Set<string>();
  return {
    overview: () => Promise.resolve({ version: '3.10.8' }),
    nodes: () => Promise.resolve({ known: 1, running: 1 }),
    whoami: () => Promise.resolve({ name: 'alice', isAdministrator: true }),
    definitions: () => Promise.resolve(definitions),
    importDefinitions: () => Promise.resolve(undefined),
    queues: () => Promise.resolve([QUEUE, { ...QUEUE, name: 'exclusive', exclusive: true }]),
    list: (path) => {
      const isFirst = !asked.has(path);
      asked.add(path);
      return Promise.resolve((isFirst ? lists[path] : undefined) ?? LISTS[path]!);
    },
  };
}

describe('exported definitions', () => {
  it('are whole as the broker gives them, but for what it says of virtual hosts', async () => {
    const { text, counts, brokerVersion } = await exportDefinitions(answering(WHOLE), signal);
    expect(JSON.parse(text)).toEqual({
      ...WHOLE,
      vhosts: [{ name: '/', metadata: { description: 'the first', tags: ['x'] } }],
      topic_permissions: [],
      parameters: [],
      global_parameters: [],
    });
    expect(counts).toMatchObject({ users: 1, queues: 1, exchanges: 1, bindings: 1, parameters: 0 });
    expect(brokerVersion).toBe('3.10.8');
  });

  it('get queues, exchanges and bindings that the broker lists and leaves out', async () => {
    const { text: whole } = await exportDefinitions(answering(WHOLE), signal);
    const half = { ...WHOLE, queues: [], exchanges: [], bindings: [] };
    const { text } = await exportDefinitions(answering(half), signal);
    expect(JSON.parse(text)).toEqual(JSON.parse(whole));
  });

  it.each([
    ['users', 'alice of users, which the broker has'],
    ['vhosts', '/ of vhosts, which the broker has'],
    ['permissions', 'alice of permissions of virtual host /, which the broker has'],
    ['policies', 'p of policies of virtual host /, which the broker has'],
  ])('are refused without %s that the broker lists', async (kind, what) => {
    await expect(exportDefinitions(answering({ ...WHOLE, [kind]: [] }), signal)).rejects.toThrow(
      `the exported definitions lack ${what}: they are exported again later`,
    );
  });

  it.each([
    ['rabbitmq_version', { ...WHOLE, rabbitmq_version: undefined }],
    ['a list of queues', { ...WHOLE, queues: {} }],
  ])('are refused without %s', async (what, definitions) => {
    await expect(exportDefinitions(answering(definitions), signal)).rejects.toThrow(
      `the exported definitions lack ${what}: they are exported again later`,
    );
  });

  it('need not have what came while they were exported', async () => {
    const { counts } = await exportDefinitions(
      answering({ ...WHOLE, users: [], permissions: [] }, { users: [], permissions: [] }),
      signal,
    );
    expect(counts).toMatchObject({ users: 0, permissions: 0, queues: 1 });
  });
});
