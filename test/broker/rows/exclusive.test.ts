// What one connection, or one consumer, has for itself: section 2 and rows 5.5 and 11.2 of the table of what brokers answer to
// legacy clients.
import { describe, expect, it } from 'vitest';
import { basicConsume, entry, longstr, queueDeclare } from '../../support/amqp-frames.ts';
import {
  basicCancel,
  basicGet,
  basicPublish,
  channelClose,
  channelCloseOk,
  queueBind,
  queueDelete,
  queuePurge,
} from '../../support/amqp-methods.ts';
import { CONSUMER_ENDS } from '../../support/consumer-ends.ts';
import { describeBrokers } from '../../support/describe-brokers.ts';
import { useProxiedBroker } from '../../support/proxied-broker.ts';
import { RawClient } from '../../support/raw-client.ts';

const PASSIVE = 1;
const DURABLE = 2;
const EXCLUSIVE = 4;
const AUTO_DELETE = 8;
const EXCLUSIVE_CONSUMER = 4;
const QUORUM = entry('x-queue-type', longstr('quorum'));

/** What deletions take at most. */
const SOON = { timeout: 8000, interval: 100 };

const LOCKED = (name: string) =>
  `channel.close 405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '${name}' in vhost '/'. ` +
  'It could be originally declared on another connection or the exclusive property value does not match that of the ' +
  'original declaration.';

