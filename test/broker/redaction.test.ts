// No secret leaves the proxy but to the broker: all output of a run, in each mode, is searched for every password and token
// that was used, right or wrong, and for what messages say. /debug/heap is not looked at: it is all of the memory.
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { encodeTable, entry, longstr, method, queueDeclare, shortstr } from '../support/amqp-frames.ts';
import { basicPublish } from '../support/amqp-methods.ts';
import { Child } from '../support/processes.ts';
import { RawClient, type RawOptions } from '../support/raw-client.ts';
import { formsOf, secretsIn } from '../support/secrets.ts';

const ALL = { configure: '.*', write: '.*', read: '.*' };
const ADMIN_PATHS = [
  '/livez',
  '/readyz',
  '/metrics',
  '/clients',
  '/stats',
  '/connections',
  '/pool',
  '/openapi.json',
  '/',
  '/no-such-path',
];

/** A password of 24 random octets, so that what is found is no accident. */
const random = (): string => randomBytes(24).toString('base64url');

const PLAIN_RIGHT = random();
const AMQPLAIN_RIGHT = random();
const SECRETS = {
  'right, PLAIN': PLAIN_RIGHT,
  'right, AMQPLAIN': AMQPLAIN_RIGHT,
  'wrong, PLAIN': random(),
  'wrong, PLAIN, hung up on': random(),
  'wrong, AMQPLAIN': random(),
  'of a user that is not': random(),
  'right, but for the virtual host': AMQPLAIN_RIGHT,
  'in place of a login': random(),
  'by a mechanism that is not': random(),
  'in properties that are no table': random(),
  'a new one (connection.update-secret)': random(),
  'in a body': random(),
  "the admin port's token": random(),
  'no token of the admin port': random(),
};

function amqplain(user: string, password: string): RawOptions {
  const table = encodeTable([entry('LOGIN', longstr(user)), entry('PASSWORD', longstr(password))]);
  return { user, sasl: { mechanism: 'AMQPLAIN', response: table.subarray(4) } };
}

function sized(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  return Buffer.concat([length, Buffer.from(text)]);
}

it.each(formsOf('s3cr+t/"ü'))('a secret is found as %s', (form, written) => {
  const found = secretsIn(`{"x":"${written}"}`, { it: 's3cr+t/"ü' });
  expect(found).toContainEqual({ secret: 'it', form });
});

it('a secret is found within a longer text in base64', () => {
  for (const before of ['', 'a', 'ab', '\0nova\0']) {
    const text = Buffer.from(`${before}geheim-4711 and more`).toString('base64');
    expect(secretsIn(text, { it: 'geheim-4711' })).not.toEqual([]);
  }
  expect(secretsIn('nothing', { it: 'geheim-4711' })).toEqual([]);
});

