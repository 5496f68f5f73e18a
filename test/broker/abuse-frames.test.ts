// Clients that send what no client should: each is answered as the protocol says, and nobody else notices.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AbusedProxy } from '../support/abused-proxy.ts';
import { type Abuse, FRAMES, greeted, lastWords, LOGINS, NO_CLIENTS, opened } from '../support/abuses.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { connectPeer, type Peer } from '../support/peers.ts';

const MODES = ['transparent', 'pool'] as const;
type Mode = (typeof MODES)[number];

/** MiB that may be left behind of clients who have all been there before: less than 144 of them take while they are there. */
const GROWTH = 3;

/** Longer than RabbitMQ takes to hang up on those who don't log in. */
const OPTIONS = ['--handshake-timeout=6', '--pool-idle-timeout=1'];

/** What is counted of all of them. */
const ERRORS = {
  transparent: {
    noClients: { CLIENT_PROTOCOL_HEADER: 7 },
    logins: { CLIENT_FRAME: 5 },
    frames: { CLIENT_FRAME: 17, BACKEND_LOST: 2 },
  },
  pool: {
    noClients: { CLIENT_PROTOCOL_HEADER: 7 },
    logins: { CLIENT_FRAME: 5, CLIENT_PROTOCOL: 14, LOGIN_REFUSED: 1, CLIENT_LOST: 1 },
    frames: { CLIENT_FRAME: 17, CLIENT_PROTOCOL: 12 },
  },
} as const;

/** What each of them hears, all at a time. */
async function heard(all: readonly Abuse[], begin: () => Promise<Peer>): Promise<Record<string, string>> {
  const answers = all.map(async ([name, octets]) => {
    const peer = await begin();
    peer.write(octets);
    return [name, await lastWords(peer)] as const;
  });
  return Object.fromEntries(await Promise.all(answers));
}

function expected(all: readonly Abuse[], mode: Mode): Record<string, string> {
  return Object.fromEntries(
    all.map(([name, , transparent, pool = transparent]) => [name, mode === 'pool' ? pool : transparent]),
  );
}

await describeBrokers(['4.3'], (version) => {
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version);
  });
  afterAll(() => broker?.stop());

  describe.each(MODES)('in mode %s', (mode) => {
    let abused: AbusedProxy;
    beforeAll(async () => {
      const options = mode === 'pool' ? OPTIONS : OPTIONS.slice(0, 1);
      abused = await AbusedProxy.start(broker, `frames ${mode}`, [`--mode=${mode}`, ...options]);
    });
    afterAll(() => abused?.[Symbol.asyncDispose]());

    /** Errors that were counted while that was done. */
    async function counting(work: () => Promise<void>): Promise<Record<string, number>> {
      const before = await abused.errors();
      await work();
      const counts = Object.entries(await abused.errors());
      return Object.fromEntries(
        counts.map(([code, count]) => [code, count - (before[code] ?? 0)]).filter(([, count]) => count !== 0),
      ) as Record<string, number>;
    }

    const port = () => abused.proxy.port;
    const noClients = NO_CLIENTS.map(([name, octets]): Abuse => [name, octets, 'header']);

    it('what is not AMQP is told what is spoken here', async () => {
      const errors = await counting(() =>
        abused.abused('what is not AMQP', async () => {
          expect(await heard(noClients, () => connectPeer(port()))).toEqual(expected(noClients, mode));
        }),
      );
      expect(errors).toEqual(ERRORS[mode].noClients);
    });

    it('who does not log in as the protocol has it is told so, or hung up on', async () => {
      const errors = await counting(() =>
        abused.abused('logins', async () => {
          expect(await heard(LOGINS, () => greeted(port()))).toEqual(expected(LOGINS, mode));
        }),
      );
      expect(errors).toEqual(ERRORS[mode].logins);
    });

    it('frames that are none, on wrong channels, too long or too deep end their own connection', async () => {
      const logged = (await broker.log()).length;
      const errors = await counting(() =>
        abused.abused('frames', async () => {
          const answers = await heard(FRAMES, () => opened(port()));
          expect(answers).toEqual(expected(FRAMES, mode));
        }),
      );
      expect(errors).toEqual(ERRORS[mode].frames);
      // In mode transparent the broker has seen some of them, each on a connection of its own.
      const lines = (await broker.log()).slice(logged).split('\n');
      const worst = lines.filter((line) => /\[(?:error|critical)\]/.test(line));
      // The logins of before, whose end RabbitMQ logs three seconds later.
      const failedLogins = new Set(worst.filter((line) => line.includes('handshake_error')).map(processOf));
      const blamed = worst.filter((line) => !failedLogins.has(processOf(line)));
      expect(mode === 'pool' ? blamed : []).toEqual([]);
    });

    it('all of it once more leaves nothing in memory', async () => {
      const round = () =>
        abused.abused('everything', async () => {
          for (let times = 0; times < 4; times++) {
            await heard(noClients, () => connectPeer(port()));
            await heard(FRAMES, () => opened(port()));
          }
        });
      await round();
      const before = await abused.memoryInUse();
      await round();
      expect((await abused.memoryInUse()) - before).toBeLessThan(GROWTH);
    });
  });
});

/** The process of the broker that a line of its log is of. */
function processOf(line: string): string | undefined {
  return /<\d+\.\d+\.\d+>/.exec(line)?.[0];
}
