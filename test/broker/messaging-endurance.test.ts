// The messaging kit while its broker is restarted every few seconds: nothing is lost, and nobody storms the broker.
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { parseMessaging } from '../../messaging/config.ts';
import { Consumers } from '../../messaging/consumer/consumers.ts';
import { handler } from '../../messaging/consumer/handler.ts';
import { PublishError } from '../../messaging/publisher/errors.ts';
import { Publisher, type PublisherStats } from '../../messaging/publisher/publisher.ts';
import { startBroker } from '../support/broker.ts';
import type { BrokerVersion } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { RelayLink } from '../support/relay-link.ts';

/** So many messages are published at once, */
const BURST = 10;
/** and again after so many milliseconds: some are under way whenever the broker goes. */
const PACE_MS = 20;
/** So many are published and received between two restarts: that takes longer than a connection has to last to be no failure. */
const BETWEEN = 3000;
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 30_000;
/** A connection that lasted longer than this may have begun a new row of attempts: half of what the connector says. */
const LASTING_MS = 2500;
/** Timers count from the beginning of a turn of the event loop. */
const SLACK_MS = 200;
const PATIENCE = { timeout: 240_000, interval: 50 };

/** What a client said of its next attempt to connect, and when. */
interface Retry {
  readonly at: number;
  readonly delayMs: number;
}

/** A client's way to the broker. */
interface Way {
  readonly relay: RelayLink;
  readonly retries: readonly Retry[];
}

interface Outcome {
  readonly results: readonly PromiseSettledResult<{ readonly messageId: string }>[];
  readonly stats: PublisherStats;
  /** By messageId: how often it came, and how often without being flagged as redelivered. */
  readonly received: ReadonlyMap<string, { readonly times: number; readonly unflagged: number }>;
  readonly ways: Readonly<Record<'publisher' | 'consumers', Way>>;
}

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  describe('publisher and consumers of a broker that is restarted, killed and restarted again', () => {
    let outcome: Outcome;
    beforeAll(async () => {
      outcome = await endure(version);
    }, 580_000);

    it('settle every publish', () => {
      const { results, stats } = outcome;
      const failed = results.filter(({ status }) => status === 'rejected');
      const isTyped = (result: (typeof results)[number]): boolean =>
        result.status === 'fulfilled' || result.reason instanceof PublishError;
      expect(results.every(isTyped)).toBe(true);
      expect(stats).toMatchObject({
        published: results.length,
        confirmed: results.length - failed.length,
        waiting: 0,
      });
      expect(stats.confirmed).toBeGreaterThan(3 * BETWEEN);
    });

    it('bring every confirmed message to the consumer, and none besides that may not have arrived', () => {
      const { results, received } = outcome;
      const confirmed = new Set(
        results.flatMap((one) => (one.status === 'fulfilled' ? one.value.messageId : [])),
      );
      const uncertain = new Set(
        results.flatMap((one) => (one.status === 'rejected' ? uncertainId(one.reason) : [])),
      );
      const ids = [...received.keys()];
      expect([...confirmed].filter((id) => !received.has(id))).toEqual([]);
      expect(ids.filter((id) => !confirmed.has(id) && !uncertain.has(id))).toEqual([]);
    });

    it('deliver twice only what is flagged as redelivered, or was published again', () => {
      const { received, stats } = outcome;
      const unflagged = [...received.values()].map(({ unflagged }) => Math.max(0, unflagged - 1));
      expect(unflagged.reduce((sum, more) => sum + more, 0)).toBeLessThanOrEqual(stats.republished);
    });

    it.each(['publisher', 'consumers'] as const)(
      'connect no sooner than the backoff lets them: %s',
      (who) => {
        const { relay, retries } = outcome.ways[who];
        expect(retries.length).toBeGreaterThanOrEqual(3);
        expect(relay.arrivals).toHaveLength(1 + retries.length);
        expect(tooSoon(outcome.ways[who])).toEqual([]);
      },
    );
  });
});

/** What may be in a queue although it wasn't confirmed. */
function uncertainId(error: unknown): string[] {
  const { messageId, sent, failure } = error as PublishError;
  return sent && failure !== 'returned' && failure !== 'refused' ? [messageId] : [];
}

