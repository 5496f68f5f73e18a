import { describe, expect, it } from 'vitest';
import { UsageError } from '../../../common/errors.ts';
import { type MessagingConfig, loadConfig, parseMessaging } from '../../../messaging/config.ts';
import type { KeyTable } from '../../../messaging/config/keys.ts';
import { rootTable } from '../../../messaging/config/table.ts';
import { EVENTS, ODDITIES, REST, TASKS, TASKS_CONNECTION } from '../../support/messaging-files.ts';

const load = (text: string, env: Record<string, string> = {}): MessagingConfig =>
  parseMessaging('m.yaml', text, env);

function problemsOf(text: string, env: Record<string, string> = {}): string[] {
  try {
    load(text, env);
  } catch (error) {
    if (error instanceof UsageError) return error.message.split('\n');
    throw error;
  }
  return [];
}

describe('loadConfig', () => {
  it('reads the file of a task queue, keys at its top that belong into sections among them', () => {
    const { connection, publisher, consumer, enabled, warnings } = load(TASKS_CONNECTION);
    expect(connection).toEqual({
      host: 'localhost',
      port: 5672,
      username: 'tasks',
      password: 'tasks-password',
      vhost: '/',
      connectTimeoutMs: 30_000,
      heartbeatSeconds: 10,
      maxReconnectAttempts: 10,
      reconnectDelayMs: 5000,
      tls: undefined,
    });
    expect(publisher).toEqual({ confirm: true, publishTimeoutMs: 10_000 });
    expect(consumer).toEqual({ prefetchCount: 10, prefetchGlobal: false });
    expect({ enabled, warnings }).toEqual({ enabled: true, warnings: [] });
  });

  it('reads the file of event handlers, and warns of two queues that get the same dead letters', () => {
    const { connection, exchanges, warnings } = load(EVENTS);
    expect(connection).toMatchObject({ host: 'localhost', port: 5672, username: 'guest', vhost: '/' });
    const [{ name, kind, queues } = { name: '', kind: '', queues: [] }] = exchanges;
    expect([name, kind]).toEqual(['auth', 'topic']);
    expect(queues.map(({ name, prefetch, deliveryLimit }) => [name, prefetch, deliveryLimit])).toEqual([
      ['user.password.updated', 8, 5],
      ['user.created', 8, 5],
    ]);
    const bounds = { messageTtlMs: 604_800_000, maxLength: 100_000, declareQueue: true };
    expect(queues.map(({ deadLetters }) => deadLetters)).toEqual([
      { exchange: 'auth.dlx', queue: 'auth.dlq', declareExchange: true, ...bounds },
      { exchange: 'auth.dlx', queue: 'user.created.dlq', declareExchange: false, ...bounds },
    ]);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain(
      '"auth.dlq" and "user.created.dlq" each get all dead letters of "auth.dlx"',
    );
  });

  it('reads the other examples without a word', () => {
    expect(load(TASKS).warnings).toEqual([]);
    expect(load(ODDITIES).warnings).toEqual([]);
    expect(load(REST).warnings).toEqual([
      'm.yaml:3:10: this has no effect: TLS is off, for the url is not amqps:// and enabled is not true',
    ]);
  });

  it('has an example of every key', () => {
    const keysOf = (table: KeyTable): string[] =>
      Object.values(table).flatMap(({ name, aliases = [], kind }) => [
        [name, ...aliases].join('|'),
        ...(kind.below === undefined ? [] : keysOf(kind.below)),
      ]);
    const examples = [TASKS, EVENTS, ODDITIES, REST].join('\n');
    const missing = keysOf(rootTable).filter(
      (key) => !new RegExp(`^[ {#,-]*(?:.*[ {,])?(?:${key}):`, 'm').test(examples),
    );
    expect(missing).toEqual([]);
  });

  it('reads an empty file as nothing but defaults', () => {
    const { connection, exchanges, publisher } = load('');
    expect(connection).toMatchObject({ host: 'localhost', port: 5672, username: 'guest', password: 'guest' });
    expect(exchanges).toEqual([]);
    expect(publisher.confirm).toBe(true);
    expect(load('rabbitmq:\n')).toEqual(load(''));
  });

  it('lets the environment override the file, an empty variable apart', () => {
    const env = {
      RABBITMQ_HOST: '10.0.0.7',
      RABBITMQ_PORT: '5673',
      RABBITMQ_USER: 'other',
      RABBITMQ_PASSWORD: 'from-env',
      RABBITMQ_VHOST: 'v',
      RABBITMQ_PREFETCH_COUNT: '3',
      RABBITMQ_PUBLISHER_CONFIRM: 'false',
    };
    const { connection, publisher, consumer } = load(EVENTS, env);
    expect(connection).toMatchObject({
      host: '10.0.0.7',
      port: 5673,
      username: 'other',
      password: 'from-env',
      vhost: 'v',
    });
    expect([publisher.confirm, consumer.prefetchCount]).toEqual([false, 3]);
    expect(load('host: h', { RABBITMQ_HOST: '' }).connection.host).toBe('h');
  });

  it('takes the url apart, percent-encoding and all', () => {
    const { connection } = load('url: amqps://us%40er:p%2Fw@[::1]:5679/a%2Fb\ntls: { ca_file: /ca.pem }');
    expect(connection).toMatchObject({
      host: '::1',
      port: 5679,
      username: 'us@er',
      password: 'p/w',
      vhost: 'a/b',
      tls: { caFile: '/ca.pem', skipVerify: false },
    });
    expect(load('url: amqps://h').connection.port).toBe(5671);
    expect(load('url: amqp://u:p@ss@ü.example').connection).toMatchObject({
      host: 'ü.example',
      password: 'p@ss',
      vhost: '/',
    });
  });

  it.each([
    ['host: ${H:-a:b/c}', {}, 'a:b/c'],
    ['host: "x${H}y${H}"', { H: '1' }, 'x1y1'],
    ['host: $${H}', {}, '${H}'],
    ['host: ${H}', { H: '${I}' }, '${I}'],
    ['host: ${H:-}z', {}, 'z'],
  ])('expands %s with %j to %s', (text, env, host) => {
    expect(load(text, env).connection.host).toBe(host);
  });

  it('leaves other parts of a file that has rabbitmq: alone, but for a topology beside it', () => {
    expect(load('couchdb: { url: http://x }\nrabbitmq: { host: h }').connection.host).toBe('h');
    expect(problemsOf('rabbitmq: { host: h }\nexchanges: []')).toEqual([
      'm.yaml:2:1: key "exchanges" belongs below rabbitmq: indent it',
    ]);
  });

  it('is loud about certificates that are not checked and about TLS keys without TLS', () => {
    const open = load('tls:\n  enabled: true\n  skip_verify: true');
    expect(open.warnings).toHaveLength(1);
    expect(open.warnings[0]).toMatch(/^m\.yaml:3:3: skip_verify is on: .* can read the password/);
    expect(open.connection.port).toBe(5671);
    expect(load('tls: { root_ca: /ca.pem }').warnings[0]).toContain('this has no effect: TLS is off');
    expect(load('consumer: { prefetch_global: true }').warnings[0]).toContain(
      'prefetch_global has no effect',
    );
  });

  it('tells everything that is wrong by itself at once, in the order of the file', () => {
    const text = `rabbitmq:
  url: amqp://user:sekret@h/%zz
  port: abc
  hots: x
  password: \${MISSING}
  heartbeat: 30
  publisher: [confirm]
  consumer: { prefetch_count: 0 }
  exchanges:
    - kind: topik
      queues:
        - name: a
          retry: [1m, 5s]
          bindings: [b, { x: 1 }]
          delivery_limit: never
        - nope
`;
    expect(problemsOf(text, { RABBITMQ_PORT: 'x' })).toEqual([
      'environment variable RABBITMQ_PORT: "x" is not valid: expected a whole number from 1 to 65535',
      'm.yaml:2:8: key "url": its value is not valid: expected amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…; a % has to be written as %25',
      'm.yaml:3:9: key "port": "abc" is not valid: expected a whole number from 1 to 65535',
      'm.yaml:4:3: unknown key "hots": did you mean "host"?',
      'm.yaml:5:13: key "password": its value is not valid: the environment variable MISSING is not set: set it, or give a default as in ${MISSING:-default}',
      'm.yaml:6:14: key "heartbeat": "30" is not valid: expected a duration of whole seconds up to 65535s, such as 10s, or 0 for no heartbeats',
      'm.yaml:7:14: expected a mapping with keys such as confirm, publish_timeout',
      'm.yaml:8:31: key "prefetch_count": "0" is not valid: expected a whole number from 1 to 65535',
      'm.yaml:10:7: key "name" is missing: The exchange\'s name; empty for the default exchange, whose queues are reached by their names alone.',
      'm.yaml:10:13: key "kind": "topik" is not valid: expected one of direct, topic, fanout, headers',
      'm.yaml:13:18: expected a ladder: each delay longer than the one before it',
      'm.yaml:14:27: unknown key "x": known keys are routing_key, arguments',
      'm.yaml:15:27: key "delivery_limit": "never" is not valid: expected a whole number from 1 to 1000000, or none',
      'm.yaml:16:11: expected a mapping with keys such as name, bindings, declare',
    ]);
  });

  it.each([
    ['url: amqp://h\nhost: x', '2:1: key "host" says what url says already: give one of them'],
    [
      'url: amqps://h\ntls: { enabled: false }',
      '2:8: key "enabled" is false, but the url says amqps: change one of them',
    ],
    [
      'host: "${A:-${B:-b}}"',
      '1:7: key "host": "${A:-${B:-b}}" is not valid: the default of ${A} has a reference itself: give it as a text',
    ],
    [
      'url: amqp://h/a#b',
      '1:6: key "url": its value is not valid: expected amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…; a # has to be written as %23',
    ],
    [
      'url: amqp://u:a?b@h',
      '1:6: key "url": its value is not valid: expected amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…; special characters of the password have to be percent-encoded',
    ],
    [
      'url: amqp://h:0',
      '1:6: key "url": its value is not valid: expected amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…; the port is a number from 1 to 65535',
    ],
    ['tls: { cert_file: a }', '1:8: a client certificate is cert_file and key_file: give both'],
    ['tls: { ca_file: a, root_ca: b }', '1:20: key "root_ca" says the same as "ca_file": give it once'],
    [
      'prefetch_count: 1\nconsumer: { prefetch_count: 2 }',
      '1:1: key "prefetch_count" is given twice: give it once',
    ],
  ])('refuses %j', (text, problem) => {
    expect(problemsOf(text)).toEqual([`m.yaml:${problem}`]);
  });

  const exchange = (...lines: string[]): string =>
    ['exchanges:', '  - name: e', ...lines.map((line) => `    ${line}`)].join('\n');

  it.each([
    [
      ['queues: [{ name: a, dlq_name: d }]'],
      'queue "a" has no dlx_name, through which dead letters reach its dlq_name',
    ],
    [
      ['queues: [{ name: a, declare_dlx: true }]'],
      'queue "a" has no dlx_name: give it here or for its exchange',
    ],
    [
      ['dlx_name: d', 'queues: [{ name: a, declare_dlx: false, declare_dlq: true }]'],
      'queue "a" has no dlq_name',
    ],
    [['dlx_name: d', 'queues: [{ name: a }]'], 'nothing is bound to "d", and dead letters would be lost'],
    [
      ['dlx_name: e', 'dlq_name: d', 'queues: [{ name: a }]'],
      'exchange "e" takes dead letters: it has to be a durable fanout',
    ],
    [
      ['queues: [{ name: a }, { name: a }]'],
      '"a" is a queue twice: choose another name, or say declare: false',
    ],
    [
      ['queues: [{ name: a, retry: 1m }, { name: a.retry.1m }]'],
      '"a.retry.1m" is a queue and a queue for retries',
    ],
    [['dlx_name: d', 'dlq_name: a', 'queues: [{ name: a }]'], '"a" is a queue and a queue for dead letters'],
    [
      ['dlx_name: d', 'dlq_name: q', 'queues: [{ name: a }, { name: b, dlq_max_length: 5 }]'],
      'dead-letter queue "q" has other bounds for another queue',
    ],
    [
      ['queues: [{ name: a, arguments: {}, max_length: 4 }]'],
      'key "max_length" says what arguments says already',
    ],
    [['queues: [{ name: amq.a }]'], 'queue "amq.a": names that begin with amq. are RabbitMQ\'s own'],
    [['- name: amq.e'], 'exchange "amq.e": names that begin with amq. are RabbitMQ\'s own'],
    [['- name: e'], 'exchange "e" is there twice: put its queues together'],
    [['- name: ""', '  queues: [{ name: a, bindings: [b] }]'], 'the default exchange takes no bindings'],
  ])('refuses what does not fit together: %j', (lines, problem) => {
    const text = exchange(...lines).replaceAll(/^ {4}(- | {2})/gm, '  $1');
    const problems = problemsOf(text);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(problem);
    expect(problems[0]).toMatch(/^m\.yaml:\d+:\d+: /);
  });

  it('shows no password and no value of a variable in errors', () => {
    const text = 'url: amqp://u:sekret-1@h:port\npassword: "${P}${"\nhost: [a]\nport: ${P}';
    const message = problemsOf(text, { P: 'sekret-2', RABBITMQ_PASSWORD: 'sekret-3' }).join('\n');
    expect(message).not.toContain('sekret');
    expect(message).toContain('m.yaml:4:7: key "port": "${P}" is not valid');
  });

  it.each(['password: {sekret', 'password: *sekret', 'password: !sekret x', 'password: "a" sekret'])(
    'quotes nothing of what is no YAML: %j',
    (text) => {
      const message = problemsOf(`rabbitmq:\n  ${text}`).join('\n');
      expect(message).toMatch(/^m\.yaml:2:\d+: \w/);
      expect(message).not.toContain('sekret');
    },
  );

  it('names a file that cannot be read', () => {
    expect(() => loadConfig('/nowhere/m.yaml', {})).toThrow('file /nowhere/m.yaml cannot be read: ENOENT');
  });
});
