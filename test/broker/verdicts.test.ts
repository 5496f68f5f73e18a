// The table of `quorumbridge report`, held against what brokers answer to clients that come without the proxy.
import amqplib from 'amqplib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Usage, USAGES, usagesOf } from '../../proxy/usage.ts';
import { verdictOn } from '../../proxy/verdicts.ts';
import {
  basicConsume,
  type Entry,
  entry,
  exchangeDeclare,
  longstr,
  queueDeclare,
} from '../support/amqp-frames.ts';
import { prefetch, queueDelete } from '../support/amqp-methods.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { RawClient } from '../support/raw-client.ts';

const DURABLE = 2;
const EXCLUSIVE = 4;
const AUTO_DELETE = 8;

const text = (key: string, value: string): Entry => entry(key, longstr(value));
const number = (key: string, value: number): Entry => entry(key, { tag: 'I', value });
const QUORUM = text('x-queue-type', 'quorum');
const exclusive = (...entries: Entry[]): Buffer => queueDeclare({ name: '', flags: EXCLUSIVE, entries });
const quorum = (...entries: Entry[]): Buffer =>
  queueDeclare({ flags: DURABLE, entries: [QUORUM, ...entries] });

/** What a client sends that does so, in some of the ways in which it may. small-frame-max is in the handshake. */
const FRAMES: Readonly<Record<Exclude<Usage, 'small-frame-max'>, readonly Buffer[]>> = {
  'transient-queue': [queueDeclare({}), queueDeclare({ flags: AUTO_DELETE })],
  'transient-queue-server-named': [queueDeclare({ name: '' })],
  'auto-delete-queue': [queueDeclare({ flags: DURABLE | AUTO_DELETE })],
  'durable-classic-queue': [queueDeclare({ flags: DURABLE })],
  'exclusive-named-queue': [queueDeclare({ flags: EXCLUSIVE })],
  'quorum-refused': [
    queueDeclare({ flags: DURABLE | AUTO_DELETE, entries: [QUORUM] }),
    queueDeclare({ flags: EXCLUSIVE, entries: [QUORUM] }),
    queueDeclare({ name: '', flags: DURABLE, entries: [QUORUM] }),
    quorum(number('x-max-priority', 9)),
    quorum(text('x-queue-mode', 'lazy')),
    quorum(number('x-queue-version', 2)),
    quorum(text('x-queue-master-locator', 'min-masters')),
  ],
  'quorum-without-delivery-limit': [quorum()],
  'negative-delivery-limit': [quorum(number('x-delivery-limit', -1))],
  'empty-queue-type': [queueDeclare({ flags: DURABLE, entries: [text('x-queue-type', '')] })],
  'queue-master-locator': [
    exclusive(text('x-queue-master-locator', 'min-masters')),
    queueDeclare({ flags: DURABLE, entries: [text('x-queue-master-locator', 'client-local')] }),
  ],
  'queue-version-1': [exclusive(number('x-queue-version', 1))],
  'queue-mode': [exclusive(text('x-queue-mode', 'lazy')), exclusive(text('x-queue-mode', 'default'))],
  'ha-policy-argument': [exclusive(text('x-ha-policy', 'all')), quorum(text('x-ha-policy', 'all'))],
  'max-priority': [exclusive(number('x-max-priority', 9))],
  'overflow-reject-publish-dlx': [
    exclusive(text('x-overflow', 'reject-publish-dlx')),
    quorum(text('x-overflow', 'reject-publish-dlx')),
  ],
  'consumer-timeout': [quorum(number('x-consumer-timeout', 60_000))],
  'consumer-timeout-refused': [
    exclusive(number('x-consumer-timeout', 60_000)),
    quorum(text('x-consumer-timeout', '60000')),
  ],
  'transient-exchange': [exchangeDeclare({})],
  'global-qos': [prefetch(1, 10, true)],
  'exclusive-consumer': [basicConsume({ name: 'there', tag: 'a', flags: 4 })],
  'cancel-on-ha-failover': [
    basicConsume({
      name: 'there',
      tag: 'b',
      entries: [entry('x-cancel-on-ha-failover', { tag: 't', value: 1 })],
    }),
  ],
  'conditional-delete': [queueDelete(1, 'there', 2)],
};

