import { describe, expect, it } from 'vitest';
import { encodeBody, TrafficCheck } from '../../support/traffic-check.ts';

/** A publisher of three messages with confirms, all of them confirmed, and a receiver of their queue. */
function threeConfirmed() {
  const check = new TrafficCheck();
  const publisher = check.publisher('p', 'q', { confirms: true });
  const bodies = [publisher.next(), publisher.next(5), publisher.next(200_000)];
  publisher.answered(3, true, true);
  return { check, publisher, bodies, receiver: check.receiver('r', 'q') };
}

describe('TrafficCheck', () => {
  it('finds no fault where all arrive once and in order', () => {
    const { check, bodies, receiver } = threeConfirmed();
    for (const body of bodies) receiver.got(body, false)!.settle();
    expect(check.conclude()).toEqual([]);
    expect(check.tally).toEqual({
      published: 3,
      confirmed: 3,
      nacked: 0,
      promised: 3,
      arrived: 3,
      redelivered: 0,
    });
  });

  it('finds none where messages come again, flagged, before their acknowledgement, at whatever place', () => {
    const { check, bodies, receiver } = threeConfirmed();
    const other = check.receiver('other', 'q');
    for (const body of bodies) receiver.got(body, false);
    for (const at of [2, 0, 1]) other.got(bodies[at]!, true)!.settle();
    expect(check.conclude()).toEqual([]);
    expect(check.tally.redelivered).toBe(3);
  });

  it('finds none where what was refused, or promised to nobody, is missing or not', () => {
    const check = new TrafficCheck();
    const refused = check.publisher('refused', 'q', { confirms: true });
    const plain = check.publisher('plain', 'q');
    const receiver = check.receiver('r', 'q');
    for (const publisher of [refused, plain]) {
      receiver.got(publisher.next(), false);
      publisher.next();
    }
    refused.answered(2, true, false);
    expect([refused.missing, plain.missing, refused.unanswered, plain.unanswered]).toEqual([[2], [2], 0, 0]);
    expect(check.conclude()).toEqual([]);
  });

  it('finds what is lost after its confirm', () => {
    const { check, bodies, receiver } = threeConfirmed();
    receiver.got(bodies[0]!, false);
    receiver.got(bodies[2]!, false);
    expect(check.conclude()).toEqual(['lost: p 2, confirmed']);
  });

  it('finds what is lost after its commit', () => {
    const check = new TrafficCheck();
    const publisher = check.publisher('p', 'q');
    publisher.next();
    publisher.owe();
    expect(check.conclude()).toEqual(['lost: p 1']);
  });

  it('finds what arrives after its rollback, and nothing where what was behind it arrives', () => {
    const check = new TrafficCheck();
    const publisher = check.publisher('p', 'q');
    const receiver = check.receiver('r', 'q');
    const rolledBack = publisher.next();
    publisher.forbid();
    const committed = publisher.next();
    publisher.owe(1);
    receiver.got(rolledBack, false);
    receiver.got(committed, false);
    expect(check.conclude()).toEqual(['rolled back: p 1 at r']);
  });

  it('finds what comes twice without the flag, at one receiver or two', () => {
    const { check, bodies, receiver } = threeConfirmed();
    for (const body of bodies) receiver.got(body, false);
    receiver.got(bodies[2]!, false);
    check.receiver('other', 'q').got(bodies[0]!, false);
    expect(check.conclude()).toEqual([
      'doubled: p 3 at r without the flag, as at r',
      'doubled: p 1 at other without the flag, as at r',
    ]);
  });

  it.each([true, false])(
    'finds what comes to a receiver that came after its end (flagged: %s)',
    (flagged) => {
      const { check, bodies, receiver } = threeConfirmed();
      for (const body of bodies) receiver.got(body, !flagged)!.settle();
      check.receiver('late', 'q').got(bodies[1]!, flagged);
      expect(check.conclude()).toEqual(['settled: p 2 at late, acknowledged at r']);
    },
  );

  it('finds none where a copy that was given out again overtakes the first one, and is done with', () => {
    const { check, bodies, receiver } = threeConfirmed();
    const other = check.receiver('other', 'q');
    for (const body of bodies) other.got(body, true)!.settle();
    for (const body of bodies) receiver.got(body, false);
    expect(check.conclude()).toEqual([]);
  });

  it('finds what arrives out of another queue', () => {
    const { check, bodies, receiver } = threeConfirmed();
    for (const body of bodies.slice(1)) receiver.got(body, false);
    check.receiver('stranger', 'not q').got(bodies[0]!, false);
    expect(check.conclude()).toEqual(['crossed: "q\\np\\n1\\n" at stranger, which reads not q']);
  });

  it('finds what comes behind a later one, per publisher', () => {
    const { check, bodies, receiver } = threeConfirmed();
    const second = check.publisher('second', 'q');
    receiver.got(bodies[0]!, false);
    receiver.got(bodies[2]!, false);
    receiver.got(second.next(), false);
    receiver.got(bodies[1]!, false);
    expect(check.conclude()).toEqual(['order: p 2 at r behind 3']);
  });

  it.each<[what: string, (body: Buffer) => Buffer]>([
    ['cut off', (body) => body.subarray(0, -1)],
    ['too long', (body) => Buffer.concat([body, body.subarray(-1)])],
    ['changed by one bit', (body) => Buffer.concat([body.subarray(0, -1), Buffer.of(body.at(-1)! ^ 1)])],
    ['no message at all', () => Buffer.from('hello')],
  ])('finds a body that is %s', (_what, damage) => {
    const { check, bodies, receiver } = threeConfirmed();
    receiver.got(bodies[0]!, false);
    expect(receiver.got(damage(bodies[1]!), false)).toBeUndefined();
    receiver.got(bodies[2]!, false);
    expect(check.conclude()).toEqual([expect.stringMatching(/^damaged: .* at r/), 'lost: p 2, confirmed']);
  });

  it('finds what nobody published', () => {
    const { check, bodies, receiver } = threeConfirmed();
    for (const body of bodies) receiver.got(body, false);
    receiver.got(encodeBody('q', 'p', 4, 0), false);
    receiver.got(encodeBody('q', 'nobody', 1, 0), false);
    expect(check.conclude()).toEqual([
      'unknown: p 4 at r was never published',
      'unknown: "q\\nnobody\\n1\\n" at r: no such publisher',
    ]);
  });

  it.each<[what: string, tag: number, multiple: boolean, told: string]>([
    ['of what was not published', 4, false, 'confirms 4 of 3'],
    ['of tag 0', 0, true, 'confirms 0 of 3'],
    ['of one, again', 2, false, 'confirms 2 of 3'],
    ['of many that are all confirmed', 2, true, 'confirms 2 of 3'],
  ])('finds a confirm %s', (_what, tag, multiple, told) => {
    const { check, publisher, bodies, receiver } = threeConfirmed();
    for (const body of bodies) receiver.got(body, false);
    publisher.answered(tag, multiple, true);
    expect(check.conclude()).toEqual([`confirm: p: ${told}`]);
  });

  it('finds what was confirmed and then refused', () => {
    const { check, publisher, bodies, receiver } = threeConfirmed();
    for (const body of bodies) receiver.got(body, false);
    publisher.answered(1, false, false);
    expect(check.conclude()).toEqual(['confirm: p: refuses 1 of 3']);
  });

  it('knows what is open where answers come one by one, in any order, and many at a time', () => {
    const check = new TrafficCheck();
    const publisher = check.publisher('p', 'q', { confirms: true });
    const receiver = check.receiver('r', 'q');
    for (let count = 0; count < 6; count += 1) receiver.got(publisher.next(), false);
    const open: number[] = [];
    for (const [tag, multiple, isAck] of [
      [3, false, true],
      [1, false, false],
      [4, true, true],
      [6, true, false],
    ] as const) {
      publisher.answered(tag, multiple, isAck);
      open.push(publisher.unanswered);
    }
    expect(open).toEqual([5, 4, 2, 0]);
    expect([publisher.confirmed, check.tally.nacked]).toEqual([3, 3]);
    expect(check.conclude()).toEqual([]);
  });

  it('finds what was never answered', () => {
    const check = new TrafficCheck();
    const publisher = check.publisher('p', 'q', { confirms: true });
    publisher.next();
    publisher.next();
    publisher.answered(2, false, false);
    expect(publisher.unanswered).toBe(1);
    expect(check.conclude()).toEqual(['unanswered: p 1']);
  });

  it('tells the first of many and their number', () => {
    const check = new TrafficCheck();
    const publisher = check.publisher('p', 'q');
    for (let count = 0; count < 8; count += 1) publisher.next();
    publisher.owe();
    expect(check.conclude()).toEqual([...[1, 2, 3, 4, 5].map((at) => `lost: p ${at}`), 'lost: and 3 more']);
  });
});
