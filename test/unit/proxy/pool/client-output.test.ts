import { beforeEach, describe, expect, it } from 'vitest';
import { ClientOutput } from '../../../../proxy/pool/client-output.ts';

describe('what a client is given', () => {
  let given: string[];
  let isHeldBack: boolean;
  let backlog: number;
  let overflows: string[];
  let output: ClientOutput;

  beforeEach(() => {
    given = [];
    isHeldBack = false;
    backlog = 0;
    overflows = [];
    output = new ClientOutput({
      events: {
        guard: (work) => work(),
        receive: (chunk, length) => given.push(Buffer.from(chunk.subarray(0, length)).toString()),
      },
      backlog: () => backlog,
      maxBacklog: 100,
      holder: {
        pause: () => (isHeldBack = true),
        resume: () => (isHeldBack = false),
      },
      channels: () => undefined,
      given: () => {},
      overflows: (text) => overflows.push(text),
    });
  });

  /** The client sends something that is answered so often. */
  function asks(answers: number): void {
    output.taking();
    for (let at = 0; at < answers; at++) output.say(Buffer.from(`${at} `));
    output.taken();
  }

  it('answers come behind what they answer, in one piece', () => {
    output.taking();
    output.say(Buffer.from('one '));
    output.say(Buffer.from('two '));
    expect(given).toEqual([]);
    output.taken();
    expect(given).toEqual(['one two ']);
  });

  it('the frames of the broker come behind what was said before', () => {
    output.say(Buffer.from('said'));
    output.deliver(Buffer.from('delivered'), false);
    expect(given).toEqual(['said', 'delivered']);
  });

  it('a client that asks and does not read the answers is held back until it has caught up', () => {
    asks(2);
    expect(isHeldBack).toBe(false);
    output.pause();
    asks(2);
    expect(isHeldBack).toBe(true);
    output.resume();
    expect(isHeldBack).toBe(false);
    asks(2);
    expect(isHeldBack).toBe(false);
  });

  it('a client that is behind and asks nothing is not held back: what it says may be what it is waited for', () => {
    output.pause();
    asks(0);
    output.say(Buffer.from('a heartbeat'));
    output.deliver(Buffer.from('delivered'), false);
    expect(isHeldBack).toBe(false);
  });

  it('more than may wait is told once the client is behind', () => {
    backlog = 101;
    output.deliver(Buffer.from('delivered'), false);
    expect(overflows).toEqual([]);
    output.pause();
    output.deliver(Buffer.from('delivered'), false);
    expect(overflows).toEqual(['101 octets wait for the client, more than --client-backlog 100']);
  });

  it('one that is gone is held back no more, and given nothing', () => {
    output.pause();
    asks(1);
    output.stop();
    expect(isHeldBack).toBe(false);
    asks(1);
    expect(given).toEqual(['0 ']);
  });
});
