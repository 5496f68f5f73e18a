import type { Api } from '../common/kube/api.ts';
import { CONFIG_MAP } from '../common/kube/resources.ts';
import type { KubeObject } from '../common/kube/types.ts';
import type { SavedBackup } from './backup.ts';
import type { DefinitionsReport } from './broker/report.ts';
import { metaOf, namesOf, ownedObject, write } from './saved-objects.ts';
import type { HoldingQueue, UpgradeRecord } from './types.ts';

/** The report of an upgrade, as its ConfigMap has it. */
export interface UpgradeReport {
  readonly formatVersion: 1;
  readonly sequence: number;
  readonly from: string;
  readonly to: string;
  readonly reason: string;
  readonly definitions: DefinitionsReport;
  readonly lost: {
    readonly messages: number;
    readonly queues: number;
    /** The fullest first, at most 500. */
    readonly holding: readonly HoldingQueue[];
  };
}

/** The ConfigMap with the report of an upgrade. */
export function reportName(upgrade: { name: string; sequence: number }): string {
  return namesOf(upgrade).report;
}

/** Writes the report, or writes it anew. */
export async function writeReport(
  api: Api,
  {
    rabbitmq,
    record,
    report,
    saved,
  }: { rabbitmq: KubeObject; record: UpgradeRecord; report: DefinitionsReport; saved: SavedBackup },
  signal: AbortSignal,
): Promise<void> {
  const { sequence, from, to, reason } = record;
  const whole: UpgradeReport = {
    formatVersion: 1,
    sequence,
    from,
    to,
    reason,
    definitions: report,
    lost: { messages: saved.record.messages, queues: saved.record.queues, holding: saved.holding },
  };
  const name = reportName({ name: metaOf(rabbitmq, 'name') ?? '', sequence });
  const object = {
    ...ownedObject(CONFIG_MAP, rabbitmq, sequence, name),
    data: { 'report.json': JSON.stringify(whole) },
  };
  await write(api, CONFIG_MAP, object, signal);
}
