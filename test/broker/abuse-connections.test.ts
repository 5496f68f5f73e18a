// Clients that never get anywhere: slow ones, silent ones, ones that greet for ever or vanish in the middle of a frame. Each
// is closed by a bound, and nobody else notices.
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AbusedProxy } from '../support/abused-proxy.ts';
import { CLIENT_HELLO, drip, greeted, lastWords, opened, seededOctets, STARTS } from '../support/abuses.ts';
import { basicConsume, frame, queueDeclare } from '../support/amqp-frames.ts';
import { basicPublish, basicGet } from '../support/amqp-methods.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { generateCerts } from '../support/generated-certs.ts';
import { connectPeer, HEADER, Peer } from '../support/peers.ts';
import { freePort } from '../support/ports.ts';
import { RawClient } from '../support/raw-client.ts';
import { quorumQueue } from '../support/shared-upstream.ts';
import { declareQueues } from '../support/steady.ts';

const SILENT = 5000;
/** MiB that the second thousands of silent connections may leave behind: less than a KiB of each. */
const GROWTH = 4;
/** Milliseconds between two octets. */
const SLOW = 100;

const limits = await readFile('/proc/self/limits', 'utf8').catch(() => '');
/** Descriptors that a process may have: this one and the proxy have one for each connection. */
const descriptors = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? Infinity);
const tooFew = descriptors < SILENT + 1000 ? ` (a process may have ${descriptors} descriptors only)` : '';

/** Opens so many connections and says nothing on them; done when all are closed. */
async function beSilent(port: number): Promise<void> {
  const closed: Promise<unknown>[] = [];
  while (closed.length < SILENT) {
    const some = Array.from({ length: 250 }, () => net.connect({ host: '127.0.0.1', port }).resume());
    closed.push(...some.map((socket) => new Promise((resolve) => socket.once('close', resolve))));
    await Promise.all(some.map((socket) => once(socket, 'connect')));
  }
  await Promise.all(closed);
}

