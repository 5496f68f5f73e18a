// Clients that send more than they read, or more than there is any sense in: what the proxy holds of theirs stays bounded, and
// nobody else notices.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AbusedProxy } from '../support/abused-proxy.ts';
import {
  contentHeader,
  flood,
  greeted,
  lastWords,
  opened,
  PUBLISH,
  seededOctets,
} from '../support/abuses.ts';
import { basicConsume, frame, queueDeclare } from '../support/amqp-frames.ts';
import { channelClose, channelOpen } from '../support/amqp-methods.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { connectPeer, type Peer } from '../support/peers.ts';
import { quorumQueue } from '../support/shared-upstream.ts';
import { declareQueues } from '../support/steady.ts';
import { WireClient } from '../support/wire-client.ts';

const MEBIBYTE = 2 ** 20;
/** MiB that the process may grow by under any of this, garbage included: each is more, or has no end. */
const GROWTH = 88;
/** Octets that may wait in the proxy for one client. */
const BACKLOG = 8 * MEBIBYTE;

const FOR_CLIENTS = 'quorumbridge_proxy_buffered_bytes{direction="broker_to_client"}';
const FOR_BROKER = 'quorumbridge_proxy_buffered_bytes{direction="client_to_broker"}';

/** A queue with more in it than the proxy may hold: 48 MiB. */
const FULL = 'full';
const MESSAGES = 192;
const BODY = Buffer.alloc(256 * 1024, 'x');

await describeBrokers(['4.3'], (version) => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version);
    await using publisher = await WireClient.connect(broker.port);
    const channel = await publisher.channel(1);
    await channel.ask(quorumQueue(1, FULL));
    for (let at = 0; at < MESSAGES; at++) if (!channel.publish(FULL, BODY)) await publisher.drained();
    await channel.close(); // answered behind all of them
    await publisher.close();
  });
  afterAll(() => broker?.stop());

  describe.each(['transparent', 'pool'])('in mode %s', (mode) => {
    let abused: AbusedProxy;
    beforeAll(async () => {
      const pool =
        mode === 'pool' ? ['--pool-idle-timeout=1', `--client-backlog=${BACKLOG / MEBIBYTE}MiB`] : [];
      abused = await AbusedProxy.start(broker, `floods ${mode}`, [`--mode=${mode}`, ...pool]);
    });
    afterAll(() => abused?.[Symbol.asyncDispose]());
    const port = () => abused.proxy.port;

    /** Does it; a few times while others go on no more than `most` octets may wait in the proxy, nor memory be taken. */
    async function bounded(what: string, most: number, abuse: () => Promise<Peer>): Promise<void> {
      const before = await abused.memory();
      await abused.abused(what, async () => {
        const peer = await abuse();
        for (let times = 0; times < 10; times++) {
          await abused.bystander.goesOn();
          const waiting = [await abused.value(FOR_CLIENTS), await abused.value(FOR_BROKER)];
          expect(Math.max(...waiting)).toBeLessThan(most);
          const growth = (await abused.memory()) - before;
          if (times === 9) process.stdout.write(`${what}: ${Math.round(growth)} MiB\n`);
          expect(growth).toBeLessThan(GROWTH);
        }
        peer.socket.destroy();
      });
    }

    it('random octets, at every stage', async () => {
      await abused.abused('random octets', async () => {
        const clients = [connectPeer, greeted, opened].flatMap((begin) =>
          Array.from({ length: 10 }, async (_, which) => {
            const peer = await begin(port());
            peer.write(seededOctets(`${begin.name} ${which}`, 256 * 1024));
            return [begin.name, await lastWords(peer)].join(': ');
          }),
        );
        expect(new Set(await Promise.all(clients))).toEqual(
          new Set(['connectPeer: header', 'greeted: close 501', 'opened: close 501']),
        );
      });
    });

    it('65,535 channels: the first one beyond channel_max ends it', async () => {
      const all = Buffer.concat(Array.from({ length: 65_535 }, (_, at) => channelOpen(at + 1)));
      await abused.abused('channels', async () => {
        const clients = [20, 2046].map(async (channelMax) => {
          const peer = await opened(port(), channelMax);
          peer.write(all.subarray(channelOpen(1).length));
          return lastWords(peer);
        });
        expect(await Promise.all(clients)).toEqual(['close 504', 'close 504']);
      });
    });

    it('declares whose answers nobody reads for a while: they wait, and come all of them', async () => {
      const count = 15_000;
      const queue = `${'long '.repeat(45)}${mode}`;
      await declareQueues(port(), queue);
      const passive = queueDeclare({ name: queue, flags: 1 });
      await abused.abused('declares', async () => {
        await using client = await WireClient.connect(port());
        const channel = await client.channel(1);
        client.socket.pause();
        const before = await abused.memory();
        const answers = Array.from({ length: count }, () => channel.ask(passive));
        for (let times = 0; times < 10; times++) {
          await abused.bystander.goesOn();
          expect((await abused.memory()) - before).toBeLessThan(GROWTH);
        }
        client.socket.resume();
        expect(new Set((await Promise.all(answers)).map(({ id }) => id))).toEqual(new Set(['50.11']));
        expect(client.faults).toEqual([]);
        await client.close();
      });
    });

    it('a consumer that never reads, of a full queue', async () => {
      await bounded('a consumer that never reads', BACKLOG + MEBIBYTE, async () => {
        const peer = await opened(port());
        peer.socket.pause();
        peer.write(basicConsume({ name: FULL, tag: 'blind' }));
        // What the sockets between take is the system's: beyond that it waits in the proxy.
        await expect
          .poll(() => abused.value(FOR_CLIENTS), { timeout: 20_000, interval: 50 })
          .toBeGreaterThan(0);
        return peer;
      });
      // A connection to the broker that others have channels on can't wait for it.
      expect((await abused.errors())['SHARED_LIMIT'] ?? 0).toBe(mode === 'pool' ? 1 : 0);
    });

    it('channels that are opened and closed without an end, and no answer is read', async () => {
      const round = Buffer.concat(
        Array.from({ length: 2000 }, () => [channelOpen(2), channelClose(2)]).flat(),
      );
      await bounded('open and close', MEBIBYTE, async () => {
        const peer = await opened(port());
        peer.socket.pause();
        await flood(peer, round, 24 * MEBIBYTE);
        return peer;
      });
    });

    it('a message of empty bodies without an end', async () => {
      const empty = Buffer.concat(Array.from({ length: 20_000 }, () => frame(3, 1, Buffer.alloc(0))));
      await bounded('empty bodies', MEBIBYTE, async () => {
        const peer = await opened(port());
        peer.write(PUBLISH, contentHeader(1n));
        await flood(peer, empty, (mode === 'pool' ? 128 : 16) * MEBIBYTE); // in mode transparent they go to the broker
        return peer;
      });
    });
  });
});
