import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ARGUMENTS } from '../../../../amqp/method.ts';
import { decodeTable, frame, method } from '../../../support/amqp-frames.ts';
import { type Peer, readCloseFrame, ScriptedBroker, tuneArguments } from '../../../support/peers.ts';
import { freePort } from '../../../support/ports.ts';
import { close, HEARTBEAT, logIn, openUpstream, start } from '../../../support/upstream-broker.ts';
import {
  LIMITS,
  plainLogin,
  startUpstream,
  TestOwner,
  type TestUpstream,
} from '../../../support/upstreams.ts';

const OPEN_OK = method(0, 10, 41, Buffer.of(0));
const CLOSE_OK = method(0, 10, 51);

let broker: ScriptedBroker;
const started: TestUpstream[] = [];

beforeEach(async () => {
  broker = await new ScriptedBroker().start();
});

afterEach(async () => {
  for (const { upstream } of started.splice(0)) upstream.destroy();
  await broker[Symbol.asyncDispose]();
});

/** A connection to the scripted broker, which has sent nothing yet. */
async function connect(
  settings: Parameters<typeof startUpstream>[1] = {},
  flags: Record<string, string> = {},
): Promise<TestUpstream & { peer: Peer }> {
  const arriving = broker.next();
  const test = startUpstream({ backend: `127.0.0.1:${broker.port}`, ...flags }, settings);
  started.push(test);
  return { ...test, peer: await arriving };
}

async function opened(...args: [Parameters<typeof startUpstream>[1]?, number?]): ReturnType<typeof connect> {
  const test = await openUpstream(broker, ...args);
  started.push(test);
  return test;
}

async function ended({ peer, end }: TestUpstream & { peer: Peer }): Promise<void> {
  await peer.until('the end', () => end() !== undefined);
}

