// No secret leaves the proxy but to the broker: all output of a run, in each mode, plain and with TLS on both sides, is
// searched for every password and token that was used, right or wrong, for what messages say, for private keys and for what
// TLS connections are encrypted with. /debug/heap is not looked at: it is all of the memory.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Broker, startBroker } from '../support/broker.ts';
import { CredentialsFolder } from '../support/credentials.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { encodeTable, entry, longstr, method, queueDeclare, shortstr } from '../support/amqp-frames.ts';
import { basicPublish } from '../support/amqp-methods.ts';
import { generateCerts } from '../support/generated-certs.ts';
import { Child } from '../support/processes.ts';
import { RawClient, type RawOptions } from '../support/raw-client.ts';
import { formsOf, secretsIn, secretsOfKey, secretsOfTls } from '../support/secrets.ts';

const ALL = { configure: '.*', write: '.*', read: '.*' };
const ADMIN_PATHS = [
  '/livez',
  '/readyz',
  '/metrics',
  '/clients',
  '/stats',
  '/connections',
  '/pool',
  '/faults',
  '/config/effective',
  '/openapi.json',
  '/',
  '/no-such-path',
];

/** What else is asked of the admin port. */
const ADMIN_ACTIONS = [
  ['POST', '/faults/delay?milliseconds=1&seconds=1&user=nova', 200],
  ['POST', '/faults/sever?id=4711&side=client', 404],
  ['DELETE', '/faults', 200],
  ['POST', '/vhosts/%2F/pause?seconds=1', 200],
  ['POST', '/vhosts/%2F/resume', 200],
  ['DELETE', '/connections/4711', 404],
  ['POST', '/reload', 200],
] as const;

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

/** Passwords of the broker's, where the proxy has credentials of its own, by the user of both. */
const BROKER_SECRETS = { nova: random(), neutron: random(), guest: random() };

/** What a run is like. With `credentials` the proxy lets clients in by credentials of its own. */
interface World {
  readonly mode: string;
  readonly tls: boolean;
  readonly credentials: boolean;
}

const WORLDS: World[] = [
  { mode: 'transparent', tls: false, credentials: false },
  { mode: 'pool', tls: false, credentials: false },
  { mode: 'observe', tls: false, credentials: false },
  { mode: 'transparent', tls: true, credentials: true },
  { mode: 'pool', tls: true, credentials: true },
  { mode: 'observe', tls: true, credentials: false },
];

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

