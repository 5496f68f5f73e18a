import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { afterAll, describe, expect, it } from 'vitest';
import { LIBRARIES, LIBRARY_FIXES, libraryOf } from '../../../cli/report/fixes.ts';
import { judge, type Report } from '../../../cli/report/judge.ts';
import { duration } from '../../../cli/report/limits.ts';
import { asMarkdown } from '../../../cli/report/markdown.ts';
import { asText } from '../../../cli/report/text.ts';
import { runCommandLine } from '../../../cli/run.ts';
import type { LedgerDocument } from '../../../proxy/ledger-document.ts';
import { USAGES } from '../../../proxy/usage.ts';
import { type Target, TARGETS, verdictOn } from '../../../proxy/verdicts.ts';
import { entry, exchangeDeclare, longstr, queueDeclare } from '../../support/amqp-frames.ts';
import { ledgerDocument, type ToldClient } from '../../support/ledgers.ts';

const NOW = Date.parse('2026-11-24T15:00:00Z');
const DURABLE = 2;
const QUORUM = entry('x-queue-type', longstr('quorum'));
const LIMIT = entry('x-delivery-limit', { tag: 'I', value: 5 });

const oslo: ToldClient = {
  product: 'py-amqp',
  version: '5.1.1',
  connectionName: 'nova-compute:7:0b7e6a1c-93c2-4b3c-8f0a-2f6f1f4d5e6a',
  says: [
    queueDeclare({ name: `reply_${'a'.repeat(32)}` }),
    queueDeclare({ name: 'compute' }),
    exchangeDeclare({ name: 'openstack' }),
  ],
};
const durable: ToldClient = {
  product: 'pika',
  user: 'billing',
  says: [queueDeclare({ name: 'bills', flags: DURABLE })],
};
const ready: ToldClient = {
  product: 'amqplib',
  version: '2.3.1',
  user: 'shop',
  says: [queueDeclare({ name: 'orders', flags: DURABLE, entries: [QUORUM, LIMIT] })],
};

function reportOn(ledgers: readonly LedgerDocument[], target: Target = '4.3', since?: number): Report {
  const sources = ledgers.map((ledger, index) => ({ name: `proxy ${index}`, ledger }));
  return judge(sources, { target, now: NOW, since });
}

function reportOf(clients: readonly ToldClient[], target?: Target, since?: number): Report {
  return reportOn([ledgerDocument({ clients })], target, since);
}

interface Outcome {
  code: number;
  out: string;
  err: string;
}

async function run(args: readonly string[], stdin = ''): Promise<Outcome> {
  const written = { out: '', err: '' };
  const sink = (name: 'out' | 'err') =>
    new Writable({
      write(chunk, _encoding, done) {
        written[name] += String(chunk);
        done();
      },
    });
  const io = { stdin: Readable.from([stdin]), stdout: sink('out'), stderr: sink('err'), env: {} };
  const loaders = { report: () => import('../../../cli/report.ts') };
  const code = await runCommandLine(['report', ...args], loaders, io);
  return { code, ...written };
}

