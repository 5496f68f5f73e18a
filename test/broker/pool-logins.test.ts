// The pool of pool mode, without clients, at real brokers: who is let in, how many connections that takes, and what a loss does.
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { createLogger } from '../../common/log.ts';
import { resolveOptions } from '../../common/resolve.ts';
import { createBackend } from '../../proxy/backend.ts';
import { proxyOptions } from '../../proxy/options.ts';
import { Pool, type PoolLimits } from '../../proxy/pool/pool.ts';
import { Upstream } from '../../proxy/pool/upstream.ts';
import { Stats } from '../../proxy/stats.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { acquire, ask, type Asked, ENDPOINTS, FakeMember, plain } from '../support/fake-pool.ts';
import type { Group } from '../../proxy/pool/group.ts';
import type { Who } from '../../proxy/pool/connection.ts';

const ALL = { configure: '.*', write: '.*', read: '.*' };

async function until(what: string, done: () => boolean, milliseconds = 20_000): Promise<void> {
  const deadline = Date.now() + milliseconds;
  while (!done()) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${milliseconds} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function answered<T>(asked: Asked<T>): Promise<Asked<T>> {
  await until('an answer', () => asked.answers > 0);
  return asked;
}

await describeBrokers(['4.0', '4.3'], (version) => {
  let broker: Broker;
  const pools: { pool: Pool; sweeping: NodeJS.Timeout }[] = [];

  beforeAll(async () => {
    broker = await startBroker(version);
    const { management } = broker;
    await management.setUser('app', 'one');
    for (const name of ['v1', 'v2', 'v3', 'closed']) await management.addVirtualHost(name);
    for (const name of ['v1', 'v2', 'v3']) await broker.managementOf(name).permit('app', ALL);
    await management.permit('app', ALL);
  });

  afterEach(() => {
    for (const { pool, sweeping } of pools.splice(0)) {
      pool.close();
      clearInterval(sweeping);
    }
  });

  afterAll(async () => {
    await broker?.stop();
  });

  function start(limits: Partial<PoolLimits> = {}): { pool: Pool; stats: Stats } {
    const { values } = resolveOptions(proxyOptions, {
      flags: { backend: `127.0.0.1:${broker.port}` },
      env: {},
    });
    const backend = createBackend(values);
    const stats = new Stats();
    const log = createLogger({ name: 'proxy', level: 'fatal' });
    const pool = new Pool({
      name: 'test',
      connect: (request) =>
        new Upstream({
          ...request,
          backend,
          limits: { connectTimeout: 5000, handshakeTimeout: 10_000, heartbeat: 30, channelMax: 65_535 },
          stats,
          log,
        }),
      limits: {
        maxUpstreamConnections: 10,
        maxChannelsPerConnection: 200,
        idleTimeout: 60_000,
        waitTimeout: 10_000,
        ...limits,
      },
      stats: stats.pool,
      log,
    });
    pools.push({ pool, sweeping: setInterval(() => pool.sweep(performance.now()), 50) });
    return { pool, stats };
  }

  const login = (pool: Pool, who: Who): Promise<Asked<true>> =>
    answered(ask((done) => pool.login(who, (refusal, tune) => done(refusal, tune && true))));

  const enter = (
    pool: Pool,
    who: Who,
    virtualHost: string,
    member = new FakeMember(),
  ): Promise<Asked<Group>> => answered(ask((done) => pool.enter(who, virtualHost, member, done)));

  it('one connection serves the greeting, the login and the virtual host', async () => {
    const { pool, stats } = start();
    const who = plain('app', 'one');
    let greeted = 0;
    for (let at = 0; at < 3; at++) pool.greeting(ENDPOINTS, () => greeted++);
    await until('the greeting', () => greeted === 3);
    const logins = await Promise.all([login(pool, who), login(pool, who)]);
    const [one, two] = [new FakeMember(), new FakeMember()];
    const entered = await Promise.all([enter(pool, who, 'v1', one), enter(pool, who, 'v1', two)]);
    expect(logins.map(({ got }) => got)).toEqual([true, true]);
    expect([pool.size, stats.pool.connectionsOpened]).toEqual([1, 1]);
    const group = entered[0].got!;
    expect(entered[1].got).toBe(group);
    expect(acquire(group, one).got?.upstream).toBe(acquire(group, two).got?.upstream);
  });

  it('a password that was changed locks the old one out, and those who are in stay in', async () => {
    const { pool, stats } = start({ idleTimeout: 500 });
    await broker.management.setUser('changing', 'old');
    await broker.managementOf('v1').permit('changing', ALL);
    const member = new FakeMember();
    const old = plain('changing', 'old');
    await login(pool, old);
    const group = (await enter(pool, old, 'v1', member)).got!;
    const held = acquire(group, member).got!;
    await broker.management.setUser('changing', 'new');
    await new Promise((resolve) => setTimeout(resolve, 600));
    const [refused, taken] = await Promise.all([login(pool, old), login(pool, plain('changing', 'new'))]);
    expect(refused.refusal).toMatchObject({ kind: 'refused', replyCode: 403, silent: true });
    expect(refused.refusal?.text).toMatch(/^Login was refused using authentication mechanism PLAIN/);
    expect(taken.got).toBe(true);
    expect((await enter(pool, old, 'v1')).refusal?.replyCode).toBe(403);
    expect(acquire(group, member).got?.upstream).toBe(held.upstream);
    expect((await enter(pool, plain('changing', 'new'), 'v1')).got).not.toBe(group);
    expect([stats.pool.loginsRefused, member.heard]).toEqual([1, []]);
  });

  it('virtual hosts that are not there, not allowed or full are refused in the broker’s words', async () => {
    const { pool } = start();
    const who = plain('app', 'one');
    await broker.ctl('set_vhost_limits', '-p', 'v3', '{"max-connections": 1}');
    const refusals = [await enter(pool, who, 'nope'), await enter(pool, who, 'closed')];
    const member = new FakeMember();
    const group = (await enter(pool, who, 'v3', member)).got!;
    acquire(group, member);
    const own = await answered(acquire(group, member, true));
    await broker.ctl('clear_vhost_limits', '-p', 'v3');
    expect([...refusals, own].map(({ refusal }) => [refusal?.replyCode, refusal?.text])).toEqual([
      [530, 'vhost nope not found'],
      [530, "access to vhost 'closed' refused for user 'app'"],
      [
        530,
        expect.stringContaining(
          "access to vhost 'v3' refused for user 'app': connection limit (1) is reached",
        ),
      ],
    ]);
    expect((await enter(pool, who, 'v3')).got).toBe(group);
  });

  it('more groups than connections take turns', async () => {
    const { pool, stats } = start({ maxUpstreamConnections: 2 });
    const who = plain('app', 'one');
    for (let round = 0; round < 3; round++) {
      const entered = await Promise.all(['v1', 'v2', 'v3', '/'].map((name) => enter(pool, who, name)));
      expect(entered.map(({ refusal }) => refusal)).toEqual([undefined, undefined, undefined, undefined]);
      expect(pool.size).toBeLessThanOrEqual(2);
    }
    expect(stats.pool.connectionsLost.closed + stats.pool.connectionsFailed.closed).toBe(0);
  });

  it('a broker that restarts is found again, and clients are told both', async () => {
    const { pool } = start();
    const who = plain('app', 'one');
    const member = new FakeMember();
    await login(pool, who);
    const group = (await enter(pool, who, 'v1', member)).got!;
    await broker.restart({});
    await until('the way back', () => group.alive, 60_000);
    expect(member.heard).toEqual([false, true]);
    expect((await login(pool, who)).got).toBe(true);
    expect((await enter(pool, who, 'v1')).got).toBe(group);
    expect((await answered(acquire(group, member))).got).toBeDefined();
  });
});