/** Things that no verdict is about: what the table leaves out must be taken by every version. */
const HARMLESS: readonly [string, Buffer][] = [
  ['a quorum queue with a delivery limit', quorum(number('x-delivery-limit', 5))],
  ['a stream', queueDeclare({ flags: DURABLE, entries: [text('x-queue-type', 'stream')] })],
  ['an exclusive queue that the broker names', exclusive()],
  ['an exclusive queue of version 2', exclusive(number('x-queue-version', 2))],
  ['a durable exchange', exchangeDeclare({ name: 'lasting', flags: DURABLE })],
  ['a prefetch for each consumer', prefetch(1, 10, false)],
];

/** The end of a channel or connection, with the reply code that a verdict quotes. */
function refusalOf(what: string): RegExp {
  return new RegExp(String.raw`^(?:channel|connection)\.close ${/\b\d{3} [A-Z_]+/.exec(what)![0]}`);
}

await describeBrokers(['4.0', '4.3'], (version) => {
  const target = version as '4.0' | '4.3';
  let broker: Broker;
  beforeAll(async () => {
    broker = await startBroker(version);
  });
  afterAll(async () => {
    await broker?.stop();
  });

  /** What the broker says to the frame on a channel of its own; the queue and the exchange of its name are new. */
  async function answerTo(frame: Buffer): Promise<string> {
    await using client = await RawClient.connect(broker.port);
    await client.channels(1, 2, 3);
    await client.ask(queueDelete(2, 'q'));
    await client.ask(queueDeclare({ channel: 3, name: 'there', flags: DURABLE }));
    const answer = await client.ask(frame);
    if (!answer.startsWith('connection.close')) await client.close();
    return answer;
  }

  it.each(USAGES.filter((usage) => usage !== 'small-frame-max'))(
    'a client without the proxy gets what the table says of %s',
    async (usage) => {
      const { effect, what } = verdictOn(usage, target);
      for (const frame of FRAMES[usage]) {
        expect(usagesOf(frame.readUInt32BE(7), frame)).toContain(usage);
        expect(await answerTo(frame)).toMatch(effect === 'breaks' ? refusalOf(what) : /-ok\b/);
      }
    },
  );

  it('a client without the proxy gets what the table says of small-frame-max', async () => {
    const connecting = async () => {
      const connection = await amqplib.connect(`${broker.url}?frameMax=4096`);
      await connection.close();
    };
    const { effect } = verdictOn('small-frame-max', target);
    await expect(
      connecting().then(
        () => 'let in',
        () => 'refused',
      ),
    ).resolves.toBe(effect === 'breaks' ? 'refused' : 'let in');
  });

  it.each(HARMLESS)('takes %s, which the table does not know', async (_name, frame) => {
    expect(usagesOf(frame.readUInt32BE(7), frame)).toEqual([]);
    expect(await answerTo(frame)).toMatch(/-ok\b/);
  });

  describe('a client whose declares went through the proxy', () => {
    it('is refused without it, with 406', async () => {
      await using client = await RawClient.connect(broker.port);
      await client.channels(1, 2);
      expect(await client.ask(queueDeclare({ name: 'made', flags: DURABLE, entries: [QUORUM] }))).toMatch(
        /-ok\b/,
      );
      expect(await client.ask(queueDeclare({ name: 'made', flags: DURABLE }))).toMatch(
        /^channel\.close 406 PRECONDITION_FAILED - inequivalent arg 'x-queue-type'/,
      );
      expect(await client.ask(exchangeDeclare({ channel: 2, name: 'made', flags: DURABLE }))).toMatch(
        /-ok\b/,
      );
      expect(await client.ask(exchangeDeclare({ channel: 2, name: 'made' }))).toMatch(
        /^channel\.close 406 PRECONDITION_FAILED - inequivalent arg 'durable'/,
      );
    });
  });
});