const folder = mkdtempSync(join(tmpdir(), 'qb-report-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function fileOf(name: string, content: unknown): string {
  const file = join(folder, name);
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

/** Runs `use` with a server of loopback that answers as given. */
async function served<T>(listener: RequestListener, use: (address: string) => Promise<T>): Promise<T> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    return await use(`127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

describe('the verdict on a client', () => {
  it('is the worst of what it does, and the worst clients come first', () => {
    const { summary, clients } = reportOf([ready, durable, oslo]);
    expect(summary).toEqual({ clients: 3, breaks: 1, changes: 1, fine: 1 });
    expect(clients.map(({ user, effect }) => [user, effect])).toEqual([
      ['guest', 'breaks'],
      ['billing', 'changes'],
      ['shop', 'fine'],
    ]);
    expect(clients[0]!.findings.map(({ usage, effect, count }) => [usage, effect, count])).toEqual([
      ['transient-queue', 'breaks', 2],
      ['transient-exchange', 'changes', 1],
    ]);
  });

  it('depends on the target', () => {
    const effects = TARGETS.map((target) => reportOf([oslo], target).clients[0]!.effect);
    expect(effects).toEqual(['changes', 'changes', 'changes', 'breaks']);
    const [finding] = reportOf([oslo]).clients[0]!.findings;
    expect(finding).toMatchObject({ what: verdictOn('transient-queue', '4.3').what, source: 'measured' });
  });

  it('comes with the fix, also in the words of the library', () => {
    const [finding] = reportOf([oslo]).clients[0]!.findings;
    expect(finding!.fix).toContain('durable with x-queue-type=quorum');
    expect(finding!.libraryFix).toContain(
      'rabbit_transient_quorum_queue=true; 14.0.3 does not have the latter',
    );
    expect(reportOf([{ ...oslo, product: 'unknown' }]).clients[0]!.findings[0]!.libraryFix).toBeNull();
  });

  it('is on the client wherever it came from: addresses and proxies are put together', () => {
    const one = ledgerDocument({ clients: [oslo, { ...oslo, address: '10.0.0.6', at: 60, leaves: true }] });
    const other = ledgerDocument({ clients: [{ ...oslo, at: 3600 }, durable] });
    const { clients, summary } = reportOn([one, other]);
    expect(summary).toMatchObject({ clients: 2 });
    expect(clients[0]).toMatchObject({
      connectionName: 'nova-compute:*:*',
      addresses: ['10.0.0.5', '10.0.0.6'],
      connections: { now: 2, total: 3 },
      firstSeen: '2026-11-21T14:00:00Z',
      lastSeen: '2026-11-21T15:00:00Z',
      findings: [{ count: 6, lastSeen: '2026-11-21T15:00:00Z' }, { count: 3 }],
    });
  });

  it('does not put together what is not the same client', () => {
    const others: ToldClient[] = [
      { ...oslo, user: 'x' },
      { ...oslo, virtualHost: 'x' },
      { ...oslo, version: 'x' },
      { ...oslo, connectionName: 'x' },
      { ...oslo, platform: 'x' },
    ];
    expect(reportOf([oslo, ...others]).summary.clients).toBe(6);
  });

  it.each(['transparent', 'pool'] as const)(
    'on a proxy that rewrites (mode %s) is a break on every version where its declares were rewritten',
    (mode) => {
      const ledger = ledgerDocument({
        mode,
        clients: [{ ...durable, told: (record) => record.rewritten('queue.declare') }, ready],
      });
      for (const target of TARGETS) {
        const { clients } = reportOn([ledger], target);
        expect(clients.map(({ effect }) => effect)).toEqual(['breaks', 'fine']);
        expect(clients[0]!.findings[0]).toMatchObject({
          usage: 'declared-through-proxy',
          count: 1,
          effect: 'breaks',
        });
      }
      const negotiated = ledgerDocument({
        mode,
        clients: [{ ...ready, told: (record) => record.rewritten('connection.tune-ok') }],
      });
      expect(reportOn([negotiated]).summary.breaks).toBe(0);
    },
  );

  it('leaves out with --since what was seen before, unless a connection that needs the proxy is still open', () => {
    const gone = { ...oslo, leaves: true };
    const hours = (NOW - Date.parse('2026-11-21T14:00:00Z')) / 3_600_000;
    expect(reportOf([gone], '4.3', (hours + 1) * 3600).clients[0]!.effect).toBe('breaks');
    expect(reportOf([gone], '4.3', (hours - 1) * 3600).clients[0]!.findings).toEqual([]);
    expect(reportOf([oslo], '4.3', 60).clients[0]!.effect).toBe('breaks');
    const rewritten = {
      ...gone,
      told: (record: { rewritten(method: 'queue.declare'): void }) => record.rewritten('queue.declare'),
    };
    const ledger = ledgerDocument({ mode: 'transparent', clients: [rewritten] });
    expect(reportOn([ledger], '4.3', 60).clients[0]!.effect).toBe('fine');
  });
});

describe('what the report cannot know', () => {
  it('is how long it was watched for, who was forgotten, and who was never seen', () => {
    const forgetful = ledgerDocument({ limit: 1, clients: [oslo, durable, ready] });
    const { limits } = reportOn([forgetful, ledgerDocument({ startedAt: '2026-11-24T14:59:30Z' })]);
    expect(limits).toEqual([
      'proxy 0 has watched for 3 days: clients that did not connect since 2026-11-21T14:00:00Z are not here.',
      'proxy 0 has forgotten 2 clients to make room: raise its --client-records.',
      'proxy 1 has watched for less than a minute: clients that did not connect since 2026-11-24T14:59:30Z are not here.',
      'proxy 1 has seen no client at all.',
      expect.stringMatching(/^A proxy does not see policies/),
    ]);
  });

  it('is what nobody measured, on versions of which that is so', () => {
    const said = TARGETS.map((target) =>
      reportOf([], target).limits.some((limit) => limit.includes('was not measured')),
    );
    expect(said).toEqual([false, true, true, false]);
  });

  it.each([
    [0, 'less than a minute'],
    [60, '1 minute'],
    [3599, '59 minutes'],
    [7200, '2 hours'],
    [86_400, '1 day'],
    [864_000, '10 days'],
  ])('has a time of %i s as %s', (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });
});

describe('a library', () => {
  it.each<[string | null, string | null, string | null, string[], string | undefined]>([
    ['py-amqp', null, 'nova-compute:*:*', [], 'oslo.messaging'],
    ['py-amqp', null, null, [`queue 'reply_${'0'.repeat(32)}' (transient)`], 'oslo.messaging'],
    ['py-amqp', null, null, [`queue 'compute_fanout_${'f'.repeat(32)}' (transient)`], 'oslo.messaging'],
    ['py-amqp', null, null, ["queue 'celery@host.celery.pidbox' (transient)"], 'Celery'],
    ['py-amqp', null, null, ["queue 'reply_1' (transient)"], 'kombu (py-amqp)'],
    ['Pika Python Client Library', 'Python 3.11', null, [], 'pika'],
    ['amqplib', 'Node.JS v22', null, [], 'amqplib'],
    ['AMQPLib', 'PHP', null, [], 'php-amqplib'],
    ['rabbitmq-client', 'node.js-v22', null, [], 'rabbitmq-client'],
    ['RabbitMQ', 'Java', null, [], 'Java client'],
    ['RabbitMQ', '.NET', null, [], undefined],
    ['rabbitmq-c', 'linux', null, [], 'rabbitmq-c'],
    ['AMQP 0.9.1 Client', 'golang', null, [], 'Go client'],
    ['constructor', null, null, [], undefined],
    [null, null, null, [], undefined],
  ])(
    'is known by what a client says: %j on %j named %j with %j',
    (product, platform, connectionName, examples, library) => {
      expect(libraryOf({ product, platform, connectionName }, examples)).toBe(library);
    },
  );

  it.each(LIBRARIES)('%s has fixes in its own words', (library) => {
    const fixes = Object.entries(LIBRARY_FIXES[library]);
    expect(fixes.length).toBeGreaterThan(2);
    for (const [, text] of fixes) expect(text).toMatch(/\S{3}/);
  });

  it('has a fix for a queue that 4.3 refuses, whichever it is', () => {
    expect(LIBRARIES.filter((library) => LIBRARY_FIXES[library]['transient-queue'] === undefined)).toEqual(
      [],
    );
  });
});

describe('the report as text', () => {
  it('says when nobody was seen', () => {
    const text = asText(reportOf([]));
    expect(text).toContain('\nNo client was seen, so nothing is known.\n');
    expect(text).toContain('proxy 0 has seen no client at all.');
  });

  it('lists five addresses and counts the rest', () => {
    const clients = Array.from({ length: 8 }, (_, index) => ({ ...oslo, address: `10.0.0.${index}` }));
    expect(asText(reportOf(clients))).toContain('10.0.0.4 and 3 more addresses; 8 connected now, 8 in all');
  });
});

describe('the report as Markdown', () => {
  it('has a table for each client that does something, the worst first', () => {
    const lines = asMarkdown(reportOf([ready, durable, oslo])).split('\n');
    expect(lines.slice(0, 5)).toEqual([
      '# What breaks on RabbitMQ 4.3 without the proxy',
      '',
      '**3 clients: 1 will break, 1 will change in meaning, 1 fine.**',
      '',
      '- Seen by proxy 0: mode observe in front of RabbitMQ 3.10.8, since 2026-11-21T14:00:00Z',
    ]);
    expect(lines.filter((line) => line.startsWith('## '))).toEqual([
      '## Will break: py-amqp 5.1.1, oslo.messaging, user guest, virtual host /, named nova-compute:\\*:\\*',
      '## Changes in meaning: pika, user billing, virtual host /',
      '## Fine: amqplib 2.3.1, user shop, virtual host /',
      '## What this report cannot know',
    ]);
    expect(lines.filter((line) => line.startsWith('|')).map((line) => line.split(' | ').slice(0, 3))).toEqual(
      [
        ['| effect', 'what it does', 'seen'],
        ['|---|---|---|---|---|'],
        [
          '| breaks',
          '`transient-queue`: declares a queue that is neither durable nor exclusive',
          `2×, last 2026-11-21T14:00:00Z: queue 'reply\\_${'a'.repeat(32)}' (transient)`,
        ],
        [
          '| changes',
          '`transient-exchange`: declares an exchange that is not durable',
          "1×, last 2026-11-21T14:00:00Z: exchange 'openstack' (topic, transient)",
        ],
        ['| effect', 'what it does', 'seen'],
        ['|---|---|---|---|---|'],
        [
          '| changes',
          '`durable-classic-queue`: declares a durable classic queue',
          "1×, last 2026-11-21T14:00:00Z: queue 'bills'",
        ],
      ],
    );
    expect(lines).toContain('Nothing that RabbitMQ 4 refuses or takes otherwise.');
  });
});

describe('a client with a malicious name', () => {
  const names = '\u001b[2J|<img src=x>\n# `x` [a](b) @all \u202e*_~';
  const report = reportOf([
    {
      ...oslo,
      user: names,
      virtualHost: names,
      product: names,
      version: names,
      connectionName: names,
      says: [queueDeclare({ name: names })],
    },
  ]);

  it('does not reach the terminal: no control character is printed', () => {
    // oxlint-disable-next-line no-control-regex -- they are what is looked for
    expect(asText(report)).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
    expect(asText(report).split('\n')).toHaveLength(
      asText(reportOf([{ ...durable, says: oslo.says!.slice(0, 1) }])).split('\n').length,
    );
  });

  it('is neither Markdown nor HTML in a ticket', () => {
    const markdown = asMarkdown(report);
    expect(markdown).not.toMatch(/<img|[^\\]`x|[^\\]\[a\]|@all|[^\\]\*_/);
    const rows = markdown.split('\n').filter((line) => line.startsWith('| breaks'));
    expect(rows).toHaveLength(1);
    expect(rows[0]!.replaceAll(/\\./g, '').split('|')).toHaveLength(7);
  });
});

