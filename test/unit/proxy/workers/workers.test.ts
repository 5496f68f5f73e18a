// A proxy of several processes, as it is run: clients of all of them, what an operator sees and does, and what happens when
// one of them dies.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type {
  ConnectionsDocument,
  ReloadDocument,
  StateDocument,
  StatsDocument,
} from '../../../../proxy/admin/documents.ts';
import type { LedgerDocument } from '../../../../proxy/ledger-document.ts';
import { AnsweringBroker } from '../../../support/answering-broker.ts';
import { generateCerts } from '../../../support/generated-certs.ts';
import { freePort } from '../../../support/ports.ts';
import { HOME } from '../../../support/processes.ts';
import { RawClient } from '../../../support/raw-client.ts';
import { type ProxyProcess, startProxyProcess } from '../../../support/service.ts';

const WORKERS = 3;
const PATIENCE = { timeout: 60_000, interval: 100 };

const folder = mkdtempSync(join(tmpdir(), 'qb-workers-'));
let broker: AnsweringBroker;

beforeAll(async () => {
  broker = await new AnsweringBroker().start();
});

afterAll(async () => {
  await broker[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

async function start(...args: string[]): Promise<ProxyProcess> {
  return startProxyProcess(broker.port, [`--workers=${WORKERS}`, '--stats-interval=0', ...args]);
}

async function ask(
  proxy: ProxyProcess,
  method: string,
  path: string,
): Promise<[status: number, text: string]> {
  const response = await fetch(proxy.adminUrl + path, { method });
  return [response.status, await response.text()];
}

async function read<T>(proxy: ProxyProcess, path: string): Promise<T> {
  return JSON.parse((await ask(proxy, 'GET', path))[1]) as T;
}

async function metric(proxy: ProxyProcess, name: string): Promise<number> {
  const [, text] = await ask(proxy, 'GET', '/metrics');
  return Number(new RegExp(`^quorumbridge_proxy_${name} (.*)$`, 'm').exec(text)?.[1]);
}

const connectAll = (proxy: ProxyProcess, count: number): Promise<RawClient[]> =>
  Promise.all(Array.from({ length: count }, () => RawClient.connect(proxy.port)));

const lines = (proxy: ProxyProcess): Record<string, unknown>[] =>
  proxy
    .log()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

/** The process that has been that worker last. */
function pidOf(proxy: ProxyProcess, worker: number): number {
  return lines(proxy).findLast((line) => line['msg'] === 'a worker serves' && line['worker'] === worker)![
    'pid'
  ] as number;
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe('--workers', () => {
  let proxy: ProxyProcess;
  let clients: RawClient[];

  beforeAll(async () => {
    proxy = await start('--drain-timeout=1');
    clients = [];
    // One after the other: in a crowd it is the worker's turn that is free first.
    while (clients.length < 4 * WORKERS) clients.push(await RawClient.connect(proxy.port));
  }, 120_000);

  afterAll(async () => {
    await Promise.all(clients.map((client) => client[Symbol.asyncDispose]()));
    await proxy.stop();
  });

  it('gives each worker as many connections, with numbers of their own', async () => {
    const { total, connections } = await read<ConnectionsDocument>(proxy, '/connections?sort=id');
    expect(total).toBe(clients.length);
    expect(connections.map(({ id }) => id)).toEqual(clients.map((_, at) => at + 1));
    const page = await read<ConnectionsDocument>(proxy, '/connections?limit=2&offset=3&sort=-id');
    expect(page.connections.map(({ id }) => id)).toEqual([9, 8]);
  });

  it('counts all of them together', async () => {
    const stats = await read<StatsDocument>(proxy, '/stats');
    expect(stats.connections).toEqual({ active: clients.length, total: clients.length });
    expect(await metric(proxy, 'connections_active')).toBe(clients.length);
    expect(await metric(proxy, 'handshake_duration_seconds_count')).toBe(clients.length);
    expect(await metric(proxy, 'workers')).toBe(WORKERS);
    // What each has for itself is no sum.
    expect(await metric(proxy, 'config_last_reload_successful')).toBe(1);
    expect(await metric(proxy, 'breaker_state{state="closed"}')).toBe(1);
    const ledger = await read<LedgerDocument>(proxy, '/clients');
    expect(ledger.clients.map(({ connections }) => connections.now)).toEqual([clients.length]);
    expect(ledger.summary).toMatchObject({ clients: 1, needing: 0 });
  });

  it('shows the page what it shows of one process', async () => {
    const left = new AbortController();
    const response = await fetch(`${proxy.adminUrl}/events?limit=1`, { signal: left.signal });
    let text = '';
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      if (text.includes('\n\n')) break;
    }
    left.abort();
    const state = JSON.parse(/^data: (.*)$/m.exec(text)![1]!) as StateDocument;
    expect(state.connections).toMatchObject({ total: clients.length, limit: 1 });
    expect(state.stats.connections.active).toBe(clients.length);
    expect(state.pool).toBeNull();
    expect((await ask(proxy, 'GET', '/'))[0]).toBe(200);
    expect((await ask(proxy, 'GET', '/openapi.json'))[1]).toContain('/connections/{id}');
  });

  it('closes the connection that has the number, whoever serves it', async () => {
    const gone = await RawClient.connect(proxy.port);
    const { connections } = await read<ConnectionsDocument>(proxy, '/connections?sort=-id&limit=1');
    const path = `/connections/${connections[0]!.id}`;
    expect(await ask(proxy, 'DELETE', path)).toEqual([202, expect.stringContaining('"closing":true')]);
    expect(await gone.hear()).toContain('connection.close 320');
    await gone[Symbol.asyncDispose]();
    await expect.poll(() => metric(proxy, 'connections_active'), PATIENCE).toBe(clients.length);
    expect((await ask(proxy, 'DELETE', path))[0]).toBe(404);
    expect(await ask(proxy, 'DELETE', '/connections/x')).toEqual([
      400,
      expect.stringContaining('expected the number of a connection'),
    ]);
  });

  it('pauses and resumes a virtual host at all workers', async () => {
    const [status, paused] = await ask(proxy, 'POST', '/vhosts/%2F/pause?seconds=60');
    expect([status, JSON.parse(paused)]).toEqual([
      200,
      expect.objectContaining({ vhost: '/', connections: clients.length }),
    ]);
    const stats = await read<StatsDocument>(proxy, '/stats');
    expect(stats.paused).toMatchObject([{ vhost: '/', connections: clients.length }]);
    const [, resumed] = await ask(proxy, 'POST', '/vhosts/%2F/resume');
    expect(JSON.parse(resumed)).toEqual({ vhost: '/', connections: clients.length });
    expect((await ask(proxy, 'POST', '/vhosts/%2F/resume'))[0]).toBe(404);
    expect((await ask(proxy, 'POST', '/vhosts/%2F/pause?seconds=0'))[0]).toBe(400);
  });

  it.each([
    ['GET', '/debug/profile'],
    ['GET', '/debug/heap'],
    ['POST', '/faults/sever'],
  ])('says that %s %s is about one process', async (method, path) => {
    expect(await ask(proxy, method, path)).toEqual([
      501,
      `${path}: not with --workers=${WORKERS}: it is about one process\n`,
    ]);
  });

  it('has no pool but in mode pool', async () => {
    expect(await ask(proxy, 'GET', '/pool')).toEqual([404, expect.stringContaining('--mode=pool')]);
  });
});

describe('a worker that dies', () => {
  it('takes its own clients with it alone, and is started again', async () => {
    await using proxy = await start();
    const clients = await connectAll(proxy, 2 * WORKERS);
    // A worker that is slow to take one has less than its share.
    const workers = async (): Promise<number[]> => {
      const { connections } = await read<ConnectionsDocument>(proxy, '/connections');
      return connections.map(({ id }) => id % WORKERS).sort((a, b) => a - b);
    };
    const before = await workers();
    expect(before).toHaveLength(2 * WORKERS);
    const victim = pidOf(proxy, 2);
    process.kill(victim, 'SIGKILL');
    await expect.poll(() => metric(proxy, 'worker_restarts_total'), PATIENCE).toBe(1);
    await expect.poll(() => metric(proxy, 'workers'), PATIENCE).toBe(WORKERS);
    expect(pidOf(proxy, 2)).not.toBe(victim);
    expect(lines(proxy)).toContainEqual(
      expect.objectContaining({ level: 'error', msg: 'a worker has ended', worker: 2, signal: 'SIGKILL' }),
    );
    const left = before.filter((worker) => worker !== 2);
    expect(await workers()).toEqual(left);
    const heard = await Promise.all(clients.map((client) => client.hearWithin(500)));
    expect(heard.filter((text) => text === 'closed')).toHaveLength(before.length - left.length);
    const [status] = await ask(proxy, 'GET', '/readyz');
    expect(status).toBe(200);
    const more = await connectAll(proxy, WORKERS);
    const all = await read<ConnectionsDocument>(proxy, '/connections');
    expect(new Set(all.connections.map(({ id }) => id % WORKERS)).size).toBe(WORKERS);
    for (const client of [...clients, ...more]) await client[Symbol.asyncDispose]();
  }, 120_000);
});

describe('a primary that dies', () => {
  it('leaves no worker behind', async () => {
    await using proxy = await start();
    const pids = [1, 2, 3].map((worker) => pidOf(proxy, worker));
    process.kill(proxy.pid, 'SIGKILL');
    for (const pid of pids) await expect.poll(() => isAlive(pid), PATIENCE).toBe(false);
  }, 120_000);
});

describe('a reload', () => {
  it('is every worker’s, by SIGHUP and by the admin API, and refused by all where it is not valid', async () => {
    const file = join(folder, 'proxy.yaml');
    writeFileSync(file, 'max-connections: 3000\nreload-interval: 0\n');
    await using proxy = await start(`--config=${file}`);
    writeFileSync(file, 'max-connections: 30\nreload-interval: 0\n');
    process.kill(proxy.pid, 'SIGHUP');
    const reloaded = (): number[] =>
      lines(proxy)
        .filter(({ msg, cause }) => msg === 'configuration reloaded' && cause === 'SIGHUP')
        .map(({ worker }) => worker as number);
    await expect.poll(() => reloaded().sort((a, b) => a - b), PATIENCE).toEqual([1, 2, 3]);
    const unchanged = await ask(proxy, 'POST', '/reload');
    expect((JSON.parse(unchanged[1]) as ReloadDocument).result).toBe('unchanged');
    expect(await metric(proxy, 'config_reloads_total{result="applied"}')).toBe(1);
    writeFileSync(file, 'max-connections: many\n');
    const [status, why] = await ask(proxy, 'POST', '/reload');
    expect([status, why.match(/max-connections/g)]).toEqual([422, ['max-connections']]);
    expect(await metric(proxy, 'config_last_reload_successful')).toBe(0);
    const effective = await ask(proxy, 'GET', '/config/effective');
    expect(effective[1]).toContain('"option":"max-connections","value":["30"]');
  }, 120_000);

  it('leaves a worker that is started again with what needs a restart of all', async () => {
    const file = join(folder, 'restart.yaml');
    writeFileSync(file, `workers: ${WORKERS}\nreload-interval: 0\n`);
    await using proxy = await startProxyProcess(broker.port, [`--config=${file}`]);
    writeFileSync(file, 'workers: 1\nmode: observe\nreload-interval: 0\n');
    process.kill(pidOf(proxy, 1), 'SIGKILL');
    await expect.poll(() => metric(proxy, 'worker_restarts_total'), PATIENCE).toBe(1);
    await expect.poll(() => metric(proxy, 'workers'), PATIENCE).toBe(WORKERS);
    const started = lines(proxy).filter(({ msg }) => msg === 'proxy is listening');
    expect(started.map(({ mode }) => mode)).toEqual(Array(WORKERS + 1).fill('transparent'));
  }, 120_000);
});

describe('TLS', () => {
  it('is ended by every worker, and all take a new certificate', async () => {
    const certificates = join(folder, 'tls');
    const texts = await generateCerts(certificates);
    const port = await freePort();
    const [cert, key] = [join(certificates, 'server.crt'), join(certificates, 'server.key')];
    await using proxy = await start(
      `--listen=amqps://127.0.0.1:${port}`,
      `--tls-cert=${cert}`,
      `--tls-key=${key}`,
      '--drain-timeout=1',
    );
    const connect = (): Promise<RawClient> =>
      RawClient.connect(port, { tls: { ca: texts['ca.crt']!, servername: 'localhost' } });
    const clients = [await connect(), await connect(), await connect()];
    const { connections } = await read<ConnectionsDocument>(proxy, '/connections');
    expect(connections.map(({ id, tls }) => [id, tls])).toEqual([
      [1, true],
      [2, true],
      [3, true],
    ]);
    const next = await generateCerts(join(folder, 'next'));
    writeFileSync(cert, next['server.crt']!);
    writeFileSync(key, next['server.key']!);
    const taken = (): number =>
      lines(proxy).filter(({ msg }) => msg === 'new serving certificate in use').length;
    await expect.poll(taken, PATIENCE).toBe(WORKERS);
    expect(await metric(proxy, 'certificate_reloads_total')).toBe(1);
    for (const client of clients) await client[Symbol.asyncDispose]();
  }, 120_000);
});

describe('a drain', () => {
  it('tells the clients of all workers to go, and ends all processes', async () => {
    const proxy = await start('--drain-timeout=1');
    const clients = await connectAll(proxy, 2 * WORKERS);
    const pids = [1, 2, 3].map((worker) => pidOf(proxy, worker));
    const stopped = proxy.stop();
    const heard = await Promise.all(clients.map((client) => client.hear()));
    expect(heard).toEqual(clients.map(() => expect.stringContaining('connection.close 320') as unknown));
    await Promise.all(clients.map((client) => client[Symbol.asyncDispose]()));
    expect(await stopped).toBe(0);
    expect(pids.filter(isAlive)).toEqual([]);
  }, 120_000);
});

describe('limits', () => {
  it('are for all workers together where each can have its part', async () => {
    await using proxy = await start('--max-connections=3', '--max-connections-per-user=5');
    const clients = await connectAll(proxy, 3);
    await expect(RawClient.connect(proxy.port)).rejects.toThrow('--max-connections');
    expect(lines(proxy)).toContainEqual(
      expect.objectContaining({
        level: 'warn',
        msg: '--max-connections-per-user is counted by each worker by itself: all together may have more',
      }),
    );
    for (const client of clients) await client[Symbol.asyncDispose]();
  }, 120_000);
});

describe('what cannot be', () => {
  const run = (...args: string[]): [number | null, string] => {
    const { status, stderr } = spawnSync(
      process.execPath,
      ['cli/quorumbridge.mjs', 'proxy', '--backend=127.0.0.1:1', '--admin-listen=127.0.0.1:0', ...args],
      { cwd: HOME, encoding: 'utf8' },
    );
    return [status, stderr];
  };

  it.each(['0', '65', '1.5', 'many'])('refuses --workers=%s', (count) => {
    expect(run(`--workers=${count}`)).toEqual([
      2,
      expect.stringContaining('expected a whole number from 1 to 64'),
    ]);
  });

  it('refuses faults, which are injected into one process', () => {
    expect(run('--workers=2', '--fault-injection')).toEqual([
      2,
      expect.stringContaining('option --fault-injection: faults are injected into one process'),
    ]);
  });

  it('says once that the address is taken, and leaves no process', async () => {
    await using taken = await new AnsweringBroker().start();
    const [status, stderr] = run('--workers=2', `--listen=amqp://127.0.0.1:${taken.port}`);
    expect([status, stderr.match(/cannot listen on/g)]).toEqual([2, ['cannot listen on']]);
  });

  it('ends its workers when the admin address is taken', async () => {
    await using taken = await new AnsweringBroker().start();
    const [status] = run(
      '--workers=2',
      `--listen=amqp://127.0.0.1:${await freePort()}`,
      `--admin-listen=127.0.0.1:${taken.port}`,
    );
    expect(status).toBe(1);
  });
});
