import { describe, expect, it } from 'vitest';
import { differencesOf, reportOf } from '../../../reconciler/broker/report.ts';
import type { Outcome } from '../../../reconciler/broker/translate.ts';

function outcome(name: string, changes: Partial<Outcome>): Outcome {
  return { kind: 'queues', vhost: '/', name, id: name, result: 'kept', why: '', changes: [], ...changes };
}

const type = {
  field: 'arguments.x-queue-type',
  from: undefined,
  to: 'quorum',
  why: 'durable queues are replicated',
};

describe('the differences in a status', () => {
  it('are one line for what happened to several in the same way, and none for what was kept', () => {
    const report = reportOf([
      outcome('orders', { result: 'changed', changes: [type] }),
      outcome('ha-all', { kind: 'policies', result: 'dropped', why: 'RabbitMQ 4 has no mirrored queues' }),
      ...['a', 'b', 'c'].map((name) => outcome(name, { result: 'changed', changes: [type] })),
      outcome('audit', {}),
    ]);
    expect(differencesOf(report)).toEqual([
      '4 queues changed (orders, a, b, …): arguments.x-queue-type none to "quorum": durable queues are replicated',
      '1 policies dropped (ha-all): RabbitMQ 4 has no mirrored queues',
    ]);
  });

  it('stay within what the schema of a status takes', () => {
    const many = Array.from({ length: 100 }, (_, i) =>
      outcome('q'.repeat(250), { result: 'dropped', why: `${i}${'x'.repeat(300)}` }),
    );
    const lines = differencesOf(reportOf(many));
    expect(lines).toHaveLength(20);
    expect(Math.max(...lines.map((line) => line.length))).toBe(256);
  });
});