describe('quorumbridge report', () => {
  const breaking = fileOf('breaking.json', ledgerDocument({ clients: [oslo, durable] }));
  const changing = fileOf('changing.json', ledgerDocument({ clients: [durable, ready] }));

  it('ends with 1 when something will break on the target, and with 0 when nothing does', async () => {
    expect(await run(['--target=4.3', `--from=${breaking}`])).toMatchObject({ code: 1, err: '' });
    expect(await run(['--target=4.2', `--from=${breaking}`])).toMatchObject({ code: 0, err: '' });
    expect(await run(['--target=4.3', `--from=${changing}`])).toMatchObject({ code: 0, err: '' });
    expect(await run(['--target=4.3', `--from=${changing}`, `--from=${breaking}`, '--json'])).toMatchObject({
      code: 1,
    });
  });

  it('prints text, or Markdown, or JSON', async () => {
    expect((await run(['--target=4.3', `--from=${breaking}`])).out).toMatch(/^What breaks on RabbitMQ 4\.3/);
    expect((await run(['--target=4.3', `--from=${breaking}`, '--markdown'])).out).toMatch(
      /^# What breaks on RabbitMQ 4\.3/,
    );
    const { out } = await run(['--target=4.3.6', `--from=${breaking}`, '--json']);
    expect(JSON.parse(out)).toMatchObject({
      target: '4.3',
      sources: [
        {
          name: breaking,
          mode: 'observe',
          brokerVersion: '3.10.8',
          startedAt: '2026-11-21T14:00:00Z',
          evicted: 0,
        },
      ],
      summary: { clients: 2, breaks: 1, changes: 1, fine: 0 },
      clients: [{ effect: 'breaks', library: 'oslo.messaging' }, { effect: 'changes' }],
    });
  });

  it('reads standard input, and what is given twice once', async () => {
    const input = JSON.stringify(ledgerDocument({ clients: [durable] }));
    const { out, code } = await run(['--target=4.3', '--from=-', '--from=-', '--json'], input);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      sources: [{ name: 'standard input' }],
      clients: [{ connections: { total: 1 } }],
    });
  });

  it('reads proxies by URL with or without a path, and by HOST:PORT', async () => {
    const asked: (string | undefined)[] = [];
    const listener: RequestListener = (request, response) => {
      asked.push(request.url);
      response.end(JSON.stringify(ledgerDocument({ clients: [durable] })));
    };
    await served(listener, async (address) => {
      for (const from of [
        address,
        `http://${address}`,
        `http://${address}/`,
        `HTTP://${address}/proxy/clients`,
      ])
        expect(await run(['--target=4.3', `--from=${from}`])).toMatchObject({ code: 0, err: '' });
    });
    expect(asked).toEqual(['/clients', '/clients', '/clients', '/proxy/clients']);
  });

  const valid = ledgerDocument({ clients: [durable] });
  const [client] = valid.clients;
  it.each<[string, unknown, string]>([
    ['no JSON', 'password=x', 'it is no JSON'],
    ['a list', [], 'the document is not an object'],
    ['another mode', { ...valid, mode: 'Pool' }, 'mode is not one of transparent, observe, pool'],
    [
      'no start',
      { ...valid, startedAt: 'yesterday' },
      'startedAt is not a time such as 2026-11-21T14:00:00Z',
    ],
    ['no count', { ...valid, evicted: -1 }, 'evicted is not a count'],
    ['clients that are none', { ...valid, clients: {} }, 'clients is not a list'],
    [
      'a client without a virtual host',
      { ...valid, clients: [client, { ...client, vhost: null }] },
      'clients[1].vhost is not a text',
    ],
    [
      'a client without connections',
      { ...valid, clients: [{ ...client, connections: { now: 1 } }] },
      'clients[0].connections.needing is not a count',
    ],
    [
      'a client that needs who knows what',
      { ...valid, clients: [{ ...client, needsProxy: 'yes' }] },
      'clients[0].needsProxy is not true or false',
    ],
    [
      'a usage of a newer version',
      { ...valid, clients: [{ ...client, usages: { 'quantum-queue': {} } }] },
      'clients[0].usages has "quantum-queue", which this version does not know: use the proxy\'s',
    ],
    [
      'a usage without a time',
      { ...valid, clients: [{ ...client, usages: { 'global-qos': { count: 1 } } }] },
      'clients[0].usages.global-qos.firstSeen is not a time',
    ],
  ])('refuses a ledger with %s, with exit code 2 and the place', async (name, content, message) => {
    const file = fileOf(`${name}.json`, content);
    const { code, out, err } = await run(['--target=4.3', `--from=${breaking}`, `--from=${file}`]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(
      `quorumbridge report: option --from: ${file} is not what a proxy's /clients answers: ${message}`,
    );
    expect(err).not.toContain('password');
  });

  it('takes fields that it does not know from a newer proxy', async () => {
    const file = fileOf('newer.json', { ...valid, more: 1, clients: [{ ...client, more: 1 }] });
    expect(await run(['--target=4.3', `--from=${file}`])).toMatchObject({ code: 0, err: '' });
  });

  it('names each source that cannot be read, and why', async () => {
    const listener: RequestListener = (request, response) => {
      if (request.url === '/moved') response.writeHead(302, { location: '/clients' }).end();
      else if (request.url !== '/slow') response.writeHead(503).end('no');
    };
    await served(listener, async (address) => {
      const from = [
        `http://${address}/gone`,
        `http://${address}/slow`,
        `http://${address}/moved`,
        join(folder, 'none'),
        'http://u:secret@h',
        '127.0.0.1:1',
      ];
      const { code, err } = await run([
        '--target=4.3',
        '--timeout=300ms',
        ...from.map((each) => `--from=${each}`),
      ]);
      expect(code).toBe(2);
      const lines = err.split('\n').map((line) => line.replace('quorumbridge report: option --from: ', ''));
      expect(lines[0]).toBe(`http://${address}/gone cannot be read: it answered 503`);
      expect(lines[1]).toBe(`http://${address}/slow cannot be read: no answer within 0.3 s (--timeout)`);
      expect(lines[2]).toMatch(/\/moved cannot be read: fetch failed: unexpected redirect/);
      expect(lines[3]).toMatch(/none cannot be read: ENOENT/);
      expect(lines[4]).toBe('a URL of h has a user or a password in it: the admin port asks for none');
      expect(lines[5]).toMatch(/^http:\/\/127\.0\.0\.1:1\/clients cannot be read: fetch failed: /);
      expect(err).not.toContain('secret');
    });
  });

  it.each([
    [['--target=5.0'], 'option --target: "5.0" is not valid: expected one of 4.0, 4.1, 4.2, 4.3'],
    [[], 'option --target is required'],
    [['--target=4.3', '--json', '--markdown'], 'options --json and --markdown: give one of them'],
    [['--target=4.3', '--from=http://'], 'option --from: http:// is no URL'],
  ])('refuses %j with exit code 2', async (args, message) => {
    const { code, out, err } = await run(args);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(message);
  });
});

it('every usage has a finding on every target', () => {
  const ledger = ledgerDocument({ clients: [{}] });
  const seen = { count: 1, firstSeen: ledger.startedAt, lastSeen: ledger.startedAt, example: 'x' };
  const usages = Object.fromEntries(USAGES.map((usage) => [usage, seen]));
  const all = { ...ledger, clients: [{ ...ledger.clients[0]!, usages }] };
  for (const target of TARGETS) {
    const { findings } = reportOn([all], target).clients[0]!;
    expect(findings.map(({ usage }) => usage).sort()).toEqual([...USAGES].sort());
  }
});