describe('the handshake', () => {
  it('logs in, agrees and opens the virtual host', async () => {
    const { upstream, events, peer, stats } = await connect();
    expect((await peer.take(8)).toString('latin1')).toBe('AMQP\0\0\x09\x01');
    expect(upstream.state).toBe('connecting');
    peer.write(start());
    const startOk = await peer.frame();
    const properties = decodeTable(
      startOk.subarray(ARGUMENTS, ARGUMENTS + 4 + startOk.readUInt32BE(ARGUMENTS)),
    );
    expect(properties.map(({ key }) => String(key))).toEqual([
      'product',
      'version',
      'platform',
      'connection_name',
      'capabilities',
    ]);
    expect(startOk.includes('a pool')).toBe(true);
    expect(startOk.includes('authentication_failure_close')).toBe(true);
    expect(startOk.includes('\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US')).toBe(true);
    expect(upstream.state).toBe('greeted');
    peer.write(method(0, 10, 30, tuneArguments(131_072, 100)));
    expect(await peer.frame()).toEqual(method(0, 10, 31, Buffer.of(0, 100, 0, 2, 0, 0, 0, 0)));
    await peer.until('the login', () => upstream.state === 'authenticated');
    expect([upstream.channelMax, upstream.frameMax, upstream.room]).toEqual([100, 131_072, 0]);
    upstream.open('vhost');
    expect(await peer.frame()).toEqual(method(0, 10, 40, Buffer.from('\x05vhost\0\0')));
    peer.write(OPEN_OK);
    await peer.until('it is open', () => upstream.state === 'open');
    expect(events).toEqual([`greeted ${start().length}`, 'authenticated 100 131072 60', 'opened']);
    expect([upstream.room, upstream.used, upstream.owners]).toEqual([100, 0, 0]);
    expect(stats.pool.connectionsOpened).toBe(1);
    expect(stats.brokerFrames.all).toBe(3);
    expect(stats.octetsFromBackend).toBe(
      start().length + method(0, 10, 30, tuneArguments(1)).length + OPEN_OK.length,
    );
  });

  it('waits for credentials where there are none yet, for as long as it takes', async () => {
    const { upstream, events, peer } = await connect({ credentials: undefined });
    upstream.open('/');
    await peer.take(8);
    peer.write(start());
    await peer.until('the greeting', () => events.length === 1);
    upstream.sweep(performance.now() + 3_600_000);
    upstream.login(plainLogin('nova', 'secret'));
    expect((await peer.frame()).includes('\0nova\0secret')).toBe(true);
  });

  it('takes credentials that come before the greeting', async () => {
    const { upstream, peer } = await connect({ credentials: undefined });
    upstream.login(plainLogin('nova', 'secret'));
    await peer.take(8);
    peer.write(start());
    expect((await peer.frame()).includes('\0nova\0secret')).toBe(true);
  });

  it('announces the client by PROXY protocol', async () => {
    const { peer } = await connect({}, { backendProxyProtocol: 'v2' });
    const announced = await peer.take(28);
    expect(announced.subarray(16).toString('hex')).toBe('c0000207c00002019c401628');
    expect((await peer.take(8)).toString('latin1')).toBe('AMQP\0\0\x09\x01');
  });

  it.each([
    ['the shorter heartbeat', 10, 131_072, [0, 10]],
    ['its own heartbeat', 90, 131_072, [0, 60]],
    ['a bound where the broker has none', 0, 0, [0, 0]],
  ])('agrees on %s', async (_name, heartbeat, frameMax, agreed) => {
    const { peer, upstream } = await connect({ limits: { ...LIMITS, heartbeat } });
    await peer.take(8);
    peer.write(start());
    await peer.frame();
    peer.write(method(0, 10, 30, tuneArguments(frameMax, 0)));
    const tuneOk = await peer.frame();
    expect([...tuneOk.subarray(17, 19)]).toEqual(agreed);
    expect(tuneOk.readUInt16BE(11)).toBe(65_535);
    expect(tuneOk.readUInt32BE(13)).toBe(131_072);
    expect(upstream.channelMax).toBe(LIMITS.channelMax);
  });

  it('is refused by connection.close 403', async () => {
    const test = await connect();
    await test.peer.take(8);
    test.peer.write(start());
    await test.peer.frame();
    test.peer.write(close(403, 'ACCESS_REFUSED - no'));
    expect(await test.peer.frame()).toEqual(CLOSE_OK);
    expect(test.end()).toEqual({ kind: 'refused', replyCode: 403, text: 'ACCESS_REFUSED - no', method: 0 });
    expect(test.stats.pool.connectionsFailed.refused).toBe(1);
    await test.peer.until('the socket is closed', ({ ended }) => ended);
  });

  it('is lost where the broker hangs up sooner than it would refuse', async () => {
    const test = await connect();
    await test.peer.take(8);
    test.peer.write(start());
    await test.peer.frame();
    test.peer.socket.end();
    await ended(test);
    expect(test.end()).toEqual({ kind: 'lost', text: 'the broker ended the connection' });
  });

  it('is refused where the broker lacks the mechanism, which is not sent', async () => {
    const test = await connect();
    await test.peer.take(8);
    test.peer.write(start('EXTERNAL PLAINER'));
    await ended(test);
    expect(test.end()).toEqual({ kind: 'refused', text: 'the broker has no mechanism "PLAIN"' });
    await test.peer.until('the socket is closed', ({ ended }) => ended);
    expect(test.peer.received).toEqual(Buffer.alloc(0));
  });

  it('is refused where the mechanism wants more', async () => {
    const test = await connect();
    await test.peer.take(8);
    test.peer.write(start());
    await test.peer.frame();
    test.peer.write(method(0, 10, 20, Buffer.of(0, 0, 0, 1, 1)));
    await ended(test);
    expect(test.end()?.kind).toBe('refused');
  });

  it('tells what the broker says of the virtual host', async () => {
    const test = await connect();
    test.upstream.open('nope');
    await logIn(test.peer);
    await test.peer.frame();
    await test.peer.frame();
    test.peer.write(close(530, 'NOT_ALLOWED - vhost nope not found', [10, 40]));
    expect(await test.peer.frame()).toEqual(CLOSE_OK);
    expect(test.end()).toEqual({
      kind: 'closed',
      replyCode: 530,
      text: 'NOT_ALLOWED - vhost nope not found',
      method: 0x000a_0028,
    });
  });

  it('says at once that a virtual host has too long a name', async () => {
    const { upstream } = await connect();
    expect(() => upstream.open('x'.repeat(256))).toThrow('virtual host of 256 octets');
  });
});

