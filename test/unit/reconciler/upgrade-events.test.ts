import { describe, expect, it, vi } from 'vitest';
import { ANNOTATION } from '../../../common/contract.ts';
import { createMetrics } from '../../../common/metrics.ts';
import { parseMessaging, upgradeEvent } from '../../../messaging/index.ts';
import { ReconcilerStats, registerMetrics } from '../../../reconciler/metrics.ts';
import { startUpgradeEvents, upgradeEventOf } from '../../../reconciler/upgrade-events.ts';
import { freePort } from '../../support/ports.ts';
import { readableLog } from '../webhook/harness.ts';
import * as seen from './observations.ts';
import { World } from './world.ts';

const EVENT = {
  namespace: 'openstack',
  name: 'rabbitmq',
  uid: 'rabbitmq-uid',
  sequence: 1,
  phase: 'WaitingForPods',
  from: '3.10',
  to: '4.2',
  reason: 'VersionUpgrade',
  since: '2026-11-21T11:59:00Z',
};
const PASSWORD = 'password-of-the-events';

describe('the event of a RabbitMq', () => {
  const phased = { upgradePhase: 'WaitingForPods', upgrade: seen.saved, upgradeSequence: 1 } as const;

  it('is the phase of its upgrade, as the schema has it', () => {
    const event = upgradeEventOf(seen.rabbitmq({}, phased));
    expect(event).toEqual(EVENT);
    expect(upgradeEvent.parse(JSON.parse(JSON.stringify({ ...event, more: 'of a later version' })))).toEqual(
      EVENT,
    );
  });

  it.each([
    ['before the first upgrade', seen.rabbitmq()],
    ["in another controller's phase", seen.rabbitmq({}, { ...phased, upgrade: undefined })],
  ])('is none %s', (_, rabbitmq) => {
    expect(upgradeEventOf(rabbitmq)).toBeUndefined();
  });

  it('comes for each phase, for the end, and for one that is called off', async () => {
    const world = new World();
    const phases: string[] = [];
    world.seen = (rabbitmq) => {
      const event = rabbitmq && upgradeEventOf(rabbitmq);
      if (event === undefined) return;
      const { sequence, phase, from, to } = upgradeEvent.parse(event);
      const text = `${sequence} ${phase} ${from} ${to}`;
      if (phases.at(-1) !== text) phases.push(text);
    };
    await world.run(() => world.condition('Ready')?.['status'] === 'True');
    await world.annotate({ [ANNOTATION.targetVersion]: '4.2' });
    await world.run(() => world.isAt('4.2'));
    world.broker!.messages = 1;
    await world.annotate({ [ANNOTATION.targetVersion]: '4.3', 'quorumbridge.io/accept-data-loss': 'true' });
    await world.run(() => world.status('upgradePhase') === 'DeletingResources');
    await world.annotate({ [ANNOTATION.targetVersion]: null });
    await world.edit({ spec: { targetVersion: null } });
    await world.run(() => world.status('upgradePhase') === '');
    await world.rest();
    expect(phases).toEqual([
      '1 DeletingResources 3.10 4.2',
      '1 WaitingForPods 3.10 4.2',
      '1 WaitingForCluster 3.10 4.2',
      '1 Complete 3.10 4.2',
      '2 DeletingResources 4.2 4.3',
      '2 CalledOff 4.2 null',
    ]);
  });

  it.each([
    ['no object', 7, 'expected an object'],
    ['no text', { ...EVENT, name: 1 }, 'name: expected a text that is not empty'],
    ['no time', { ...EVENT, since: undefined }, 'since: expected a text that is not empty'],
    ['no count', { ...EVENT, sequence: 0 }, 'sequence: expected a whole number from 1'],
    ['another phase', { ...EVENT, phase: '' }, 'phase: expected DeletingResources, '],
  ])('is refused by the schema where it has %s', (_, value, message) => {
    expect(() => upgradeEvent.parse(value)).toThrow(message);
  });
});

describe('a broker for upgrade events that is not there', () => {
  it('keeps nobody waiting: an event is given up in time, counted and told, and tried again at the next look', async () => {
    const { log, lines } = readableLog();
    const stats = new ReconcilerStats();
    const file = `rabbitmq: { port: ${await freePort()}, password: ${PASSWORD}, max_reconnect_attempts: 1 }`;
    const config = parseMessaging('file', file, {});
    const events = startUpgradeEvents({ config, log, stats, waitMs: 200, retryMs: 0 });
    const key = { namespace: 'openstack', name: 'rabbitmq' };
    const failures = (): number =>
      [...stats.upgradeEvents].find(([{ result }]) => result === 'failed')?.[1] ?? 0;
    const upgrade = { upgradePhase: 'WaitingForPods', upgrade: seen.saved } as const;
    const look = (): void => events.seen(key, seen.rabbitmq({}, upgrade));
    look();
    look();
    expect(stats.eventsBroker?.stats.waiting).toBe(1);
    await vi.waitFor(() => expect(failures()).toBe(1), 15_000);
    look();
    await vi.waitFor(() => expect(failures()).toBe(2), 15_000);
    const patient = startUpgradeEvents({ config, log: readableLog().log, stats, waitMs: 1 });
    patient.seen(key, seen.rabbitmq({}, upgrade));
    await vi.waitFor(() => expect(failures()).toBe(3), 15_000);
    patient.seen(key, seen.rabbitmq({}, upgrade));
    expect(stats.eventsBroker?.stats.waiting).toBe(0);
    await patient.close();
    // Gone, nothing is tried any more.
    events.seen(key, undefined);
    expect(stats.eventsBroker?.stats.waiting).toBe(0);
    const metrics = createMetrics();
    registerMetrics(metrics, stats);
    const text = await metrics.text();
    expect(text).toContain('quorumbridge_reconciler_upgrade_events_total{result="failed"} 3');
    expect(text).toContain('quorumbridge_reconciler_upgrade_events_connected 0');
    await events.close();
    const told = lines.map(({ msg }) => msg);
    expect(told.filter((msg) => msg === 'an upgrade event is not published')).toHaveLength(2);
    expect(told.filter((msg) => msg === 'upgrade events wait for their broker')).toHaveLength(1);
    expect(lines.find(({ msg }) => msg === 'an upgrade event is not published')).toMatchObject({
      namespace: 'openstack',
      name: 'rabbitmq',
      phase: 'WaitingForPods',
      why: expect.stringContaining('there was no connection to send it on within 0.2 s'),
    });
    expect(JSON.stringify(lines)).not.toContain(PASSWORD);
  });
});
