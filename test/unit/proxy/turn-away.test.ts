import { once } from 'node:events';
import net from 'node:net';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Doorway } from '../../../proxy/turn-away.ts';
import { HEADER, openThrough, readCloseFrame, ScriptedBroker, startTestProxy } from '../../support/peers.ts';

let broker: ScriptedBroker;
beforeEach(async () => {
  broker = await new ScriptedBroker().start();
});
afterEach(() => broker[Symbol.asyncDispose]());

describe('a client that is turned away', () => {
  it('gets its answer whole, also when it has sent much and reads late', async () => {
    await using proxy = await startTestProxy({ backend: `127.0.0.1:${broker.port}`, maxConnections: '1' });
    const { client } = await openThrough(broker, proxy.port);
    const late = net.connect({ host: '127.0.0.1', port: proxy.port, allowHalfOpen: true });
    late.pause();
    await once(late, 'connect');
    late.write(Buffer.concat([HEADER, Buffer.alloc(100_000)]));
    const refused = '{code="CONNECTION_LIMIT",class="transient"} 1';
    await expect.poll(() => proxy.metric('quorumbridge_proxy_errors_total')).toContain(refused);
    // What a reset would have taken away is gone by now.
    await new Promise((resolve) => setTimeout(resolve, 100));
    const answer = await buffer(late);
    expect(readCloseFrame(answer).text).toContain('the proxy has 1 connections, its limit');
    late.destroy();
    client.socket.destroy();
  });

  it('is not waited for without end, and there is no end of them', async () => {
    const doorway = new Doorway();
    let closed = 0;
    const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
      socket.once('close', () => closed++);
      doorway.turnAway(socket, Buffer.from('no'));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    // None of them hangs up.
    const clients = Array.from({ length: 520 }, () =>
      net.connect({ host: '127.0.0.1', port, allowHalfOpen: true }),
    );
    const answers = await Promise.all(
      clients.map(async (client) => {
        let got = '';
        client.on('data', (chunk: Buffer) => (got += chunk.toString()));
        await Promise.race([once(client, 'end'), once(client, 'error').catch(() => {})]);
        return got;
      }),
    );
    const told = answers.filter((answer) => answer === 'no').length;
    expect(told).toBeGreaterThanOrEqual(500);
    expect(told).toBeLessThan(520);
    await expect.poll(() => closed, { timeout: 15_000 }).toBe(520);
    for (const client of clients) client.destroy();
    server.close();
  });
});