describe('a broker that is not there', () => {
  it('cannot be reached', async () => {
    const port = await freePort();
    const test = startUpstream({ backend: `127.0.0.1:${port}` });
    await new Promise((resolve) => test.upstream.socket.once('close', resolve));
    const text = `backend 127.0.0.1:${port} cannot be reached: ECONNREFUSED`;
    expect(test.end()).toEqual({ kind: 'unreachable', text });
    expect(test.stats.pool.connectionsFailed.unreachable).toBe(1);
    expect(test.events).toEqual(['ended unreachable']);
  });

  it('hangs up', async () => {
    const test = await connect();
    test.peer.socket.end();
    await ended(test);
    expect(test.end()?.kind).toBe('unreachable');
  });

  it.each([
    ['connection.start', 0],
    ['connection.tune', 1],
    ['connection.open-ok', 2],
  ])('is waited for as long as is allowed: %s', async (awaited, step) => {
    const test = await connect();
    test.upstream.open('/');
    await test.peer.take(8);
    for (const answer of [start(), method(0, 10, 30, tuneArguments(131_072))].slice(0, step)) {
      test.peer.write(answer);
      await test.peer.frame();
    }
    const now = performance.now();
    test.upstream.sweep(now + LIMITS.handshakeTimeout - 2000);
    expect(test.end()).toBeUndefined();
    test.upstream.sweep(now + LIMITS.handshakeTimeout + 1);
    expect(test.end()?.kind).toBe('timeout');
    expect(test.end()?.text).toBe(`backend 127.0.0.1:${broker.port} sent no ${awaited} within 4 s`);
  });

  it('does not take the connection', async () => {
    const test = startUpstream({ backend: `127.0.0.1:${broker.port}` });
    test.upstream.sweep(performance.now() + LIMITS.connectTimeout + 1);
    expect(test.end()?.text).toBe(`backend 127.0.0.1:${broker.port} did not answer within 5 s`);
    await once(test.upstream.socket, 'close');
  });
});

describe('what is not AMQP 0-9-1', () => {
  it.each([
    ['another version', Buffer.from('AMQP\0\x01\0\0'), 'unknown frame type 65'],
    ['connection.start cut off', method(0, 10, 10, Buffer.of(0, 9)), 'field table without a length'],
    ['a method out of place', OPEN_OK, 'method 10.41 while the connection is connecting'],
    ['a method that only clients send', method(0, 10, 40, Buffer.of(0)), 'method 10.40 while'],
  ])('ends the handshake: %s', async (_name, octets, text) => {
    const test = await connect();
    await test.peer.take(8);
    test.peer.write(octets);
    await ended(test);
    expect(test.end()?.kind).toBe('protocol');
    expect(test.end()?.text).toContain(text);
  });

  it('ends an open connection, behind what was right', async () => {
    const test = await opened();
    const owner = new TestOwner();
    owner.take(test.upstream, 7);
    test.peer.write(
      Buffer.concat([method(1, 60, 72, Buffer.of(0)), Buffer.from([1, 0, 1, 0, 0, 0, 0, 0xce])]),
    );
    await ended(test);
    expect(owner.received).toEqual(method(7, 60, 72, Buffer.of(0)));
    expect(owner.told).toEqual(['lost 7: protocol']);
    expect(test.stats.pool.connectionsLost.protocol).toBe(1);
  });
});

