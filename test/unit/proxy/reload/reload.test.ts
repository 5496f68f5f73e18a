import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../../../../common/log.ts';
import { resolveOptions } from '../../../../common/resolve.ts';
import { proxyOptions } from '../../../../proxy/options.ts';
import { Reloader } from '../../../../proxy/reload/reloader.ts';
import { ReloadStats } from '../../../../proxy/reload/stats.ts';
import { MountedSecret } from '../../../support/mounted-secret.ts';
import {
  connectPeer,
  HEADER,
  openThrough,
  type Peer,
  readCloseFrame,
  ScriptedBroker,
  startTestProxy,
  type TestProxy,
} from '../../../support/peers.ts';

let broker: ScriptedBroker;
let files: MountedSecret;
const running: AsyncDisposable[] = [];

beforeEach(async () => {
  broker = await new ScriptedBroker().start();
  files = await MountedSecret.mount({ 'proxy.yaml': '', 'rules.yaml': 'preset: generic\n' });
  running.push(broker, files);
});

afterEach(async () => {
  for (const one of running.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});

/** The options of the file, as YAML; a port of 0 is a port of the system's choice, which stays while it is asked for. */
type Options = Record<string, string | number | boolean | string[]>;

let rules = 'preset: generic\n';

async function write(options: Options): Promise<void> {
  const all = {
    backend: `127.0.0.1:${broker.port}`,
    listen: ['127.0.0.1:0'],
    'admin-listen': '127.0.0.1:0',
    'reload-interval': 0,
    ...options,
  };
  await files.update({ 'proxy.yaml': JSON.stringify(all), 'rules.yaml': rules });
}

async function start(options: Options = {}, flags: Record<string, string> = {}): Promise<TestProxy> {
  rules = 'preset: generic\n';
  await write(options);
  const proxy = await startTestProxy({ config: files.path('proxy.yaml'), ...flags });
  running.push(proxy);
  return proxy;
}

async function reload(proxy: TestProxy, options: Options) {
  await write(options);
  return proxy.proxy.reload('test');
}

async function refusal(port: number): Promise<string> {
  const client = await connectPeer(port);
  client.write(HEADER);
  const { text } = readCloseFrame(await client.frame());
  client.socket.destroy();
  return text;
}

async function isOpen(port: number): Promise<boolean> {
  const { client } = await openThrough(broker, port);
  client.socket.destroy();
  return true;
}

/** Octets go both ways over a connection that is open. */
async function prove({ client, upstream }: { client: Peer; upstream: Peer }): Promise<void> {
  const heartbeat = Buffer.from([8, 0, 0, 0, 0, 0, 0, 0xce]);
  client.write(heartbeat);
  expect((await upstream.take(heartbeat.length)).equals(heartbeat)).toBe(true);
  upstream.write(heartbeat);
  expect((await client.take(heartbeat.length)).equals(heartbeat)).toBe(true);
}

const lines = (proxy: TestProxy, text: string) => proxy.log().filter(({ msg }) => msg === text);

async function get(proxy: TestProxy, path: string, method = 'GET') {
  const response = await fetch(`http://127.0.0.1:${proxy.proxy.adminAddress.port}${path}`, { method });
  return { status: response.status, text: await response.text() };
}

describe('a reload', () => {
  it('changes limits for those that come, and leaves those that are there alone', async () => {
    const proxy = await start();
    const open = [await openThrough(broker, proxy.port), await openThrough(broker, proxy.port)];
    const { result, changes } = await reload(proxy, { 'max-connections-per-address': 2 });
    expect(result).toBe('applied');
    expect(changes).toEqual([
      { option: 'max-connections-per-address', before: ['0'], after: ['2'], effect: 'applied' },
    ]);
    expect(await refusal(proxy.port)).toContain('--max-connections-per-address');
    for (const one of open) await prove(one);
    expect((await reload(proxy, {})).result).toBe('applied');
    expect(await isOpen(proxy.port)).toBe(true);
    expect(lines(proxy, 'configuration reloaded').map(({ cause }) => cause)).toEqual(['test', 'test']);
  });

  it('moves to another backend: the connections that there are stay with theirs', async () => {
    const proxy = await start();
    const old = await openThrough(broker, proxy.port);
    const first = broker;
    broker = await new ScriptedBroker().start();
    running.push(broker);
    expect((await reload(proxy, {})).changes.map(({ option }) => option)).toEqual(['backend']);
    const before = first.peers.length;
    await prove(await openThrough(broker, proxy.port));
    expect(first.peers).toHaveLength(before);
    await prove(old);
  });

  it('closes the breaker for a backend that is another one', async () => {
    const proxy = await start({ 'breaker-failures': 1, 'breaker-reset': 3600 });
    const { port } = broker;
    broker.server.close();
    await refusal(proxy.port);
    expect(await refusal(proxy.port)).toContain('the circuit breaker is open');
    broker = await new ScriptedBroker().start();
    running.push(broker);
    expect(broker.port).not.toBe(port);
    await reload(proxy, { 'breaker-failures': 1, 'breaker-reset': 3600 });
    expect(await isOpen(proxy.port)).toBe(true);
  });

  it('opens and closes listeners, and those that stay keep their port', async () => {
    const proxy = await start();
    const old = await openThrough(broker, proxy.port);
    await reload(proxy, { listen: ['127.0.0.1:0', '[::1]:0'] });
    const [first, second] = proxy.proxy.listeners;
    expect(first!.address.port).toBe(proxy.port);
    expect(second!.address.host).toBe('::1');
    await reload(proxy, { listen: ['[::1]:0'] });
    expect(proxy.proxy.listeners.map(({ address }) => address)).toEqual([second!.address]);
    await expect(connectPeer(proxy.port)).rejects.toThrow('ECONNREFUSED');
    await prove(old);
  });

  it('does nothing of what it was told where one thing fails, and says what', async () => {
    const proxy = await start();
    const { port } = broker;
    const taken = `127.0.0.1:${port}`;
    const { result, problems } = await reload(proxy, {
      listen: ['127.0.0.1:0', '[::1]:0', taken],
      'max-connections-per-address': 1,
    });
    expect(result).toBe('refused');
    expect(problems.join()).toContain(`cannot listen on ${taken}`);
    expect(proxy.proxy.listeners).toHaveLength(1);
    const open = await openThrough(broker, proxy.port);
    await isOpen(proxy.port);
    await prove(open);
  });

  it('keeps the configuration before where what it reads is not valid, with all that is wrong', async () => {
    const proxy = await start({ 'max-connections-per-address': 1 });
    const wrong = { 'max-connections': 'many', 'no-such': 1, 'idle-timeout': -1 };
    const { result, problems } = await reload(proxy, wrong);
    expect(result).toBe('refused');
    expect(problems).toHaveLength(3);
    expect(problems.join('\n')).toMatch(/"max-connections" of .*proxy\.yaml:1:\d+: "many" is not valid/);
    expect(await proxy.metric('quorumbridge_proxy_config_last_reload_successful')).toEqual([' 0']);
    expect(await proxy.metric('quorumbridge_proxy_config_reloads_total')).toContain('{result="refused"} 1');
    const open = await openThrough(broker, proxy.port);
    expect(await refusal(proxy.port)).toContain('has 1 connections');
    await prove(open);
    expect(lines(proxy, 'the configuration is not valid: the one before stays in effect')).toHaveLength(1);
    await reload(proxy, { 'max-connections-per-address': 1 });
    expect(await proxy.metric('quorumbridge_proxy_config_last_reload_successful')).toEqual([' 1']);
  });

  it('refuses what is valid one by one and not together', async () => {
    const proxy = await start();
    const { problems } = await reload(proxy, { 'tls-cert': '/no/such', 'max-message-size': '1MiB' });
    expect(problems).toEqual([
      'option --tls-cert needs --tls-key, the private key of the certificate',
      'option --max-message-size needs --mode=pool: the other modes have one connection to the backend for each client',
    ]);
  });

  it('names what needs a restart, once, and does the rest', async () => {
    const proxy = await start();
    const next = { 'client-records': 5, 'log-level': 'debug', 'drain-timeout': 7 };
    const { changes } = await reload(proxy, next);
    expect(changes.map(({ option, effect }) => [option, effect])).toEqual([
      ['client-records', 'restart'],
      ['drain-timeout', 'applied'],
      ['log-level', 'applied'],
    ]);
    expect(proxy.proxy.drainMs).toBe(7000);
    expect(await proxy.metric('quorumbridge_proxy_config_restart_pending')).toEqual([' 1']);
    expect((await proxy.proxy.reload('again')).result).toBe('unchanged');
    const told = proxy.log().filter(({ msg }) => msg === 'restart the proxy for the new client-records');
    expect(told).toHaveLength(1);
    await reload(proxy, {});
    expect(await proxy.metric('quorumbridge_proxy_config_restart_pending')).toEqual([' 0']);
  });

  it('says that a restart is needed where the rest fits the new mode alone', async () => {
    const proxy = await start();
    const { result, problems } = await reload(proxy, { mode: 'pool', 'max-message-size': '1MiB' });
    expect(result).toBe('refused');
    expect(problems[0]).toBe('restart the proxy for the new --mode; until then:');
  });

  it('takes rules that were changed in their file into use for those that come', async () => {
    const proxy = await start({ rules: files.path('rules.yaml') });
    rules = 'preset: openstack\n';
    const { changes } = await reload(proxy, { rules: files.path('rules.yaml') });
    const path = [files.path('rules.yaml')];
    expect(changes).toEqual([{ option: 'rules', before: path, after: path, effect: 'applied' }]);
    rules = 'preset: no-such\n';
    const { problems } = await reload(proxy, { rules: files.path('rules.yaml') });
    expect(problems.join()).toContain('rules.yaml:1:9');
  });

  it('comes by itself when a file has changed, and not when nothing has', async () => {
    const proxy = await start({ 'reload-interval': '100ms', rules: files.path('rules.yaml') });
    const options = { 'reload-interval': '100ms', rules: files.path('rules.yaml') };
    await write({ ...options, 'max-connections-per-address': 1 });
    const reloads = () => lines(proxy, 'configuration reloaded').map(({ cause }) => cause);
    await expect.poll(reloads).toEqual(['file change']);
    rules = 'preset: celery\n';
    await write({ ...options, 'max-connections-per-address': 1 });
    await expect.poll(reloads).toHaveLength(2);
    // A broken file is told once, however often it is looked at.
    await files.update({ 'proxy.yaml': '{', 'rules.yaml': rules });
    const refused = 'the configuration is not valid: the one before stays in effect';
    await expect.poll(() => lines(proxy, refused)).toHaveLength(1);
    await write({ ...options, 'reload-interval': 0 });
    await expect.poll(reloads).toHaveLength(3);
    expect(lines(proxy, refused)).toHaveLength(1);
    expect(await proxy.metric('quorumbridge_proxy_config_reloads_total')).toContain('{result="unchanged"} 0');
  });
});

it('a file that is being written is not read before it stays as it is', async () => {
  const proxy = await start({ 'reload-interval': '100ms', 'max-connections': 5 });
  const whole = { 'reload-interval': '100ms', 'max-connections': 5, 'idle-timeout': 60 };
  // Halves that are valid by themselves, again and again, as an editor or a slow disk leaves them.
  for (let at = 0; at < 20; at++) {
    await files.update({
      'proxy.yaml': `backend: 127.0.0.1:${broker.port}\nmax-channels-per-client: ${at + 1}\n`,
      'rules.yaml': rules,
    });
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await write(whole);
  const reloads = () => lines(proxy, 'configuration reloaded');
  await expect.poll(reloads).toHaveLength(1);
  expect(reloads()[0]).toMatchObject({ changes: [{ option: 'idle-timeout', after: ['60'] }] });
});

describe('the admin API', () => {
  it('reloads, and says what came of it', async () => {
    const proxy = await start();
    await write({ 'idle-timeout': 60 });
    const { status, text } = await get(proxy, '/reload', 'POST');
    expect(status).toBe(200);
    expect(JSON.parse(text)).toEqual({
      result: 'applied',
      changes: [{ option: 'idle-timeout', before: ['0'], after: ['60'], effect: 'applied' }],
      problems: [],
    });
    await write({ 'idle-timeout': 'long' });
    const refused = await get(proxy, '/reload', 'POST');
    expect(refused.status).toBe(422);
    expect(refused.text).toContain('"long" is not valid: expected a duration');
  });

  it('shows every option, where it came from, and what waits for a restart', async () => {
    const proxy = await start({ 'max-connections': 10 }, { idleTimeout: '5m' });
    await reload(proxy, { 'max-connections': 20, mode: 'observe' });
    const document = JSON.parse((await get(proxy, '/config/effective')).text);
    const option = (name: string) => document.options.find((one: { option: string }) => one.option === name);
    expect(document.file).toBe(files.path('proxy.yaml'));
    expect(option('idle-timeout')).toEqual({
      option: 'idle-timeout',
      value: ['5m'],
      origin: 'flag',
      where: 'option --idle-timeout',
      afterRestart: null,
    });
    expect(option('max-connections')).toMatchObject({ value: ['20'], origin: 'file' });
    expect(option('max-connections').where).toMatch(/^key "max-connections" of .*proxy\.yaml:1:\d+$/);
    expect(option('mode')).toMatchObject({ value: ['transparent'], afterRestart: ['observe'] });
    expect(option('drain-timeout')).toMatchObject({ value: ['25'], origin: 'default', where: null });
  });
});

describe('a reload in mode pool', () => {
  it('changes the bounds of the pool, and leaves the backend to a restart', async () => {
    const proxy = await start({ mode: 'pool', 'max-upstream-connections': 3 });
    const { changes } = await reload(proxy, {
      mode: 'pool',
      'max-upstream-connections': 7,
      backend: '127.0.0.1:1',
    });
    expect(changes.map(({ option, effect }) => [option, effect])).toEqual([
      ['backend', 'restart'],
      ['max-upstream-connections', 'applied'],
    ]);
    const pool = JSON.parse((await get(proxy, '/pool')).text);
    expect(pool.maxUpstreamConnections).toBe(7);
  });
});

it('nothing is reloaded once the proxy drains', async () => {
  const proxy = await start();
  const { client } = await openThrough(broker, proxy.port);
  const drained = proxy.proxy.drain();
  const { result, problems } = await reload(proxy, { 'max-connections': 1 });
  expect(result).toBe('refused');
  expect(problems.join()).toContain('draining');
  client.socket.destroy();
  await drained;
  expect(client.socket.closed || (await once(client.socket, 'close'))).toBeTruthy();
});

it('a listener that a reload is just opening is closed again when the proxy begins to drain', async () => {
  const proxy = await start();
  await write({ listen: ['127.0.0.1:0', '[::1]:0'] });
  const reloaded = proxy.proxy.reload('test');
  // Listening takes a turn of the event loop: until then the reload is in the midst of it.
  for (let turn = 0; turn < 5; turn++) await Promise.resolve();
  const drained = proxy.proxy.drain();
  expect((await reloaded).problems.join()).toContain('the proxy ends');
  await drained;
  expect(proxy.proxy.listeners).toHaveLength(1);
});

it('a fault of the proxy in a reload refuses it, and the next one is tried all the same', async () => {
  const logged: string[] = [];
  const destination = { write: (line: string) => void logged.push(line) };
  const flags: Record<string, string> = { backend: '127.0.0.1:5673' };
  let isBroken = true;
  const stats = new ReloadStats();
  const reloader = new Reloader({
    configuration: {
      table: proxyOptions,
      file: undefined,
      read: () => resolveOptions(proxyOptions, { flags, env: {} }),
    },
    use: () => (isBroken ? Promise.reject(new TypeError('x is not a function')) : Promise.resolve()),
    stats,
    log: createLogger({ name: 'test', level: 'info', destination }),
  });
  flags['idleTimeout'] = '5';
  expect(await reloader.reload('test')).toEqual({
    result: 'refused',
    changes: [],
    problems: ['x is not a function'],
  });
  expect(logged.join()).toContain('internal error in a reload');
  expect(reloader.document().options.find(({ option }) => option === 'idle-timeout')?.value).toEqual(['0']);
  isBroken = false;
  expect((await reloader.reload('test')).result).toBe('applied');
  expect(stats.results).toEqual({ applied: 1, unchanged: 0, refused: 1 });
});