it('a key is found by any line of its file and by its numbers, and TLS by what is in a log of its keys', () => {
  const { privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const key = secretsOfKey('key', privateKey);
  expect(Object.keys(key)).toEqual(
    ['key, line 1', 'key, line 2', 'key, line 3', 'key, d'].filter((one) => one in key),
  );
  for (const secret of Object.keys(key)) {
    const written = secret === 'key, d' ? Buffer.from(key[secret]!).toString('hex') : String(key[secret]);
    expect(secretsIn(`of ${written}!`, key).map((found) => found.secret)).toContain(secret);
  }
  const tls = secretsOfTls(
    `# SSL/TLS secrets log file\nEXPORTER_SECRET ${'a1'.repeat(32)} ${'b2'.repeat(48)}\n`,
  );
  expect(secretsIn(`"${'B2'.repeat(48)}"`, tls)).toEqual([{ secret: 'TLS 1, EXPORTER_SECRET', form: 'HEX' }]);
});

await describeBrokers(['4.3'], (version) => {
  let broker: Broker;
  let folder: string;
  /** Texts of certificates and keys, by the names of their files in the folder. */
  let files: Record<string, string>;
  /** By what the proxy is to know the passwords. */
  let credentials: CredentialsFolder;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'quorumbridge-redaction-'));
    files = await generateCerts(folder);
    credentials = await CredentialsFolder.make();
    await writeFile(join(folder, 'token'), SECRETS["the admin port's token"]);
    broker = await startBroker(version, {
      files,
      conf: `
listeners.ssl.1 = 127.0.0.1:@AMQPS@
ssl_options.cacertfile = @FILES@/ca.crt
ssl_options.certfile = @FILES@/server.crt
ssl_options.keyfile = @FILES@/server.key`,
    });
    const users = [
      ['nova', PLAIN_RIGHT],
      ['neutron', AMQPLAIN_RIGHT],
      ...Object.entries(BROKER_SECRETS).map(([user, password]) => [`${user}-broker`, password] as const),
    ] as const;
    for (const [user, password] of users) {
      await broker.management.setUser(user, password);
      await broker.management.permit(user, ALL);
    }
  });
  afterAll(async () => {
    await broker?.stop();
    await credentials?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  /** The options of a proxy, besides those that every run has. */
  async function optionsOf({ tls, credentials: own }: World): Promise<string[]> {
    if (!tls) return [`--backend=127.0.0.1:${broker.port}`, '--listen=127.0.0.1:0'];
    const options = [
      `--backend=127.0.0.1:${broker.amqpsPort}`,
      '--backend-tls',
      `--backend-tls-ca=${folder}/ca.crt`,
      '--backend-tls-server-name=localhost',
      '--listen=amqps://127.0.0.1:0',
      `--tls-cert=${folder}/server.crt`,
      `--tls-key=${folder}/server.key`,
      `--tls-ca=${folder}/ca.crt`,
      '--tls-client-auth=request',
    ];
    if (!own) return options;
    const file = await credentials.write(
      { user: 'nova', password: PLAIN_RIGHT, broker: ['nova-broker', BROKER_SECRETS.nova] },
      { user: 'neutron', password: AMQPLAIN_RIGHT, broker: ['neutron-broker', BROKER_SECRETS.neutron] },
      {
        user: 'cinder',
        certificate: { 'common-name': 'guest' },
        broker: ['guest-broker', BROKER_SECRETS.guest],
      },
    );
    return [...options, `--credentials=${file}`];
  }

  describe.each(WORLDS)('in mode $mode, with TLS: $tls, with credentials: $credentials', (world) => {
    const { mode, tls, credentials: own } = world;
    /** All that the proxy has put out: stdout, stderr and what the admin port answered. */
    let output = '';
    const lines: string[] = [];
    const refusals: string[] = [];
    let exit: number | null = null;
    let secrets: Record<string, string | Uint8Array> = SECRETS;
    /** Connections that were let in. */
    const USERS = ['nova', 'neutron', 'nova', ...(own ? ['cinder'] : [])];

    /** How a client reaches the proxy. */
    const way = (more: ConnectionOptions = {}): RawOptions =>
      tls ? { tls: { ca: files['ca.crt'], servername: 'localhost', ...more } } : {};

    /** A client that isn't let in: what it hears. */
    async function refused(port: number, options: RawOptions): Promise<void> {
      const said = await RawClient.connect(port, { ...way(), ...options }).then(
        () => 'let in',
        (error: Error) => error.message,
      );
      refusals.push(said);
    }

    async function use(port: number, options: RawOptions): Promise<RawClient> {
      const client = await RawClient.connect(port, { ...way(), ...options });
      await client.channels(1);
      const durable = { name: `${mode}-${tls}-${options.user}`, flags: 2 };
      expect(await client.ask(queueDeclare(durable))).toContain('queue.declare-ok');
      client.send(basicPublish(1, durable.name, SECRETS['in a body']));
      return client;
    }

    beforeAll(async () => {
      const keys = join(folder, `keys-${mode}-${tls}`);
      const proxy = new Child(
        'proxy',
        process.execPath,
        [
          '--no-warnings',
          `--tls-keylog=${keys}`,
          'cli/quorumbridge.mjs',
          'proxy',
          ...(await optionsOf(world)),
          '--admin-listen=127.0.0.1:0',
          `--mode=${mode}`,
          '--log-level=trace',
          '--audit-log=stdout',
          `--admin-token-file=${folder}/token`,
          '--fault-injection',
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
      const certificate = way({ cert: files['client.crt'], key: files['client.key'] });
      const external = { user: 'cinder', sasl: { mechanism: 'EXTERNAL', response: Buffer.alloc(0) } };
      const third = own ? await use(port, { ...certificate, ...external }) : undefined;
      const asked = [
        ...ADMIN_PATHS.map((path) => ['GET', path] as const),
        ...ADMIN_ACTIONS.map(([verb, path]) => [verb, path] as const),
      ];
      for (const [verb, path] of asked) {
        for (const token of [SECRETS["the admin port's token"], SECRETS['no token of the admin port']]) {
          const headers = { authorization: `Bearer ${token}` };
          const response = await fetch(`http://${listening.admin}${path}`, { method: verb, headers });
          output += `${verb} ${path} ${response.status}\n${await response.text()}\n`;
        }
      }
      const authorization = `Bearer ${SECRETS["the admin port's token"]}`;
      const events = await fetch(`http://${listening.admin}/events`, { headers: { authorization } });
      const reader = events.body!.pipeThrough(new TextDecoderStream()).getReader();
      output += `GET /events ${events.status}\n${(await reader.read()).value}\n`;
      await reader.cancel();
      const secret = sized(SECRETS['a new one (connection.update-secret)']);
      first.send(method(0, 10, 70, Buffer.concat([secret, shortstr('expires')])));
      await first.hear(0);
      second.send(method(0, 10, 11, sized(SECRETS['in properties that are no table'])));
      await second.hear(0);
      await first[Symbol.asyncDispose]();
      await second[Symbol.asyncDispose]();
      await third?.[Symbol.asyncDispose]();
      exit = (await proxy.stop(30_000)).code;
      output += lines.join('\n');
      if (!tls) return;
      secrets = {
        ...SECRETS,
        ...BROKER_SECRETS,
        ...secretsOfKey("the proxy's key", files['server.key']!),
        ...secretsOfKey("a client's key", files['client.key']!),
        ...secretsOfTls(await readFile(keys, 'utf8')),
      };
    });

    it('none is in the log, the audit log, the metrics, the ledger or what the admin port tells', () => {
      expect(secretsIn(output, secrets)).toEqual([]);
    });

    it('the run was one: clients were let in and refused, and all of that was told', () => {
      expect(exit).toBe(0);
      expect(refusals).toHaveLength(7);
      expect(refusals).not.toContain('let in');
      expect(ADMIN_PATHS.filter((path) => !output.includes(`GET ${path} 200\n`))).toEqual(
        mode === 'pool' ? ['/no-such-path'] : ['/pool', '/no-such-path'],
      );
      expect(output).toContain('/connections 401\n');
      expect(output).toContain('GET /events 200\nevent: state\n');
      const answers = ADMIN_ACTIONS.map(([verb, path, status]) => `${verb} ${path} ${status}\n`);
      expect(answers.filter((answer) => !output.includes(answer))).toEqual([]);
      // TLS 1.3 has five for a connection: more than clients have are of connections to the broker.
      const known = Object.keys(secrets).filter((name) => name.startsWith('TLS'));
      expect(known.length > 5 * (USERS.length + 7)).toBe(tls);
      for (const text of ['"user":"nova"', '"level":"debug"']) expect(output).toContain(text);
    });

    it('every line is JSON, the audit log’s among those of the log, and tells who came and who was refused', () => {
      const audit = lines
        .map((line) => JSON.parse(line) as Record<string, unknown>)
        .filter(({ name }) => name === 'audit');
      const count = (event: string): number => audit.filter((line) => line['event'] === event).length;
      expect([count('opened'), count('closed')]).toEqual([USERS.length, USERS.length]);
      expect(count('refused')).toBe(7);
      const users = audit.filter(({ event }) => event === 'opened').map(({ user }) => user);
      expect(users).toEqual(USERS);
    });

    it('one number goes through all lines of a connection', () => {
      const parsed = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
      const numbers = new Map<unknown, Set<unknown>>();
      for (const { client, connection } of parsed.filter((line) => line['client'] !== undefined)) {
        const known = numbers.get(client) ?? new Set();
        numbers.set(client, known.add(connection));
      }
      expect(numbers.size).toBe(USERS.length + 7);
      expect([...numbers.values()].filter((known) => known.size !== 1 || known.has(undefined))).toEqual([]);
    });
  });
});