describe('heartbeats', () => {
  const limits = { ...LIMITS, heartbeat: 10 };
  const SECOND = 1000;

  /** Sweeps four times a second, as the pool does. */
  function pass(test: TestUpstream, from: number, seconds: number): number {
    for (let now = from; now <= from + seconds * SECOND; now += 250) test.upstream.sweep(now);
    return from + seconds * SECOND;
  }

  it('are sent where nothing else was for half an interval', async () => {
    const test = await opened({ limits });
    const { socket } = test.upstream;
    let now = pass(test, performance.now(), 4);
    test.upstream.send(HEARTBEAT);
    await test.peer.frame();
    const before = socket.bytesWritten;
    now = pass(test, now, 4);
    expect(socket.bytesWritten).toBe(before);
    now = pass(test, now, 2);
    expect(await test.peer.frame()).toEqual(HEARTBEAT);
    pass(test, now, 3);
    expect(socket.bytesWritten).toBe(before + HEARTBEAT.length);
  });

  it('end a connection that is silent for two intervals', async () => {
    const test = await opened({ limits });
    const now = pass(test, performance.now(), 19);
    expect(test.end()).toBeUndefined();
    pass(test, now, 2);
    expect(test.end()).toEqual({ kind: 'silent', text: 'nothing came from the broker for 20 s' });
    expect(test.stats.pool.connectionsLost.silent).toBe(1);
  });

  it('of the broker keep it', async () => {
    const test = await opened({ limits });
    const before = test.stats.octetsFromBackend;
    let now = pass(test, performance.now(), 19);
    test.peer.write(HEARTBEAT);
    await test.peer.until('the heartbeat', () => test.stats.octetsFromBackend > before);
    now = pass(test, now, 19);
    expect(test.end()).toBeUndefined();
    pass(test, now, 2);
    expect(test.end()?.kind).toBe('silent');
  });

  it('are not missed while nothing is read, or the process stands still', async () => {
    const test = await opened({ limits });
    test.upstream.pauseReading();
    let now = pass(test, performance.now(), 60);
    test.upstream.resumeReading();
    now = pass(test, now, 19);
    test.upstream.sweep(now + 3600 * SECOND);
    pass(test, now + 3600 * SECOND, 19);
    expect(test.end()).toBeUndefined();
  });

  it('are none where none are wanted', async () => {
    const test = await opened();
    pass(test, performance.now(), 600);
    expect(test.end()).toBeUndefined();
    expect(test.peer.received).toEqual(Buffer.alloc(0));
  });
});

