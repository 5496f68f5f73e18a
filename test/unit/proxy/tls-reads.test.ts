import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import tls from 'node:tls';
import * as fc from 'fast-check';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type CertificateAndKey, makeCa, makeServingCertificate } from '../../../certs/certificates.ts';
import { Gate } from '../../../proxy/gate.ts';
import { keepReadBuffer, mayGrow, type Receive } from '../../../proxy/socket.ts';
import { receiveRecords } from '../../../proxy/tls-reads.ts';

const RECORD = 16 * 1024;
/** What all buffers may have grown by: as much is left when nobody has grown. */
const GROWTH = 64 * 1024 * 1024;

let ca: CertificateAndKey;
let served: CertificateAndKey;

beforeAll(async () => {
  ca = await makeCa({ commonName: 'tests', days: 1 });
  served = await makeServingCertificate({ ca, dnsNames: ['broker'], ips: ['127.0.0.1'], days: 1 });
});

const opened: Socket[] = [];
const servers: tls.Server[] = [];

afterEach(() => {
  for (const socket of opened.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

async function until(what: string, done: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!done()) {
    if (Date.now() > deadline) throw new Error(`${what}: not within 20 s`);
    await setImmediate();
  }
}

/** The stream that every sender sends: each octet tells its place. */
function octetsAt(place: number, length: number): Buffer {
  const octets = Buffer.alloc(length);
  for (let at = 0; at < length; at++) octets[at] = ((place + at) * 31 + ((place + at) >> 8)) & 0xff;
  return octets;
}

type Begin = (socket: Socket, receive: Receive) => void;

/** As on a Node whose handles take no buffer of others'. */
const beginWithoutBuffer: Begin = (socket, receive) => {
  const { _handle: handle } = socket as unknown as { _handle: object };
  Object.defineProperty(handle, 'useUserBuffer', { value: undefined });
  receiveRecords(socket, receive);
};

interface Pair {
  /** Who sends. */
  readonly sender: tls.TLSSocket;
  /** Whose octets are received by what is tested; nothing was read from it yet. */
  readonly receiver: Socket;
}

/** A server whose connections come one after the other by what it answers. */
async function listen(): Promise<{ port: number; next: () => Promise<tls.TLSSocket> }> {
  const server = tls.createServer({ cert: served.cert, key: served.key, allowHalfOpen: true });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    next: async () => {
      const [socket] = (await once(server, 'secureConnection')) as [tls.TLSSocket];
      opened.push(socket);
      return socket;
    },
  };
}

function connect(port: number, options: tls.ConnectionOptions = {}): tls.TLSSocket {
  const to = { host: '127.0.0.1', port, ca: ca.cert, allowHalfOpen: true, ...options };
  const socket = tls.connect(to).on('error', () => {});
  opened.push(socket);
  return socket;
}

/** A sender and an accepted socket, which receives from the moment that it is secure. */
async function accepted(receive: (socket: Socket) => Receive, begin: Begin = receiveRecords): Promise<Pair> {
  const { port, next } = await listen();
  const arriving = next().then((socket) => {
    begin(socket, receive(socket));
    return socket;
  });
  const sender = connect(port);
  return { sender, receiver: await arriving };
}

/** A sender and a socket that was connected, which receives from the moment that it was made. */
async function connected(receive: (socket: Socket) => Receive, begin: Begin = receiveRecords): Promise<Pair> {
  const { port, next } = await listen();
  const arriving = next();
  const receiver = connect(port);
  begin(receiver, receive(receiver));
  return { sender: await arriving, receiver };
}

/** Done when something has come for a socket, and within the same turn: it wasn't handed on then. */
async function landing(socket: Socket): Promise<void> {
  const { bytesRead } = socket;
  await until('something comes', () => socket.bytesRead > bytesRead);
}

/** What a receiver does with one chunk. */
interface Step {
  /** Whom of all receivers it holds back, by its place; none where there is no such. */
  readonly holds: number;
  /** For so many turns of the event loop. */
  readonly turns: number;
  /** It keeps what it was lent. */
  readonly keeps: boolean;
}

interface Plan {
  /** Octets of each write: a record, or some. */
  readonly writes: readonly number[];
  /** The sender waits a turn after these. */
  readonly rests: readonly boolean[];
  readonly steps: readonly Step[];
}

const planArbitrary: fc.Arbitrary<Plan> = fc.record({
  writes: fc.array(
    fc.oneof(
      { weight: 4, arbitrary: fc.integer({ min: 1, max: 2000 }) },
      { weight: 3, arbitrary: fc.integer({ min: 1, max: 3 }).map((count) => count * RECORD) },
      { weight: 2, arbitrary: fc.integer({ min: 1, max: 400_000 }) },
    ),
    { minLength: 1, maxLength: 15 },
  ),
  rests: fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }),
  steps: fc.array(fc.record({ holds: fc.nat(5), turns: fc.nat(3), keeps: fc.boolean() }), {
    minLength: 1,
    maxLength: 8,
  }),
});

