import { describe, expect, it } from 'vitest';
import { encodeTune, encodeTuneOk, readTune } from '../../../amqp/connection.ts';
import { agree, overhear } from '../../../proxy/negotiation.ts';

const BROKERS = encodeTune({ channelMax: 2047, frameMax: 131_072, heartbeat: 60 });

function answered(frameMax: number): Uint8Array {
  return encodeTuneOk({ channelMax: 2046, frameMax, heartbeat: 60 });
}

/** The client's frame_max, what the broker's side gets, above which payload bodies are cut, too small for brokers. */
type Row = readonly [asked: number, upstream: number, above: number, tooSmall: boolean];

const ALONE: readonly Row[] = [
  [131_072, 131_072, 0, false],
  [16_384, 16_384, 0, false],
  [8192, 8192, 0, false],
  [4096, 131_072, 4088, true],
  [0, 0, 0, false],
];

const SHARED: readonly Row[] = [
  [131_072, 131_072, 0, false],
  [16_384, 131_072, 16_376, false],
  [8192, 131_072, 8184, false],
  [4096, 131_072, 4088, true],
  [0, 0, 0, false],
];

describe.each([
  { connection: 'of its own', shared: false, rows: ALONE },
  { connection: 'that is shared', shared: true, rows: SHARED },
])('a client’s frame_max, on a connection $connection', ({ shared, rows }) => {
  it.each(rows)('%i: the broker gets %i, bodies above %i are cut', (asked, upstream, above, tooSmall) => {
    const agreement = agree(BROKERS, answered(asked), { shared, offered: 0 });
    expect({
      sent: readTune(agreement.tuneOk).frameMax,
      splitAbove: agreement.splitAbove,
      tooSmall: agreement.tooSmall,
    }).toEqual({ sent: upstream, splitAbove: above, tooSmall });
    expect(agreement.brokerFrameMax).toBe(asked === 0 ? 131_072 : upstream);
  });
});

describe('the frame_max that the proxy’s own limit has offered, where the client takes it', () => {
  it.each([
    ['is cut to behind a broker that refuses it', 4096, 131_072, 4088],
    ['goes to the broker that takes it', 8192, 8192, 0],
  ])('%s, and is no need of the client’s', (_name, offered, upstream, splitAbove) => {
    const setting = { shared: false, offered };
    const expected = { splitAbove, tooSmall: false, clientAsked: 0, clientFrameMax: offered };
    const agreement = agree(BROKERS, answered(offered), setting);
    expect(agreement).toMatchObject(expected);
    expect(readTune(agreement.tuneOk)).toMatchObject({ frameMax: upstream, channelMax: 2047 });
    const overheard = overhear(BROKERS, answered(offered), offered);
    expect(overheard).toMatchObject({ ...expected, channelMax: undefined });
    expect(readTune(overheard.tuneOk)).toMatchObject({ frameMax: upstream, channelMax: 2046 });
  });

  it('leaves a client that asks for less what it has asked for', () => {
    expect(agree(BROKERS, answered(4096), { shared: false, offered: 8192 })).toMatchObject({
      clientAsked: 4096,
      tooSmall: true,
    });
    expect(overhear(BROKERS, answered(4096), 8192)).toMatchObject({
      clientAsked: 4096,
      tuneOk: answered(4096),
      splitAbove: 0,
    });
  });
});