await describeBrokers(['4.3'], (version) => {
  let broker: Broker;
  let folder: string;
  beforeAll(async () => {
    broker = await startBroker(version);
    folder = await mkdtemp(join(tmpdir(), 'quorumbridge-abuse-'));
    await generateCerts(folder);
  });
  afterAll(async () => {
    await broker?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  describe.each(['transparent', 'pool'])('in mode %s', (mode) => {
    let abused: AbusedProxy;
    let tlsPort: number;
    beforeAll(async () => {
      tlsPort = await freePort();
      abused = await AbusedProxy.start(broker, `connections ${mode}`, [
        `--mode=${mode}`,
        '--handshake-timeout=2',
        '--max-connections=6000',
        `--listen=amqps://127.0.0.1:${tlsPort}`,
        `--tls-cert=${join(folder, 'server.crt')}`,
        `--tls-key=${join(folder, 'server.key')}`,
      ]);
    });
    afterAll(() => abused?.[Symbol.asyncDispose]());
    const port = () => abused.proxy.port;

    it('an octet every 100 ms: a handshake is ended by its timeout, and a message arrives', async () => {
      const before = await abused.errors();
      await using reader = await RawClient.connect(port(), { name: 'reader' });
      await reader.channels(1);
      const queue = `slow ${mode}`;
      await reader.ask(quorumQueue(1, queue));
      await abused.abused('an octet every 100 ms', async () => {
        const publisher = await opened(port());
        const shaking = Array.from({ length: 20 }, async () => {
          const peer = await connectPeer(port());
          void drip(peer, Buffer.concat([HEADER, STARTS]), SLOW);
          return lastWords(peer);
        });
        const saying = Array.from({ length: 20 }, async () => {
          const peer = await greeted(port());
          const heartbeats = Array.from({ length: 100 }, () => frame(8, 0, Buffer.alloc(0)));
          void drip(peer, Buffer.concat(heartbeats), SLOW / 8);
          return lastWords(peer);
        });
        await drip(publisher, basicPublish(1, queue, 'x'), SLOW);
        expect(new Set(await Promise.all([...shaking, ...saying]))).toEqual(new Set(['close 320']));
        await expect.poll(() => reader.ask(basicGet(1, queue))).toMatch(/^basic\.get-ok \d+ 0 x$/);
        publisher.socket.destroy();
        await reader.close();
      });
      const after = await abused.errors();
      expect((after['HANDSHAKE_TIMEOUT'] ?? 0) - (before['HANDSHAKE_TIMEOUT'] ?? 0)).toBe(40);
    });

    it('resets and ends in the midst of a frame', async () => {
      const clients = 60;
      // RabbitMQ 4.3 may end a connection (541, noproc) that consumes from a quorum queue while another one is declaring it.
      await declareQueues(port(), `cut ${mode}`);
      const before = await abused.errors();
      const said = Buffer.concat([
        queueDeclare({ name: `cut ${mode}`, flags: 2 }),
        basicConsume({ name: `cut ${mode}`, tag: 'cut' }),
        basicPublish(1, `cut ${mode}`, 'x'.repeat(100_000)),
        basicPublish(1, 'nowhere', 'x'),
      ]);
      const cuts = seededOctets('cuts', 4 * clients);
      await abused.abused('resets', async () => {
        for (let at = 0; at < clients; at += 10) {
          const some = Array.from({ length: 10 }, async (_, which) => {
            const peer = await opened(port());
            peer.write(said.subarray(0, 1 + (cuts.readUInt32BE(4 * (at + which)) % (said.length - 1))));
            if (which % 2 === 0) peer.socket.resetAndDestroy();
            else peer.socket.destroySoon();
            await once(peer.socket, 'close');
          });
          await Promise.all(some);
        }
      });
      const after = await abused.errors();
      expect((after['CLIENT_LOST'] ?? 0) - (before['CLIENT_LOST'] ?? 0)).toBe(clients);
    });

    it('what is not TLS, on the port for TLS, and TLS handshakes without an end', async () => {
      const before = await abused.errors();
      await abused.abused('TLS handshakes', async () => {
        const kinds: [name: string, begin: (peer: Peer) => unknown][] = [
          ['silence', () => {}],
          ['plain AMQP', (peer) => peer.write(HEADER)],
          ['random octets', (peer) => peer.write(seededOctets('not TLS', 10_000))],
          ['half a ClientHello', (peer) => peer.write(CLIENT_HELLO)],
          ['a slow ClientHello', (peer) => drip(peer, CLIENT_HELLO, 2 * SLOW)],
          ['a ClientHello and its end', (peer) => peer.socket.end(CLIENT_HELLO)],
        ];
        const ends = kinds.flatMap(([name, begin]) =>
          Array.from({ length: 10 }, async () => {
            const peer = await connectPeer(tlsPort);
            begin(peer);
            await peer.until(name, ({ ended, closed }) => ended || closed, 30_000);
            peer.socket.destroy();
          }),
        );
        await Promise.all(ends);
      });
      const after = await abused.errors();
      expect((after['CLIENT_TLS'] ?? 0) - (before['CLIENT_TLS'] ?? 0)).toBe(60);
    });

    it('noise within TLS is answered, and renegotiation ends the connection', async () => {
      const before = await abused.errors();
      await abused.abused('noise within TLS', async () => {
        const connect = async (maxVersion: tls.SecureVersion) => {
          const socket = tls.connect({
            port: tlsPort,
            host: '127.0.0.1',
            rejectUnauthorized: false,
            maxVersion,
          });
          await once(socket, 'secureConnect');
          return new Peer(socket);
        };
        const noisy = await connect('TLSv1.3');
        noisy.write(seededOctets('noise', 50_000));
        expect(await lastWords(noisy)).toBe('header');

        const again = await connect('TLSv1.2');
        let handshakes = 0;
        const renegotiate = () => {
          (again.socket as tls.TLSSocket).renegotiate({ rejectUnauthorized: false }, (error) => {
            if (error !== null) return;
            handshakes++;
            renegotiate();
          });
        };
        renegotiate();
        await again.until('the end', ({ ended, closed }) => ended || closed, 30_000);
        again.socket.destroy();
        expect(handshakes).toBe(0);
      });
      const after = await abused.errors();
      const told = (code: string) => (after[code] ?? 0) - (before[code] ?? 0);
      expect([told('CLIENT_PROTOCOL_HEADER'), told('CLIENT_TLS')]).toEqual([1, 1]);
    });

    it.skipIf(tooFew !== '')(
      `${SILENT} silent connections are closed, and leave nothing${tooFew}`,
      { timeout: 180_000 },
      async () => {
        const before = await abused.errors();
        await abused.abused('silence', () => beSilent(port()));
        const first = await abused.memoryInUse();
        await abused.abused('silence', () => beSilent(port()));
        expect((await abused.memoryInUse()) - first).toBeLessThan(GROWTH);
        const after = await abused.errors();
        expect((after['HANDSHAKE_TIMEOUT'] ?? 0) - (before['HANDSHAKE_TIMEOUT'] ?? 0)).toBe(2 * SILENT);
      },
    );
  });
});