/** Receives by a plan, and looks whether each octet is the one that is due, also later where it may look again. */
class Receiver {
  readonly #plan: Plan;
  readonly #all: readonly Receiver[];
  readonly #kept: { place: number; octets: Uint8Array }[] = [];
  #socket!: Socket;
  #gate!: Gate;
  #chunks = 0;
  received = 0;
  hasEnded = false;
  readonly faults: string[] = [];

  constructor(plan: Plan, all: readonly Receiver[]) {
    this.#plan = plan;
    this.#all = all;
  }

  begin(socket: Socket): Receive {
    this.#socket = socket;
    this.#gate = new Gate(socket);
    socket.on('end', () => {
      this.hasEnded = true;
      socket.end();
    });
    return (chunk, length, lent) => this.#receive(chunk.subarray(0, length), lent);
  }

  #look(octets: Uint8Array, place: number, when: string): void {
    if (!octetsAt(place, octets.length).equals(octets))
      this.faults.push(`${when}: ${octets.length} at ${place}`);
  }

  #receive(octets: Uint8Array, lent: boolean): void {
    const place = this.received;
    this.received += octets.length;
    this.#look(octets, place, 'received');
    if (this.hasEnded) this.faults.push('received behind the end');
    if (this.#gate.closed && !this.#socket.readableEnded) this.faults.push('received while held back');
    const step = this.#plan.steps[this.#chunks++ % this.#plan.steps.length]!;
    if (step.keeps && lent) keepReadBuffer(this.#socket);
    if (step.keeps || !lent) this.#kept.push({ place, octets });
    const held = this.#all[step.holds];
    if (held === undefined) return;
    void held.hold(step.turns, held === this ? () => this.#look(octets, place, 'held') : undefined);
  }

  /** @param last is done before it flows again */
  async hold(turns: number, last?: () => void): Promise<void> {
    const holder = this.#gate.holder();
    holder.pause();
    for (let turn = 0; turn < turns; turn++) await setImmediate();
    last?.();
    holder.resume();
  }

  lookAgain(): void {
    for (const { place, octets } of this.#kept) this.#look(octets, place, 'kept');
  }
}

async function send(sender: tls.TLSSocket, { writes, rests }: Plan): Promise<number> {
  let place = 0;
  for (const [index, length] of writes.entries()) {
    const flows = sender.write(octetsAt(place, length));
    place += length;
    if (!flows) await once(sender, 'drain');
    if (rests[index % rests.length]!) await setImmediate();
  }
  sender.end();
  return place;
}

describe.each<[string, typeof accepted, Begin]>([
  ['an accepted TLS socket', accepted, receiveRecords],
  ['a TLS socket that was connected', connected, receiveRecords],
  ['an accepted TLS socket of a Node that knows no buffer of its own', accepted, beginWithoutBuffer],
])('%s', (_name, make, begin) => {
  it('hands on all octets in order before their end, whatever records they come in and whoever is held back', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(planArbitrary, { minLength: 1, maxLength: 3 }), async (plans) => {
        const receivers: Receiver[] = [];
        for (const plan of plans) receivers.push(new Receiver(plan, receivers));
        const pairs = await Promise.all(receivers.map((one) => make((socket) => one.begin(socket), begin)));
        const sent = await Promise.all(pairs.map(({ sender }, index) => send(sender, plans[index]!)));
        await until('the ends', () => receivers.every(({ hasEnded }) => hasEnded));
        for (const { sender } of pairs) sender.resume();
        await until('all buffers are given back', () => mayGrow(GROWTH));
        for (const one of receivers) one.lookAgain();
        expect(receivers.flatMap(({ faults }) => faults)).toEqual([]);
        expect(receivers.map(({ received }) => received)).toEqual(sent);
      }),
      { numRuns: 100 },
    );
  });

  it('reads no more while it is paused, and is half closed by its peer', async () => {
    let received = 0;
    const bulk = octetsAt(0, 8 * 1024 * 1024);
    const { sender, receiver } = await make(() => (_chunk, length) => (received += length), begin);
    sender.write('first');
    await until('the first octets', () => received === 5);
    receiver.pause();
    sender.end(bulk);
    for (let turn = 0; turn < 50; turn++) await setImmediate();
    expect(received).toBe(5);
    expect(receiver.readableLength).toBeLessThan(256 * 1024);
    receiver.resume();
    await once(receiver, 'end');
    expect(received).toBe(5 + bulk.length);
    receiver.end(bulk);
    let answered = 0;
    sender.on('data', (chunk: Buffer) => (answered += chunk.length));
    await once(sender, 'end');
    expect(answered).toBe(bulk.length);
  });

  it('receives nothing once it is destroyed', async () => {
    let chunks = 0;
    const { sender, receiver } = await make(
      (socket) => () => {
        chunks++;
        socket.destroy();
      },
      begin,
    );
    sender.write(octetsAt(0, 40 * RECORD));
    await once(receiver, 'close');
    expect(chunks).toBe(1);
  });
});