await describeBrokers(['3.10', '4.0', '4.3'], (version) => {
  const at = useProxiedBroker(version);

  async function client(port = at.through): Promise<RawClient> {
    const opened = await RawClient.connect(port);
    await opened.channels(1);
    return opened;
  }

  async function declared(raw: RawClient, frame: Buffer): Promise<void> {
    expect(await raw.ask(frame)).toMatch(/^queue\.declare-ok /);
  }

  /** Whether the broker has a queue of that name. */
  async function exists(name: string): Promise<boolean> {
    await using witness = await client(at.direct);
    return !(await witness.ask(queueDeclare({ name, flags: PASSIVE }))).startsWith('channel.close 404 ');
  }

  async function consumes(owner: RawClient, name: string): Promise<void> {
    expect(await owner.ask(basicConsume({ name, tag: 'c', flags: 2 }))).toBe('basic.consume-ok c');
  }

  describe('2 an exclusive queue', () => {
    it('2.1 is locked to all other connections, whatever they do, and they may publish to it', async () => {
      const transcripts: string[][] = [];
      for (const port of [at.direct, at.through]) {
        const name = 'locked';
        await using owner = await client(port);
        expect(await owner.ask(queueDeclare({ name, flags: EXCLUSIVE }))).toBe(
          `queue.declare-ok ${name} 0 0`,
        );
        await consumes(owner, name);
        await using other = await client(port);
        const answers: string[] = [];
        for (const frame of [
          queueDeclare({ name }),
          queueDeclare({ name, flags: EXCLUSIVE }),
          queueDeclare({ name, flags: PASSIVE }),
          basicConsume({ name }),
          basicGet(1, name),
          queueBind(1, name, 'amq.direct', 'k'),
          queuePurge(1, name),
          queueDelete(1, name),
        ]) {
          const answer = await other.ask(frame);
          expect(answer.startsWith(LOCKED(name))).toBe(true);
          answers.push(answer);
          other.send(channelCloseOk(1));
          await other.channels(1);
        }
        other.send(basicPublish(1, name, 'for the owner'));
        expect(await owner.hear(1)).toBe('basic.deliver c 1 0 for the owner');
        transcripts.push(answers);
        await owner.close();
        await expect.poll(() => exists(name), SOON).toBe(false);
      }
      expect(transcripts[1]).toEqual(transcripts[0]);
    });

    it('2.2 may be declared again by its owner, durable or not, and not as one that is not exclusive', async () => {
      await using owner = await client();
      const name = 'own';
      for (const flags of [EXCLUSIVE, EXCLUSIVE | DURABLE, EXCLUSIVE])
        expect(await owner.ask(queueDeclare({ name, flags }))).toBe(`queue.declare-ok ${name} 0 0`);
      expect(await owner.ask(queueDeclare({ name }))).toBe(`${LOCKED(name)} (50.10)`);
    });

    it('stays when a channel of its owner is closed, and goes with the connection', async () => {
      const owner = await client();
      const name = 'of a connection';
      expect(await owner.ask(queueDeclare({ name, flags: EXCLUSIVE }))).toMatch(/^queue\.declare-ok/);
      expect(await owner.ask(channelClose(1))).toBe('channel.close-ok');
      await owner.channels(2);
      expect(await owner.ask(queueDeclare({ channel: 2, name, flags: PASSIVE }))).toMatch(
        /^queue\.declare-ok/,
      );
      await owner.close();
      await expect.poll(() => exists(name), SOON).toBe(false);
    });

    it('exclusive and auto-delete: goes with its last consumer, while its connection stays', async () => {
      await using owner = await client();
      const name = 'exclusive auto-delete';
      const flags = EXCLUSIVE | AUTO_DELETE;
      expect(await owner.ask(queueDeclare({ name, flags }))).toMatch(/^queue\.declare-ok/);
      await consumes(owner, name);
      expect(await owner.ask(basicCancel(1, 'c'))).toBe('basic.cancel-ok c');
      await expect.poll(() => exists(name), SOON).toBe(false);
    });

    /** How many of so many connections that wait for the end of the one before met its lock. */
    async function locks(
      port: number,
      tries: number,
      end: (owner: RawClient) => Promise<void>,
    ): Promise<number> {
      const name = `again and again at ${port}`;
      let locked = 0;
      for (let i = 0; i < tries; i++) {
        const owner = await client(port);
        expect(await owner.ask(queueDeclare({ name, flags: EXCLUSIVE }))).toBe(
          `queue.declare-ok ${name} 0 0`,
        );
        // One that is open already comes at once; 3.10 isn't that fast either after a reset.
        const early = version === '3.10' ? undefined : await client(port);
        await end(owner);
        const next = early ?? (await client(port));
        const answer = await next.ask(queueDeclare({ name, flags: EXCLUSIVE }));
        expect([`${LOCKED(name)} (50.10)`, `queue.declare-ok ${name} 0 0`]).toContain(answer);
        if (answer.startsWith('channel.close')) locked++;
        await next.close();
        await expect.poll(() => exists(name), { ...SOON, interval: 5 }).toBe(false);
      }
      return locked;
    }
    const gracefully = (owner: RawClient) => owner.close();
    const abruptly = async (owner: RawClient) => {
      owner.reset();
      await Promise.resolve();
    };

    it('2.3 its name is free at once for the connection that comes after a TCP reset', async () => {
      expect(await locks(at.through, 30, abruptly)).toBe(0);
    });

    it('11.2 its name is free at once for the connection that comes after a graceful close', async () => {
      expect(await locks(at.through, 60, gracefully)).toBe(0);
    });

    if (version !== '3.10') {
      it('2.3 directly, the broker still has it locked after a TCP reset', async () => {
        expect(await locks(at.direct, 12, abruptly)).toBeGreaterThan(0);
      });
    }

    if (version === '4.3') {
      it('11.2 directly, the broker still has it locked after a graceful close', async () => {
        expect(await locks(at.direct, 12, gracefully)).toBeGreaterThan(0);
      });
    }
  });

  describe('5.5 an exclusive consumer', () => {
    const REFUSED = (name: string) =>
      `channel.close 403 ACCESS_REFUSED - queue '${name}' in vhost '/' in exclusive use (60.20)`;

    /** What clients hear that consume from a queue that has an exclusive consumer, and from one that gets one too late. */
    async function transcript(port: number, name: string, declare: Buffer): Promise<string[]> {
      await using owner = await client(port);
      await declared(owner, declare);
      const heard: string[] = [];
      heard.push(await owner.ask(basicConsume({ name, tag: 'first', flags: EXCLUSIVE_CONSUMER })));
      for (const flags of [0, EXCLUSIVE_CONSUMER]) {
        await using other = await client(port);
        await other.channels(2);
        heard.push(await other.ask(basicConsume({ name, tag: 'second', flags })));
        // What is sent to the closed channel before the client knows is not heard; the others are untouched.
        other.send(basicPublish(1, name, 'to a closed channel'), channelCloseOk(1));
        heard.push(await other.ask(queueDeclare({ channel: 2, name, flags: 1 })));
        await other.channels(1);
        heard.push(await other.ask(queueDeclare({ name, flags: 1 })));
      }
      await owner.channels(2);
      heard.push(await owner.ask(basicConsume({ channel: 2, name, tag: 'third' })));
      owner.send(channelCloseOk(2));
      heard.push(await owner.ask(basicCancel(1, 'first')));
      heard.push(await owner.ask(basicConsume({ name, tag: 'shared' })));
      heard.push(await owner.ask(basicConsume({ name, tag: 'late', flags: EXCLUSIVE_CONSUMER })));
      return heard;
    }

    function expected(name: string): string[] {
      const passive = `queue.declare-ok ${name} 0 1`;
      return [
        'basic.consume-ok first',
        ...[0, 1].flatMap(() => [REFUSED(name), passive, passive]),
        REFUSED(name),
        'basic.cancel-ok first',
        'basic.consume-ok shared',
        REFUSED(name),
      ];
    }

    it('keeps all others out through the proxy, and is kept out where there is one', async () => {
      const name = 'alone';
      expect(await transcript(at.through, name, queueDeclare({ name }))).toEqual(expected(name));
    });

    it('does so as a classic queue has it', async () => {
      const name = 'classic';
      expect(await transcript(at.direct, name, queueDeclare({ name, flags: DURABLE }))).toEqual(
        expected(name),
      );
    });

    it('shares a quorum queue without the proxy', async () => {
      const name = 'shared by quorum';
      await using direct = await client(at.direct);
      await declared(direct, queueDeclare({ name, flags: DURABLE, entries: [QUORUM] }));
      for (const tag of ['first', 'second'])
        expect(await direct.ask(basicConsume({ name, tag, flags: EXCLUSIVE_CONSUMER }))).toBe(
          `basic.consume-ok ${tag}`,
        );
    });

    const ends: typeof CONSUMER_ENDS = [
      ...CONSUMER_ENDS,
      [
        'loses its queue',
        async (owner) => {
          await using other = await client();
          expect(await other.ask(queueDelete(1, 'freed'))).toMatch(/^queue\.delete-ok/);
          expect(await owner.hear(1)).toBe('basic.cancel c');
          await declared(other, queueDeclare({ name: 'freed' }));
        },
      ],
    ];

    it.each(ends)('leaves its queue free when it %s', async (_how, end) => {
      const name = 'freed';
      const owner = await client();
      await declared(owner, queueDeclare({ name }));
      const exclusive = (tag: string) => basicConsume({ name, tag, flags: EXCLUSIVE_CONSUMER });
      expect(await owner.ask(exclusive('c'))).toBe('basic.consume-ok c');
      await using next = await client();
      expect(await next.ask(exclusive('next'))).toBe(REFUSED(name));
      next.send(channelCloseOk(1));
      await next.channels(1);
      await end(owner);
      const deadline = Date.now() + 5000;
      let answer = await next.ask(exclusive('next'));
      while (answer === REFUSED(name) && Date.now() < deadline) {
        next.send(channelCloseOk(1));
        await next.channels(1);
        answer = await next.ask(exclusive('next'));
      }
      expect(answer).toBe('basic.consume-ok next');
      await next.close();
      owner.reset();
    });
  });
});