await describeBrokers(['4.3'], (version) => {
  let broker: Broker;

  beforeAll(async () => {
    broker = await startBroker(version);
    for (const [user, password] of [
      ['nova', PLAIN_RIGHT],
      ['neutron', AMQPLAIN_RIGHT],
    ] as const) {
      await broker.management.setUser(user, password);
      await broker.management.permit(user, ALL);
    }
  });
  afterAll(() => broker?.stop());

  describe.each(['transparent', 'pool', 'observe'])('in mode %s', (mode) => {
    /** All that the proxy has put out: stdout, stderr and what the admin port answered. */
    let output = '';
    const lines: string[] = [];
    const refusals: string[] = [];
    let exit: number | null = null;

    /** A client that isn't let in: what it hears. */
    async function refused(port: number, options: RawOptions): Promise<void> {
      const said = await RawClient.connect(port, options).then(
        () => 'let in',
        (error: Error) => error.message,
      );
      refusals.push(said);
    }

    async function use(port: number, options: RawOptions): Promise<RawClient> {
      const client = await RawClient.connect(port, options);
      await client.channels(1);
      const durable = { name: `${mode}-${options.user}`, flags: 2 };
      expect(await client.ask(queueDeclare(durable))).toContain('queue.declare-ok');
      client.send(basicPublish(1, durable.name, SECRETS['in a body']));
      return client;
    }

    beforeAll(async () => {
      const folder = await mkdtemp(join(tmpdir(), 'quorumbridge-redaction-'));
      await writeFile(join(folder, 'token'), SECRETS["the admin port's token"]);
      const proxy = new Child(
        'proxy',
        process.execPath,
        [
          'cli/quorumbridge.mjs',
          'proxy',
          `--backend=127.0.0.1:${broker.port}`,
          '--listen=127.0.0.1:0',
          '--admin-listen=127.0.0.1:0',
          `--mode=${mode}`,
          '--log-level=trace',
          '--audit-log=stdout',
          `--admin-token-file=${folder}/token`,
          '--stats-interval=1',
          '--drain-timeout=1',
        ],
        { onLine: (line) => lines.push(line) },
      );
      const listening = await proxy.waitFor('listening', 30_000, (heard) => {
        const found = heard.find((line) => line.includes('proxy is listening'));
        return found === undefined ? undefined : (JSON.parse(found) as { listen: string[]; admin: string });
      });
      const port = Number(listening.listen[0]!.split(':').at(-1));
      const first = await use(port, { user: 'nova', password: PLAIN_RIGHT, name: 'first' });
      const second = await use(port, amqplain('neutron', AMQPLAIN_RIGHT));
      await refused(port, { user: 'nova', password: SECRETS['wrong, PLAIN'] });
      await refused(port, amqplain('neutron', SECRETS['wrong, AMQPLAIN']));
      await refused(port, { user: 'nobody', password: SECRETS['of a user that is not'] });
      await refused(port, { ...amqplain('neutron', AMQPLAIN_RIGHT), virtualHost: 'no-such' });
      const silent: RawOptions[] = [
        { user: 'nova', password: SECRETS['wrong, PLAIN, hung up on'], failureClose: false },
        { sasl: { mechanism: 'PLAIN', response: Buffer.from(SECRETS['in place of a login']) } },
        { sasl: { mechanism: 'NOSUCH', response: Buffer.from(SECRETS['by a mechanism that is not']) } },
      ];
      await Promise.all(silent.map((options) => refused(port, options)));
      const rest = await use(port, { user: 'nova', password: PLAIN_RIGHT });
      rest.reset();
      for (const path of ADMIN_PATHS) {
        for (const token of [SECRETS["the admin port's token"], SECRETS['no token of the admin port']]) {
          const headers = { authorization: `Bearer ${token}` };
          const response = await fetch(`http://${listening.admin}${path}`, { headers });
          output += `${path} ${response.status}\n${await response.text()}\n`;
        }
      }
      const secret = sized(SECRETS['a new one (connection.update-secret)']);
      first.send(method(0, 10, 70, Buffer.concat([secret, shortstr('expires')])));
      await first.hear(0);
      second.send(method(0, 10, 11, sized(SECRETS['in properties that are no table'])));
      await second.hear(0);
      await first[Symbol.asyncDispose]();
      await second[Symbol.asyncDispose]();
      exit = (await proxy.stop(30_000)).code;
      output += lines.join('\n');
      await rm(folder, { recursive: true });
    });

    it('none is in the log, the audit log, the metrics, the ledger or what the admin port tells', () => {
      expect(secretsIn(output, SECRETS)).toEqual([]);
    });

    it('the run was one: clients were let in and refused, and all of that was told', () => {
      expect(exit).toBe(0);
      expect(refusals).toHaveLength(7);
      expect(refusals).not.toContain('let in');
      expect(ADMIN_PATHS.filter((path) => !output.includes(`${path} 200\n`))).toEqual(
        mode === 'pool' ? ['/no-such-path'] : ['/pool', '/no-such-path'],
      );
      expect(output).toContain('/connections 401\n');
      for (const text of ['"user":"nova"', '"level":"debug"']) expect(output).toContain(text);
    });

    it('every line is JSON, the audit log’s among those of the log, and tells who came and who was refused', () => {
      const audit = lines
        .map((line) => JSON.parse(line) as Record<string, unknown>)
        .filter(({ name }) => name === 'audit');
      const count = (event: string): number => audit.filter((line) => line['event'] === event).length;
      expect([count('opened'), count('closed')]).toEqual([3, 3]);
      expect(count('refused')).toBe(7);
      const users = audit.filter(({ event }) => event === 'opened').map(({ user }) => user);
      expect(users).toEqual(['nova', 'neutron', 'nova']);
    });

    it('one number goes through all lines of a connection', () => {
      const parsed = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
      const numbers = new Map<unknown, Set<unknown>>();
      for (const { client, connection } of parsed.filter((line) => line['client'] !== undefined)) {
        const known = numbers.get(client) ?? new Set();
        numbers.set(client, known.add(connection));
      }
      expect(numbers.size).toBe(10);
      expect([...numbers.values()].filter((known) => known.size !== 1 || known.has(undefined))).toEqual([]);
    });
  });
});
