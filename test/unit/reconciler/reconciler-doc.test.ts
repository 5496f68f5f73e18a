import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { RABBITMQ_CRD, type Schema } from '../../../common/crd.ts';
import { LEASE_TIMES } from '../../../reconciler/lease.ts';
import { BACKOFF, BUCKET } from '../../../reconciler/queue.ts';
import { UPGRADE_EVENT_PHASES, UPGRADE_EXCHANGE } from '../../../messaging/index.ts';
import { upgradeEventOf } from '../../../reconciler/upgrade-events.ts';
import { objectsIn, rulesOf } from '../manifests/sources.ts';
import { rabbitmq, saved } from './observations.ts';

const doc = readFileSync(new URL('../../../docs/reconciler.md', import.meta.url), 'utf8');

/** The cells of each row of the tables under a heading that begin with a name. */
function rows(heading: string): string[][] {
  const section = doc.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.replaceAll('`', '').trim()),
    );
}

describe('docs/reconciler.md', () => {
  it('lists the fields of status.clients', () => {
    const root: Schema = RABBITMQ_CRD.spec.versions[0].schema.openAPIV3Schema;
    const clients = root.properties?.['status']?.properties?.['clients'];
    expect(rows('Who needs the proxy').map(([field]) => field)).toEqual(
      Object.keys(clients?.properties ?? {}),
    );
  });

  it('lists the rights that the manifests give', () => {
    const documented = rows('Rights').flatMap(([resource, verbs = '']) =>
      verbs.split(', ').map((verb) => `${verb} ${resource}`),
    );
    const given = rulesOf(objectsIn('base/reconciler/rbac.yaml')).map((right) =>
      right.split(' ').slice(0, 2).join(' '),
    );
    expect(documented.sort()).toEqual(given.sort());
  });

  it('lists the fields and the phases of an upgrade event', () => {
    const fields = rows('Upgrade events');
    const event = upgradeEventOf(rabbitmq({}, { upgradePhase: 'WaitingForPods', upgrade: saved }));
    expect(fields.map(([field]) => field)).toEqual(Object.keys(event ?? {}));
    const phases = fields.find(([field]) => field === 'phase')?.[1] ?? '';
    expect(phases.match(/[A-Z][A-Za-z]+/g)).toEqual([...UPGRADE_EVENT_PHASES]);
    expect(doc).toContain(`the durable topic exchange \`${UPGRADE_EXCHANGE}\``);
  });

  it('has the times and numbers of the code', () => {
    expect([BACKOFF.firstMs, BACKOFF.maxMs, BACKOFF.jitter]).toEqual([50, 60_000, 0.2]);
    expect(doc).toContain('again after 50 ms, twice as long each time, up to a minute; a fifth more or less');
    expect(doc).toContain(`${BUCKET.burst} at once, then ${BUCKET.perSecond} a second`);
    const { durationMs, renewDeadlineMs, retryMs } = LEASE_TIMES;
    expect(doc).toContain(`every ${retryMs / 1000} seconds`);
    expect(doc).toContain(`for ${renewDeadlineMs / 1000} seconds`);
    expect(doc).toContain(`after ${durationMs / 1000} seconds`);
  });
});