describe('the end', () => {
  it('is agreed on, and owners know at once', async () => {
    const test = await opened();
    const owner = new TestOwner();
    owner.take(test.upstream, 3);
    await test.peer.frame();
    test.upstream.close('idle');
    expect(owner.told).toEqual(['lost 3: ended']);
    expect(() => owner.take(test.upstream, 4)).toThrow('no channel');
    expect(readCloseFrame(await test.peer.frame())).toEqual({ code: 200, text: 'idle', method: '0.0' });
    expect(test.upstream.state).toBe('closing');
    // What crosses it is dropped.
    test.peer.write(method(1, 60, 72, Buffer.of(0)), close(404, 'late', [60, 40], 1), CLOSE_OK);
    await ended(test);
    expect(test.end()).toEqual({ kind: 'ended', text: 'idle' });
    expect(owner.received).toEqual(Buffer.alloc(0));
    expect(test.events.filter((event) => event.startsWith('ended'))).toEqual(['ended ended']);
    await test.peer.until('the socket is closed', ({ closed, ended }) => closed || ended);
    expect(test.peer.received).toEqual(Buffer.alloc(0));
  });

  it('is not waited for longer than 3 s', async () => {
    const test = await opened();
    test.upstream.close('idle');
    await test.peer.frame();
    await ended(test);
    expect(test.end()?.kind).toBe('ended');
    await test.peer.until('the socket is closed', ({ closed, ended }) => closed || ended);
  });

  it('comes at once before it is open', async () => {
    const test = await connect();
    test.upstream.close('not needed');
    expect(test.end()).toEqual({ kind: 'ended', text: 'not needed' });
    test.upstream.close('again');
    test.upstream.destroy();
    expect(test.events).toEqual(['ended ended']);
  });

  it('that we have begun is ours, however the broker ends it', async () => {
    const test = await opened();
    test.upstream.close('idle');
    test.peer.socket.resetAndDestroy();
    await ended(test);
    expect(test.end()).toEqual({ kind: 'ended', text: 'idle' });
    expect(test.stats.pool.connectionsLost.lost).toBe(0);
  });

  it('is agreed on where nothing was read, too', async () => {
    const test = await opened();
    test.upstream.pauseReading();
    test.upstream.close('idle');
    await test.peer.frame();
    test.peer.write(CLOSE_OK);
    await test.peer.until('the end', () => test.end() !== undefined, 1000);
  });

  it('comes behind what came before it', async () => {
    const test = await opened();
    const owner = new TestOwner();
    owner.take(test.upstream, 1);
    owner.onReceive = () => owner.told.push('received');
    test.peer.write(Buffer.concat([method(1, 60, 72, Buffer.of(0)), close(320, 'CONNECTION_FORCED')]));
    await ended(test);
    expect(owner.told).toEqual(['received', 'lost 1: closed']);
  });

  it('by the broker is answered, and told', async () => {
    const test = await opened();
    const owner = new TestOwner();
    const [kept, released] = [owner.take(test.upstream, 1), owner.take(test.upstream, 2)];
    owner.publish(released, 'key', 'body');
    released.release(() => owner.told.push('settled'));
    await test.peer.until('all of it', ({ received }) => received.includes(method(2, 20, 20, Buffer.of(1))));
    test.peer.received = Buffer.alloc(0);
    test.peer.write(close(320, 'CONNECTION_FORCED - shutdown'), frame(8, 0, Buffer.alloc(0)));
    expect(await test.peer.frame()).toEqual(CLOSE_OK);
    expect(test.end()).toMatchObject({ kind: 'closed', replyCode: 320 });
    expect(owner.told).toEqual(['settled', 'lost 1: closed']);
    expect([kept.usable, released.usable]).toEqual([false, false]);
    expect(test.upstream.used).toBe(0);
    const { channelsUsed, channelsIdle, connectionsLost } = test.stats.pool;
    expect([channelsUsed, channelsIdle, connectionsLost.closed]).toEqual([0, 0, 1]);
    kept.release(() => owner.told.push('settled at once'));
    expect(owner.told.at(-1)).toBe('settled at once');
  });

  it('by a break tells each owner its channels', async () => {
    const test = await opened();
    const [one, other] = [new TestOwner(), new TestOwner()];
    one.take(test.upstream, 1);
    other.take(test.upstream, 1);
    one.take(test.upstream, 2);
    expect([test.upstream.used, test.upstream.owners]).toEqual([3, 2]);
    test.peer.socket.resetAndDestroy();
    await ended(test);
    expect([one.told, other.told]).toEqual([['lost 1 2: lost'], ['lost 1: lost']]);
    expect(test.stats.pool.connectionsLost.lost).toBe(1);
  });
});

it('tells who has channels there that the broker takes no publishes, and that it does again', async () => {
  const test = await opened();
  const [one, other] = [new TestOwner(), new TestOwner()];
  one.take(test.upstream, 1);
  one.take(test.upstream, 2);
  other.take(test.upstream, 1).release(undefined);
  test.peer.write(method(0, 10, 60, Buffer.from('\x06memory')));
  await test.peer.until('it is blocked', () => test.upstream.blockedBy === 'memory');
  test.peer.write(method(0, 10, 61));
  await test.peer.until('it is not', () => test.upstream.blockedBy === undefined);
  expect(one.told).toEqual(['blocked memory', 'blocked undefined']);
  expect(other.told).toEqual([]);
  expect(test.events.slice(-2)).toEqual(['blocked memory', 'blocked undefined']);
});