describe('records that come within one turn', () => {
  it('are one chunk, which is lent', async () => {
    const chunks: [length: number, lent: boolean][] = [];
    const { sender } = await accepted(() => (_chunk, length, lent) => chunks.push([length, lent]));
    const length = 40 * RECORD;
    sender.write(octetsAt(0, length));
    const received = (): number => chunks.reduce((sum, [octets]) => sum + octets, 0);
    await until('all of it', () => received() === length);
    expect(Math.max(...chunks.map(([octets]) => octets))).toBeGreaterThan(3 * RECORD);
    expect(chunks.map(([, lent]) => lent)).toContain(true);
  });

  it('of several sockets go to each of them', async () => {
    const received = [0, 0, 0, 0];
    const pairs = await Promise.all(
      received.map((_, index) => accepted(() => (_chunk, length) => (received[index]! += length))),
    );
    for (const [index, { sender }] of pairs.entries()) sender.write(octetsAt(0, index + 1));
    await until('all of it', () => String(received) === '1,2,3,4');
  });

  it('wait where the socket is paused before they are handed on, and few others are read', async () => {
    let received = 0;
    const bulk = octetsAt(0, 8 * 1024 * 1024);
    const { sender, receiver } = await accepted(() => (_chunk, length) => (received += length));
    sender.write(octetsAt(0, 100));
    await landing(receiver);
    receiver.pause();
    sender.write(bulk);
    for (let turn = 0; turn < 200; turn++) await setImmediate();
    expect(received).toBe(0);
    expect(receiver.readableLength).toBeGreaterThan(0);
    expect(receiver.readableLength).toBeLessThan(256 * 1024);
    receiver.resume();
    await until('all of it', () => received === 100 + bulk.length);
  });

  it('go before the end that comes with them, even where the socket is paused', async () => {
    const heard: string[] = [];
    const { sender, receiver } = await accepted(() => (_chunk, length) => heard.push(`received ${length}`));
    receiver.on('end', () => heard.push('end'));
    sender.end('octets');
    await landing(receiver);
    receiver.pause();
    await until('the end', () => heard.length === 2);
    expect(heard).toEqual(['received 6', 'end']);
  });

  it('are dropped where the socket is destroyed before', async () => {
    let received = 0;
    const { sender, receiver } = await accepted(() => (_chunk, length) => (received += length));
    sender.write(octetsAt(0, 100));
    await landing(receiver);
    receiver.destroy();
    await once(receiver, 'close');
    for (let turn = 0; turn < 3; turn++) await setImmediate();
    expect(received).toBe(0);
  });

  it('are lent until the socket flows again, if they are more than a few octets', async () => {
    const lends: boolean[] = [];
    const { sender, receiver } = await accepted((socket) => (_chunk, _length, lent) => {
      lends.push(lent);
      socket.pause();
    });
    sender.write(octetsAt(0, 100));
    await until('it is paused', () => receiver.isPaused());
    expect(mayGrow(GROWTH)).toBe(true);
    receiver.resume();
    await setImmediate();
    sender.write(octetsAt(0, RECORD));
    await until('it is paused', () => receiver.isPaused());
    expect(mayGrow(GROWTH)).toBe(false);
    receiver.resume();
    await until('the buffer is given back', () => mayGrow(GROWTH));
    expect(lends).toEqual([false, true]);
  });

  it('go before the error of a broken one behind them', async () => {
    const heard: string[] = [];
    let received = 0;
    const { port, next } = await listen();
    const arriving = next();
    const raw = net.connect({ host: '127.0.0.1', port });
    const sender = connect(port, { socket: raw });
    const receiver = await arriving;
    receiveRecords(receiver, (_chunk, length) => (received += length));
    receiver.on('error', (error: NodeJS.ErrnoException) => heard.push(`${error.code} behind ${received}`));
    sender.write(octetsAt(0, 3 * RECORD));
    raw.write(Buffer.from('1703030020'.padEnd(74, '0'), 'hex')); // whole, and not by the sender's key
    await until('the error', () => heard.length > 0);
    expect(heard).toEqual([`ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC behind ${3 * RECORD}`]);
  });
});

describe('a connection whose first address is of no use', () => {
  it('reads from the next', async () => {
    const { port, next } = await listen();
    const arriving = next();
    const addresses = ['127.0.0.2', '127.0.0.1'].map((address) => ({ address, family: 4 }));
    const receiver = connect(port, {
      host: 'broker',
      lookup: (_name, _options, found) => found(null, addresses),
    });
    let received = '';
    receiveRecords(
      receiver,
      (chunk, length) => (received += Buffer.from(chunk.subarray(0, length)).toString()),
    );
    (await arriving).write('octets');
    await until('them', () => received === 'octets');
    expect(receiver.autoSelectFamilyAttemptedAddresses).toHaveLength(2);
  });
});
