import { describe, expect, it } from 'vitest';
import { ClientPulse } from '../../../../proxy/pool/client-pulse.ts';

/** Looks at it four times a second from 0 on, up to so many milliseconds. */
function* looks(until: number): Iterable<number> {
  for (let now = 250; now <= until; now += 250) yield now;
}

describe('heartbeats towards a client', () => {
  it('are due when nothing was said for half an interval', () => {
    const pulse = new ClientPulse(2, 0);
    expect([...looks(4000)].filter((now) => pulse.isDue(now))).toEqual([1000, 2000, 3000, 4000]);
  });

  it('are not due while something is said', () => {
    const pulse = new ClientPulse(2, 0);
    const due = [...looks(4000)].filter((now) => {
      pulse.said = now < 2000;
      return pulse.isDue(now);
    });
    expect(due).toEqual([2750, 3750]);
  });

  it('are withheld while the way behind is gone', () => {
    const pulse = new ClientPulse(2, 0);
    pulse.withheld = true;
    expect([...looks(6000)].filter((now) => pulse.isDue(now))).toEqual([]);
  });
});

describe('a client', () => {
  it('is silent after two intervals without an octet', () => {
    const pulse = new ClientPulse(2, 0);
    const silent = [...looks(8000)].find((now) => {
      if (now === 1000) pulse.heard = true;
      return pulse.isSilent(now);
    });
    expect(silent).toBe(5250);
  });

  it('is not blamed for a pause of the whole process', () => {
    const pulse = new ClientPulse(2, 0);
    expect([250, 60_000, 60_250].map((now) => pulse.isSilent(now))).toEqual([false, false, false]);
  });
});
