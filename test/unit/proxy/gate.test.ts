import { describe, expect, it } from 'vitest';
import { Gate } from '../../../proxy/gate.ts';

function gateOf(): { gate: Gate; calls: string[] } {
  const calls: string[] = [];
  const source = { pause: () => calls.push('pause'), resume: () => calls.push('resume') };
  return { gate: new Gate(source), calls };
}

describe('a gate', () => {
  it('lets the source flow when the last one lets it', () => {
    const { gate, calls } = gateOf();
    const [one, other] = [gate.holder(), gate.holder()];
    one.pause();
    other.pause();
    one.resume();
    expect({ calls: [...calls], closed: gate.closed }).toEqual({ calls: ['pause'], closed: true });
    other.resume();
    expect({ calls, closed: gate.closed }).toEqual({ calls: ['pause', 'resume'], closed: false });
  });

  it('takes the same word twice as once', () => {
    const { gate, calls } = gateOf();
    const holder = gate.holder();
    holder.resume();
    holder.pause();
    holder.pause();
    holder.resume();
    expect(calls).toEqual(['pause', 'resume']);
  });
});
