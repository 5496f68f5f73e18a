// What goes wrong for one client in pool mode is told to it as the broker tells it, and reaches nobody else.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { basicConsume, encodeTable, entry, longstr, method, queueDeclare } from '../support/amqp-frames.ts';
import { basicAck, basicPublish, channelCloseOk, confirmSelect, queueBind } from '../support/amqp-methods.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { type Offence, OFFENCES } from '../support/offences.ts';
import { connectPeer } from '../support/peers.ts';
import { counted, useProxiedBroker } from '../support/proxied-broker.ts';
import { RawClient, type RawOptions } from '../support/raw-client.ts';
import {
  Bystander,
  QUICK_MANAGEMENT,
  quorumQueue,
  SEEN_MS,
  SharedUpstream,
} from '../support/shared-upstream.ts';

const IDLE_SECONDS = 2;
const POOL = { mode: 'pool', poolIdleTimeout: String(IDLE_SECONDS) };
const PASSIVE = 1;
const DURABLE = 2;
const QUORUM = entry('x-queue-type', longstr('quorum'));
const EVERYTHING = { configure: '.*', write: '.*', read: '.*' };

/** What the broker closes a channel for, and what it says then. */
const CHANNEL_ERRORS: readonly (readonly [name: string, frames: Buffer, said: string])[] = [
  [
    '404: a publish to an exchange that is not there',
    basicPublish(1, 'x', 'x', { exchange: 'x' }),
    '404 NOT_FOUND',
  ],
  ['404: a queue that is not there', queueDeclare({ name: 'gone', flags: PASSIVE }), '404 NOT_FOUND'],
  ['404: a consumer of no queue', basicConsume({ name: 'gone' }), '404 NOT_FOUND'],
  ['404: a binding to no exchange', queueBind(1, 'there', 'gone', 'key'), '404 NOT_FOUND'],
  [
    '406: a queue that is there with other arguments',
    queueDeclare({
      name: 'there',
      flags: DURABLE,
      entries: [QUORUM, entry('x-message-ttl', { tag: 'I', value: 9000 })],
    }),
    '406 PRECONDITION_FAILED',
  ],
  ['406: an ack of nothing', basicAck(1, 7), '406 PRECONDITION_FAILED'],
  ['406: tx.commit without tx.select', method(1, 90, 20), '406 PRECONDITION_FAILED'],
  [
    '406: confirms on a channel with transactions',
    Buffer.concat([method(1, 90, 10), confirmSelect(1)]),
    '406 PRECONDITION_FAILED',
  ],
  [
    "403: a queue of the broker's own names",
    queueDeclare({ name: 'amq.mine', flags: DURABLE }),
    '403 ACCESS_REFUSED',
  ],
];

/** The response of AMQPLAIN: a table without its length. */
function amqplain(login: string, password: string): Buffer {
  return encodeTable([entry('LOGIN', longstr(login)), entry('PASSWORD', longstr(password))]).subarray(4);
}

/** The reply code and the method at fault of `connection.close 504 CHANNEL_ERROR - … (50.10)`. */
function codeOf(told: string): string {
  return told.replace(/^(\S+ \d+) .* (\([\d.]+\))$/s, '$1 $2');
}

/** What a client heard, where that isn't what it should be told; else an empty text. */
function unlike(heard: string, told: Offence['told'], direct: string): string {
  const right =
    told instanceof RegExp
      ? told.test(heard)
      : heard === direct || (told === 'with its code' && codeOf(heard) === codeOf(direct));
  return right ? '' : `${heard}, and not ${told instanceof RegExp ? told.source : direct}`;
}

