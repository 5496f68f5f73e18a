import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { Outlet } from '../../../proxy/outlet.ts';
import { adoptPlain, connectPlain, type Receive, receiveData } from '../../../proxy/socket.ts';

/** The largest buffer that a socket reads into, and what Node lets a socket have queued before it says stop. */
const LARGEST = 256 * 1024;
const HIGH_WATER_MARK = 64 * 1024;

/** More than the kernel's buffers of two loopback connections take. */
const BULK = randomBytes(40 * 1024 * 1024);

const opened: Socket[] = [];
const servers: net.Server[] = [];

afterEach(() => {
  for (const socket of opened.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

async function listen(options: net.ServerOpts, accepted: (socket: Socket) => void): Promise<number> {
  const server = net.createServer(options, (socket) => {
    opened.push(socket);
    accepted(socket);
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

type Adopt = (accepted: Socket, receive: Receive) => Socket;

/** As on a Node whose handles take no buffer of the socket's own. */
const adoptWithoutBuffer: Adopt = (accepted, receive) => {
  const { _handle: handle } = accepted as unknown as { _handle: object };
  let owner: object = handle;
  while (!Object.hasOwn(owner, 'useUserBuffer')) owner = Object.getPrototypeOf(owner) as object;
  const descriptor = Object.getOwnPropertyDescriptor(owner, 'useUserBuffer')!;
  if (!Reflect.deleteProperty(owner, 'useUserBuffer'))
    throw new Error('the test cannot take the method away');
  try {
    return adoptPlain(accepted, receive);
  } finally {
    Object.defineProperty(owner, 'useUserBuffer', descriptor);
  }
};

/** One direction of a forwarder, and what was seen of it. */
interface Direction {
  readonly source: Socket;
  readonly destination: Socket;
  received: number;
  lent: boolean;
  largestQueue: number;
}

interface Chain {
  readonly client: Socket;
  readonly server: Socket;
  readonly up: Direction;
  readonly down: Direction;
}

/** A client, a forwarder of one adopted and one connected socket, and a server that it forwards to. */
async function chain(adopt: Adopt): Promise<Chain> {
  const serverSide = Promise.withResolvers<Socket>();
  const farPort = await listen({ allowHalfOpen: true, pauseOnConnect: true }, serverSide.resolve);
  const directions = Promise.withResolvers<[up: Direction, down: Direction]>();
  const nearPort = await listen({ allowHalfOpen: true, pauseOnConnect: true }, (accepted) => {
    const receiver =
      (which: 0 | 1): Receive =>
      (chunk, length, lent) => {
        const direction = both[which];
        direction.received += length;
        direction.lent = lent;
        outlets[which].write([chunk.subarray(0, length)], lent);
        const { writableLength } = direction.destination;
        direction.largestQueue = Math.max(direction.largestQueue, writableLength);
      };
    const near = adopt(accepted, receiver(0));
    const far = connectPlain({ host: '127.0.0.1', port: farPort }, receiver(1));
    opened.push(near, far);
    const nothing = { received: 0, lent: false, largestQueue: 0 };
    const both: [Direction, Direction] = [
      { source: near, destination: far, ...nothing },
      { source: far, destination: near, ...nothing },
    ];
    const outlets = [new Outlet(near, far, false), new Outlet(far, near, false)] as const;
    near.on('end', () => far.end());
    far.on('end', () => near.end());
    directions.resolve(both);
  });
  const client = net.connect({ host: '127.0.0.1', port: nearPort, allowHalfOpen: true });
  client.pause();
  opened.push(client);
  const [up, down] = await directions.promise;
  return { client, server: await serverSide.promise, up, down };
}

/** A client, and an adopted socket whose octets go to `receive`. */
async function receiving(receive: Receive): Promise<{ client: Socket; up: { received: number } }> {
  const up = { received: 0 };
  const port = await listen({ pauseOnConnect: true }, (accepted) => {
    const count: Receive = (chunk, length, lent) => {
      up.received += length;
      receive(chunk, length, lent);
    };
    opened.push(adoptPlain(accepted, count));
  });
  const client = net.connect({ host: '127.0.0.1', port, noDelay: true });
  opened.push(client);
  return { client, up };
}

async function until(what: string, done: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!done()) {
    if (Date.now() > deadline) throw new Error(`${what}: not within 10 s`);
    await setImmediate();
  }
}

/** Reads a socket to its end; answers what came by its length and hash. */
async function readAll(socket: Socket): Promise<{ length: number; sha256: string }> {
  const hash = createHash('sha256');
  let length = 0;
  socket.on('data', (chunk: Buffer) => {
    length += chunk.length;
    hash.update(chunk);
  });
  socket.resume();
  await once(socket, 'end');
  return { length, sha256: hash.digest('hex') };
}

const sent = { length: BULK.length, sha256: createHash('sha256').update(BULK).digest('hex') };

describe.each<[string, Adopt, boolean]>([
  ['an adopted socket', adoptPlain, true],
  ['an adopted socket of a Node that knows no buffer of its own', adoptWithoutBuffer, false],
])('%s', (_name, adopt, lends) => {
  it('moves bulk both ways intact between slow peers, and holds little of it', async () => {
    const { client, server, up, down } = await chain(adopt);
    client.end(BULK);
    server.end(BULK);
    const stuck = ({ source, destination }: Direction): boolean =>
      source.isPaused() && destination.writableLength > 0;
    // Nobody reads: both directions stop by themselves, with most of the bulk not even read.
    await until('both sources are paused', () => stuck(up) && stuck(down));
    for (const direction of [up, down]) {
      expect(direction.received).toBeLessThan(BULK.length);
      expect(direction.largestQueue).toBeLessThanOrEqual(LARGEST + HIGH_WATER_MARK);
    }
    const arrived = await Promise.all([readAll(server), readAll(client)]);
    expect(arrived).toEqual([sent, sent]);
    for (const direction of [up, down]) {
      expect(direction.received).toBe(BULK.length);
      expect(direction.largestQueue).toBeLessThanOrEqual(LARGEST + HIGH_WATER_MARK);
    }
    expect(up.lent).toBe(lends);
    expect(down.lent).toBe(true);
  });

  it('reads nothing while it is paused', async () => {
    const { client, up, server } = await chain(adopt);
    server.resume();
    client.write('first');
    await until('the first octets', () => up.received === 5);
    up.source.pause();
    client.write(BULK.subarray(0, 1024 * 1024));
    for (let turn = 0; turn < 50; turn++) await setImmediate();
    expect(up.received).toBe(5);
    up.source.resume();
    await until('the rest', () => up.received === 5 + 1024 * 1024);
  });

  it('is half closed by either end, and the other direction goes on', async () => {
    const { client, server, up } = await chain(adopt);
    const reading = readAll(server);
    client.end('question');
    expect(await reading).toMatchObject({ length: 8 });
    expect(up.source.readableEnded).toBe(true);
    expect(up.source.destroyed).toBe(false);
    server.end(BULK);
    expect(await readAll(client)).toEqual(sent);
    await until('all is closed', () => up.source.destroyed && up.destination.destroyed);
  });

  it('tells its ends, and that its peer has gone', async () => {
    const { client, up } = await chain(adopt);
    expect(up.source.remotePort).toBe(client.localPort);
    expect(up.source.localPort).toBe(client.remotePort);
    const closed = Promise.withResolvers<string>();
    up.source.on('error', (error: NodeJS.ErrnoException) => closed.resolve(error.code ?? error.message));
    client.resetAndDestroy();
    expect(await closed.promise).toBe('ECONNRESET');
    await until('it is closed', () => up.source.closed);
  });
});

describe('the buffer of an adopted socket', () => {
  it('is one of its own while reads are large: it grows by those that fill it and shrinks by a run of small ones', async () => {
    const sizes: (number | undefined)[] = [];
    const { client, up } = await receiving((chunk, _length, lent) => {
      sizes.push(lent ? chunk.length : undefined);
    });
    let written = 0;
    const write = async (octets: Uint8Array): Promise<void> => {
      client.write(octets);
      written += octets.length;
      await until('what was written', () => up.received === written);
    };
    await write(Buffer.alloc(1));
    expect(sizes).toEqual([undefined]);
    await write(BULK.subarray(0, 8 * 1024 * 1024));
    expect([...new Set(sizes)]).toEqual([undefined, 16_384, 65_536, LARGEST]);
    sizes.length = 0;
    for (let i = 0; i < 30; i++) await write(Buffer.alloc(1));
    expect([...new Set(sizes)].slice(-3)).toEqual([65_536, 16_384, undefined]);
    expect(sizes.filter((size) => size === 65_536)).toHaveLength(8);
  });

  it('is lent again for each read once it has one of its own', async () => {
    const chunks: Uint8Array[] = [];
    const { client, up } = await receiving((chunk, length, lent) => {
      if (lent) chunks.push(chunk.subarray(0, length));
    });
    client.write(Buffer.alloc(8 * 1024));
    await until('all of it', () => up.received === 8 * 1024);
    chunks.length = 0;
    for (const word of ['one', 'two']) {
      const before = up.received;
      client.write(word);
      await until(word, () => up.received === before + 3);
    }
    expect(chunks.map((chunk) => Buffer.from(chunk).toString())).toEqual(['two', 'two']);
  });
});

describe('sockets that read little at a time', () => {
  it("give what they have read away, and nobody's octets get over another's", async () => {
    const written: string[][] = [[], []];
    const chunks: Uint8Array[][] = [[], []];
    const sockets = await Promise.all(
      chunks.map((read) =>
        receiving((chunk, length, lent) => {
          expect([lent, chunk.length]).toEqual([false, length]);
          read.push(chunk);
        }),
      ),
    );
    for (const word of ['one', 'two', 'three']) {
      for (const [index, { client, up }] of sockets.entries()) {
        const octets = `${word} of ${index}`;
        const before = up.received;
        client.write(octets);
        written[index]!.push(octets);
        await until(octets, () => up.received === before + octets.length);
      }
    }
    expect(chunks.map((read) => read.map((chunk) => Buffer.from(chunk).toString()))).toEqual(written);
  });

  it('keep what the kernel has not taken, whatever is read meanwhile, and however much', async () => {
    const chains = await Promise.all(Array.from({ length: 3 }, () => chain(adoptPlain)));
    const hashes = chains.map(() => createHash('sha256'));
    let at = 0;
    const write = async (index: number): Promise<void> => {
      const { client, up } = chains[index]!;
      at = (at + 3000) % (BULK.length - 3000);
      const octets = BULK.subarray(at, at + 3000);
      const before = up.received;
      client.write(octets);
      hashes[index]!.update(octets);
      await until('a little', () => up.received === before + octets.length);
    };
    // Each until nobody takes anything from it any more: its last writes wait, while others read on.
    for (const [index, { up }] of chains.entries()) {
      while (!up.source.isPaused()) await write(index);
      expect(up.destination.writableLength).toBeGreaterThan(0);
    }
    const more = await chain(adoptPlain);
    chains.push(more);
    hashes.push(createHash('sha256'));
    for (let count = 0; count < 20; count++) await write(chains.length - 1);
    const arrived = await Promise.all(
      chains.map(({ client, server }) => {
        client.end();
        return readAll(server);
      }),
    );
    expect(arrived.map(({ sha256 }) => sha256)).toEqual(hashes.map((hash) => hash.digest('hex')));
  });
});

describe('a socket that is closed', () => {
  it('lets go of its listeners, once all of them have heard of it', async () => {
    const heard: string[] = [];
    const adopted = Promise.withResolvers<Socket>();
    const port = await listen({ pauseOnConnect: true, allowHalfOpen: true }, (accepted) => {
      const socket = adoptPlain(accepted, () => {});
      for (const name of ['first', 'second']) socket.on('close', () => heard.push(name));
      adopted.resolve(socket);
    });
    const near = connectPlain({ host: '127.0.0.1', port }, () => {});
    near.on('close', () => heard.push('near'));
    const far = await adopted.promise;
    for (const socket of [near, far]) {
      socket.destroy();
      await until('it has no listener', () => socket.eventNames().length === 0);
    }
    expect(heard).toEqual(['near', 'first', 'second']);
  });
});

describe('a socket that has no buffer of its own', () => {
  it("gives each chunk away: it is the receiver's", async () => {
    const chunks: [string, number, boolean][] = [];
    const port = await listen({}, (accepted) => {
      receiveData(accepted, (chunk, length, lent) => chunks.push([String(Buffer.from(chunk)), length, lent]));
    });
    const client = net.connect({ host: '127.0.0.1', port });
    opened.push(client);
    client.write('octets');
    await until('them', () => chunks.length === 1);
    expect(chunks).toEqual([['octets', 6, false]]);
  });
});