/** Publishes and consumes under restarts, until everything that was confirmed has been received. */
async function endure(version: BrokerVersion): Promise<Outcome> {
  await using stack = new AsyncDisposableStack();
  const broker = stack.use(await startBroker(version));
  const writing = await wayTo(broker.port, stack);
  const reading = await wayTo(broker.port, stack);

  const received = new Map<string, { times: number; unflagged: number }>();
  let newest = -1;
  const count = handler({
    handle: (number, { message, redelivered }) => {
      const id = String(message.properties.messageId);
      const { times, unflagged } = received.get(id) ?? { times: 0, unflagged: 0 };
      received.set(id, { times: times + 1, unflagged: unflagged + (redelivered ? 0 : 1) });
      newest = Math.max(newest, Number(number));
    },
  });
  const consumers = new Consumers(configOf(reading.relay.port), {
    name: 'endurance: read',
    handlers: { endurance: count },
    onProblem: reading.onProblem,
  });
  stack.defer(async () => void (await consumers.stop({ timeoutMs: 0 })));
  // The queue is there before anybody publishes.
  await consumers.ready();
  const publisher = new Publisher(configOf(writing.relay.port), {
    name: 'endurance: write',
    maxWaiting: 100_000,
    onProblem: writing.onProblem,
  });
  stack.defer(() => publisher.close({ timeoutMs: 0 }));

  const publishes: ReturnType<Publisher['publish']>[] = [];
  const timer = setInterval(() => {
    for (let at = 0; at < BURST; at++) {
      const publish = publisher.publish({ exchange: '', routingKey: 'endurance', content: publishes.length });
      publish.catch(() => {}); // all are looked at in the end
      publishes.push(publish);
    }
  }, PACE_MS);
  stack.defer(() => clearInterval(timer));
  const flows = async (): Promise<void> => {
    // Both are connected again when the first one has come.
    for (const more of [0, BETWEEN]) {
      const wanted = publishes.length + more;
      await vi.waitFor(() => expect(newest).toBeGreaterThanOrEqual(wanted), PATIENCE);
    }
  };

  await flows();
  await broker.restart({});
  await flows();
  await broker.kill();
  await broker.restart({});
  await flows();
  await broker.restart({});
  await flows();
  clearInterval(timer);
  const results = await Promise.allSettled(publishes);
  const confirmed = results.flatMap((one) => (one.status === 'fulfilled' ? one.value.messageId : []));
  // What does not come in that time is missed by the tests.
  await vi
    .waitFor(() => expect(confirmed.every((id) => received.has(id))).toBe(true), {
      timeout: 60_000,
      interval: 50,
    })
    .catch(() => {});
  return { results, stats: publisher.stats, received, ways: { publisher: writing, consumers: reading } };
}

function configOf(port: number): ReturnType<typeof parseMessaging> {
  const text = `
host: 127.0.0.1
port: ${port}
reconnect_delay: ${FIRST_DELAY_MS}ms
publisher: { publish_timeout: 60s }
exchanges: [{ name: '', kind: direct, queues: [{ name: endurance, prefetch: 50 }] }]`;
  return parseMessaging('endurance.yaml', text, {});
}

async function wayTo(
  port: number,
  stack: AsyncDisposableStack,
): Promise<Way & { onProblem: (text: string) => void }> {
  const relay = stack.use(await new RelayLink(port).start());
  const retries: Retry[] = [];
  return {
    relay,
    retries,
    onProblem: (text) => {
      const at = performance.now();
      // A queue that is not consumed is tried again on the same connection.
      const delay = text.startsWith('queue ') ? undefined : /; the next try in (\d+) ms$/.exec(text)?.[1];
      if (delay !== undefined) retries.push({ at, delayMs: Number(delay) });
    },
  };
}

/** The attempts that came sooner than they may. */
function tooSoon({ relay: { arrivals }, retries }: Way): string[] {
  const found: string[] = [];
  let inRow = 0;
  for (const [index, { at, delayMs }] of retries.entries()) {
    inRow = at - arrivals[index]! > LASTING_MS ? 1 : inRow + 1;
    const least = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (inRow - 1)) / 2;
    if (delayMs < least) found.push(`${delayMs} ms before attempt ${inRow} in a row are less than ${least}`);
    const waited = arrivals[index + 1]! - at;
    if (waited < delayMs - SLACK_MS) found.push(`attempt ${inRow} came after ${waited} ms, not ${delayMs}`);
  }
  return found;
}
