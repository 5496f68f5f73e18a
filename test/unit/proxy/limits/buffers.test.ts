import { beforeEach, describe, expect, it } from 'vitest';
import { Buffers, type BufferLimits, type Holder } from '../../../../proxy/limits/buffers.ts';
import type { State } from '../../../../proxy/deadline.ts';

/** A connection that holds what the test says. */
class FakeHolder implements Holder {
  state: State = 'open';
  bufferedForClient = 0;
  bufferedForBroker = 0;
  told: string | undefined;

  get owed(): number {
    return this.bufferedForClient;
  }

  fail(_code: string, replyCode: number, text: string): void {
    this.state = 'closing';
    this.told = `${replyCode} ${text}`;
  }
}

const NONE: BufferLimits = { enforce: true, bufferPerClient: 0, buffer: 0 };

let hits: string[];
let holders: FakeHolder[];
let now: number;

beforeEach(() => {
  hits = [];
  holders = [new FakeHolder(), new FakeHolder(), new FakeHolder()];
  now = 0;
});

function buffersWith(limits: Partial<BufferLimits>): Buffers {
  const given = { ...NONE, ...limits };
  return new Buffers(given, (limit) => {
    hits.push(limit);
    return given.enforce;
  });
}

/** Looks at connections that hold so much for the broker each, and nothing for their clients. */
function look(buffers: Buffers, ...forBroker: number[]): void {
  for (const [i, holder] of holders.entries()) holder.bufferedForBroker = forBroker[i] ?? 0;
  now += 250;
  buffers.look(holders, 0, now);
}

describe('what is held for all clients', () => {
  it('is added up: of each, and what is nobody’s alone', () => {
    holders[0]!.bufferedForClient = 1;
    holders[1]!.bufferedForClient = 20;
    holders[1]!.bufferedForBroker = 300;
    expect(buffersWith({}).look(holders, 4000, 0)).toEqual({ forClients: 21, forBroker: 4300 });
    expect(hits).toEqual([]);
  });

  it('is too much above the limit, until it is four fifths of it', () => {
    const buffers = buffersWith({ buffer: 1000 });
    const seen = [900, 1000, 1001, 1000, 900, 801, 800, 1000].map((octets) => {
      look(buffers, octets);
      return buffers.isFull;
    });
    expect(seen).toEqual([false, false, true, true, true, true, false, false]);
    expect(hits).toEqual(['max-buffer']);
  });

  it('lets go who has waited for room, and not who is gone', () => {
    const buffers = buffersWith({ buffer: 1000 });
    look(buffers, 600, 600);
    const went: string[] = [];
    const [one, other] = [{}, {}];
    buffers.wait(one, () => went.push('one'));
    buffers.wait(one, () => went.push('one again'));
    buffers.wait(other, () => went.push('other'));
    buffers.leave(other);
    look(buffers, 600, 300);
    expect(went).toEqual([]);
    look(buffers, 600);
    expect(went).toEqual(['one again']);
  });

  it('is counted only, where nothing is done about it', () => {
    const buffers = buffersWith({ buffer: 1000, enforce: false });
    for (const octets of [2000, 2000, 500, 2000]) look(buffers, octets);
    expect(buffers.isFull).toBe(false);
    expect(hits).toEqual(['max-buffer', 'max-buffer']);
  });

  it.each([
    ['there is no limit any more', NONE],
    ['it is counted only from now on', { ...NONE, buffer: 1000, enforce: false }],
  ])('lets all go at once where %s', (_name, limits) => {
    const buffers = buffersWith({ buffer: 1000 });
    look(buffers, 2000);
    let isWaiting = true;
    buffers.wait({}, () => (isWaiting = false));
    buffers.use(limits);
    expect([buffers.isFull, isWaiting]).toEqual([false, false]);
  });

  /** Looks for so many seconds. */
  const wait = (buffers: Buffers, seconds: number): void => {
    for (let i = 0; i < seconds * 4; i++) buffers.look(holders, 0, (now += 250));
  };

  it('ends those that most waits for when it has not become less for 10 seconds, and no more than it takes', () => {
    const buffers = buffersWith({ buffer: 1000 });
    for (const [i, octets] of [300, 700, 400].entries()) holders[i]!.bufferedForClient = octets;
    wait(buffers, 9);
    expect(holders.map(({ state }) => state)).toEqual(['open', 'open', 'open']);
    wait(buffers, 2);
    expect(holders.map(({ told }) => told)).toEqual([
      undefined,
      '320 the proxy holds more than 1000 octets for its clients (--max-buffer), and 700 of them have waited for this client for long',
      undefined,
    ]);
    expect(hits).toEqual(['max-buffer', 'max-buffer']);
    // It goes on holding until it has ended: that is no reason to end others.
    wait(buffers, 5);
    holders.splice(1, 1);
    wait(buffers, 20);
    expect(holders.map(({ state }) => state)).toEqual(['open', 'open']);
    expect(buffers.isFull).toBe(false);
  });

  it('ends nobody while it becomes less, however slowly', () => {
    const buffers = buffersWith({ buffer: 1000 });
    holders[0]!.bufferedForClient = 2000;
    for (let i = 0; i < 12; i++) {
      holders[0]!.bufferedForClient -= 10;
      wait(buffers, 8);
    }
    expect(holders[0]!.state).toBe('open');
    expect(buffers.isFull).toBe(true);
  });

  it('ends nobody for what the broker does not take', () => {
    const buffers = buffersWith({ buffer: 1000 });
    look(buffers, 300, 300, 300);
    holders[0]!.bufferedForClient = 5000;
    wait(buffers, 30);
    expect(holders.map(({ state }) => state)).toEqual(['open', 'open', 'open']);
    expect(buffers.isFull).toBe(true);
    holders[2]!.bufferedForBroker = 0;
    wait(buffers, 11);
    expect(holders.map(({ state }) => state)).toEqual(['closing', 'open', 'open']);
  });
});

describe('what is held of one client', () => {
  it('ends it when it is above the limit, once', () => {
    const buffers = buffersWith({ bufferPerClient: 100 });
    look(buffers, 100, 101, 99);
    expect(holders.map(({ told }) => told)).toEqual([
      undefined,
      '320 101 octets are held of the client, more than 100 (--max-buffer-per-client)',
      undefined,
    ]);
    look(buffers, 100, 101, 99);
    expect(hits).toEqual(['max-buffer-per-client']);
  });

  it('ends it between two looks, too', () => {
    const buffers = buffersWith({ bufferPerClient: 100 });
    buffers.check(holders[0]!, 100);
    expect(holders[0]!.state).toBe('open');
    buffers.check(holders[0]!, 101);
    expect(holders[0]!.told).toContain('101 octets');
  });

  it('is counted once each time that it goes above the limit, where nothing is done about it', () => {
    const buffers = buffersWith({ bufferPerClient: 100, enforce: false });
    buffers.check(holders[0]!, 200);
    buffers.check(holders[0]!, 300);
    look(buffers, 200);
    look(buffers, 300, 200);
    expect(hits).toHaveLength(2);
    look(buffers, 0, 200);
    look(buffers, 200, 200);
    expect(hits).toHaveLength(3);
    expect(holders.map(({ state }) => state)).toEqual(['open', 'open', 'open']);
  });
});