await describeBrokers(['4.0', '4.3'], (version) => {
  const served = useProxiedBroker(
    version,
    { advanced: QUICK_MANAGEMENT, plugins: ['rabbitmq_auth_mechanism_ssl'] },
    POOL,
  );

  /** Whether a client is let in, or what it hears instead. */
  async function attempt(port: number, options: RawOptions): Promise<string> {
    try {
      const client = await RawClient.connect(port, options);
      await client.close();
      return 'let in';
    } catch (error) {
      return (error as Error).message;
    }
  }

  describe('a login', () => {
    const sasl = (mechanism: string, response: string | Buffer): RawOptions => ({
      sasl: { mechanism, response: Buffer.from(response) },
    });

    it('is answered as the broker answers it, whoever else is connected', async () => {
      await using other = await RawClient.connect(served.through);
      await other.channels(1);
      await other.ask(quorumQueue(1, 'login'));
      const cases: [who: string, options: RawOptions][] = [
        ['a right password', {}],
        ['a wrong password', { password: 'wrong' }],
        ['an unknown user', { user: 'nobody' }],
        ['AMQPLAIN', sasl('AMQPLAIN', amqplain('guest', 'guest'))],
        ['AMQPLAIN with a wrong password', sasl('AMQPLAIN', amqplain('guest', 'wrong'))],
        ['PLAIN that is none', sasl('PLAIN', 'no separators')],
        ['PLAIN as the EXTERNAL of guest', sasl('EXTERNAL', '\0guest\0guest')],
        ['EXTERNAL', sasl('EXTERNAL', '')],
        ['ANONYMOUS', sasl('ANONYMOUS', 'me')],
        ['a mechanism that there is none of', sasl('NOSUCH', 'x')],
        ['an unknown virtual host', { virtualHost: 'nowhere' }],
      ];
      const answers = async (port: number) =>
        Promise.all(
          cases.flatMap(([who, options]) =>
            [true, false].map(async (failureClose) => [
              who,
              failureClose,
              await attempt(port, { ...options, failureClose }),
            ]),
          ),
        );
      const [direct, through] = await Promise.all([answers(served.direct), answers(served.through)]);
      expect(through).toEqual(direct);
      // All kinds of answers have been there.
      for (const [who, told, answer] of [
        ['a right password', true, 'let in'],
        ['a wrong password', true, expect.stringContaining('403 ACCESS_REFUSED - Login was refused using')],
        ['a wrong password', false, 'closed'],
        ['EXTERNAL', true, 'closed'],
        [
          'an unknown virtual host',
          true,
          expect.stringContaining('530 NOT_ALLOWED - vhost nowhere not found'),
        ],
      ])
        expect(through).toContainEqual([who, told, answer]);
    });

    it('with the right password again does not ask the broker, and a wrong one is refused meanwhile', async () => {
      await using first = await RawClient.connect(served.through);
      const proven = () => counted(served.proxy, 'quorumbridge_proxy_pool_logins_total{result="proven"}');
      const before = await proven();
      for (let i = 0; i < 5; i++) {
        expect(await attempt(served.through, {})).toBe('let in');
        expect(await attempt(served.through, { password: `guest${i}` })).toMatch(/403 ACCESS_REFUSED/);
      }
      expect((await proven()) - before).toBeLessThanOrEqual(1);
      await first.close();
    });

    it('to a virtual host that the user may not see is refused, with others of that user elsewhere', async () => {
      await served.broker.management.setUser('narrow', 'narrow');
      await served.broker.management.permit('narrow', EVERYTHING);
      const hidden = await SharedUpstream.make(served.broker, 'hidden');
      const narrow = { user: 'narrow', password: 'narrow' };
      await using here = await RawClient.connect(served.through, narrow);
      await using guest = await RawClient.connect(served.through, { virtualHost: hidden.virtualHost });
      const there = { ...narrow, virtualHost: hidden.virtualHost };
      const direct = await attempt(served.direct, there);
      expect(direct).toMatch(/^connection.close 530 NOT_ALLOWED - /);
      expect(await attempt(served.through, there)).toBe(direct);
      for (const client of [here, guest]) await client.channels(1);
    });

    it('with the password of before a change is refused within the idle timeout, whatever is still open', async () => {
      const { management } = served.broker;
      await management.setUser('changing', 'before');
      await management.permit('changing', EVERYTHING);
      const before = { user: 'changing', password: 'before' };
      await using earlier = await RawClient.connect(served.through, before);
      await earlier.channels(1);
      expect(await earlier.ask(queueDeclare({ name: 'login', flags: PASSIVE }))).toMatch(/^queue.declare-ok/);
      await management.setUser('changing', 'after');
      const changedAt = Date.now();
      expect(await attempt(served.through, { ...before, password: 'after' })).toBe('let in');
      await expect
        .poll(async () => attempt(served.through, before), { timeout: 10_000, interval: 200 })
        .toMatch(/403 ACCESS_REFUSED/);
      expect(Date.now() - changedAt).toBeLessThan(IDLE_SECONDS * 1000 + 1500);
      for (let i = 0; i < 3; i++) expect(await attempt(served.through, before)).toMatch(/403 ACCESS_REFUSED/);
      // As with the broker itself, who is in stays in.
      expect(await earlier.ask(queueDeclare({ name: 'login', flags: PASSIVE }))).toMatch(/^queue.declare-ok/);
    });

    it.each([
      ['AMQP 0-10', 'AMQP\x01\x01\0\x0a'],
      ['AMQP 1.0', 'AMQP\0\x01\0\0'],
      ['AMQP 1.0 with SASL', 'AMQP\x03\x01\0\0'],
      ['AMQP 0-9-2, which there is none of', 'AMQP\0\0\x09\x02'],
      ['HTTP', 'GET / HTTP/1.1\r\n\r\n'],
    ])('that begins with the header of %s is told the one that is spoken', async (_name, header) => {
      const peer = await connectPeer(served.through);
      peer.write(Buffer.from(header, 'latin1'));
      await peer.until('the end', ({ ended, closed }) => ended || closed);
      expect(peer.received.toString('latin1')).toBe('AMQP\0\0\x09\x01');
      peer.socket.destroy();
    });
  });

  describe('among clients that share a connection', () => {
    let shared: SharedUpstream;
    let connection: string;
    const bystanders: Bystander[] = [];

    beforeAll(async () => {
      shared = await SharedUpstream.make(served.broker, 'shared');
      const { virtualHost } = shared;
      await using first = await RawClient.connect(served.through, { virtualHost });
      await first.channels(1);
      await first.ask(quorumQueue(1, 'there'));
      for (const name of ['bystander 1', 'bystander 2'])
        bystanders.push(await Bystander.start(served.through, name, { virtualHost, name }));
      connection = await shared.only();
    });
    afterAll(async () => {
      for (const bystander of bystanders) await bystander[Symbol.asyncDispose]();
    });

    /** A client that has done something on channel 1. */
    async function client(port: number, name: string): Promise<RawClient> {
      const connected = await RawClient.connect(port, {
        virtualHost: shared.virtualHost,
        channelMax: 20,
        name,
      });
      await connected.channels(1);
      const answer = await connected.ask(queueDeclare({ name: 'there', flags: PASSIVE }));
      if (!answer.startsWith('queue.declare-ok there')) throw new Error(answer);
      return connected;
    }

    async function expectOthersWork(): Promise<void> {
      await Promise.all(bystanders.map((bystander) => bystander.goesOn()));
    }

    /** Whether the broker has the shared connection, and so many others. */
    async function expectConnectionsBeside(others: number): Promise<void> {
      await expect
        .poll(
          async () => {
            const names = await shared.connections();
            return [names.includes(connection), names.length - 1];
          },
          { timeout: SEEN_MS },
        )
        .toEqual([true, others]);
    }

    /** What a client hears of its channel or its connection when it sends this. */
    async function toldOf(port: number, frames: Buffer, channel: number, name: string): Promise<string> {
      await using offender = await client(port, name);
      offender.send(frames);
      for (;;) {
        const heard = await offender.hear(channel);
        if (/^(channel\.close|connection\.close|closed)\b/.test(heard)) return heard;
      }
    }

    it.each(CHANNEL_ERRORS)('%s: closes that channel and nothing else', async (name, frames, said) => {
      const direct = await toldOf(served.direct, frames, 1, name);
      expect(direct).toContain(`channel.close ${said} - `);
      await using offender = await client(served.through, name);
      await offender.channels(2);
      await expectConnectionsBeside(0);
      offender.send(frames);
      const tx = 'tx.select-ok';
      const heard = await offender.hear(1);
      expect(heard === tx ? await offender.hear(1) : heard).toBe(direct);
      await expectOthersWork();
      // Its other channel goes on, and the number can be used again.
      const asked = queueDeclare({ channel: 2, name: 'there', flags: PASSIVE });
      expect(await offender.ask(asked)).toMatch(/^queue\.declare-ok there/);
      offender.send(channelCloseOk(1));
      await offender.channels(1);
      expect(await offender.ask(basicPublish(1, 'there', 'x', { exchange: 'gone' }))).toMatch(
        /^channel\.close 404/,
      );
      await expectOthersWork();
      await expectConnectionsBeside(0);
    });

    it.each(OFFENCES.map((offence) => [offence.name, offence] as const))(
      '%s: ends that client alone',
      async (name, { frames, told, isStopped }) => {
        const direct = told instanceof RegExp ? '' : await toldOf(served.direct, frames, 0, name);
        await expectConnectionsBeside(0);
        expect(unlike(await toldOf(served.through, frames, 0, name), told, direct)).toBe('');
        await expectOthersWork();
        await expectConnectionsBeside(0);

        // From now on it may do so to itself.
        await using again = await client(served.through, name);
        await expectConnectionsBeside(isStopped === true ? 0 : 1);
        again.send(frames);
        await again.close();
        await expectOthersWork();
        await expectConnectionsBeside(0);
      },
    );
  });
});
