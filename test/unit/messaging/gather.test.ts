import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { expect, it, onTestFinished } from 'vitest';
import { gatherWrites } from '../../../messaging/gather.ts';

/** A connection on loopback whose one end gathers, how often that end wrote to the system, and all that the other end gets. */
async function connected(): Promise<{ socket: Socket; writes: () => number; received: Promise<Buffer> }> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const arrives = once(server, 'connection') as Promise<[Socket]>;
  const socket = net.connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [other] = await arrives;
  await once(socket, 'connect');
  onTestFinished(() => {
    socket.destroy();
    server.close();
  });
  let writes = 0;
  for (const name of ['_write', '_writev'] as const) {
    const own = socket[name]!.bind(socket) as (...given: unknown[]) => void;
    socket[name] = (...given: unknown[]): void => {
      writes++;
      own(...given);
    };
  }
  gatherWrites(socket);
  return { socket, writes: () => writes, received: buffer(other) };
}

it('what is written within a turn leaves at once when the turn is over, in its order', async () => {
  const { socket, writes, received } = await connected();
  for (const turn of [0, 1]) {
    for (const text of ['a', 'b', 'c']) socket.write(text + turn);
    expect(writes()).toBe(turn);
    await new Promise(setImmediate);
    expect(writes()).toBe(turn + 1);
  }
  socket.end();
  expect(String(await received)).toBe('a0b0c0a1b1c1');
});

it('what is written in the turn of the end arrives, and a full socket is told of and drains', async () => {
  const { socket, received } = await connected();
  const much = Buffer.alloc(8 * 1024 * 1024, 'x');
  expect(socket.write(much)).toBe(false);
  await once(socket, 'drain');
  socket.write('y');
  socket.end('z');
  expect(await received).toEqual(Buffer.concat([much, Buffer.from('yz')]));
});
