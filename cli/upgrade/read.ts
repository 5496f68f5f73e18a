import { UsageError } from '../../common/errors.ts';
import type { Api } from '../../common/kube/api.ts';
import { isObject, textAt, valueAt } from '../../common/kube/json.ts';
import { phaseOf } from '../../common/kube/rabbitmq.ts';
import { CONFIG_MAP, RABBITMQ } from '../../common/kube/resources.ts';
import type { Json, JsonObject } from '../../common/kube/types.ts';
import { reportName, type UpgradeReport } from '../../reconciler/upgrade-report.ts';

/** Something that an upgrade did. */
export interface Moment {
  /** ISO 8601. */
  readonly at: string;
  readonly what: string;
}

/** An upgrade of a RabbitMq, and its report where there is one. */
export interface Upgrade {
  readonly namespace: string;
  readonly name: string;
  readonly sequence: number;
  readonly from: string;
  readonly to: string;
  readonly reason: string;
  /** The phase that it is in; empty where it is finished. */
  readonly phase: string;
  readonly timeline: readonly Moment[];
  /** null: there is none, for the reason in `why`. */
  readonly report: UpgradeReport | null;
  readonly why: string | null;
}

/** What an upgrade notes of its time, in order: fields of status.upgrade. */
const MOMENTS: readonly (readonly [path: readonly string[], what: string])[] = [
  [['startedAt'], 'began'],
  [['backup', 'takenAt'], 'credentials, cluster and definitions were saved'],
  [['importedAt'], 'the definitions were brought back'],
  [['finishedAt'], 'finished'],
];

/**
 * Reads the upgrade that is under way, else the last one that finished.
 * @throws UsageError where there is no such RabbitMq or no upgrade; ApiFailure
 */
export async function readUpgrade(
  api: Api,
  { namespace, name }: { namespace: string; name: string },
  signal: AbortSignal,
): Promise<Upgrade> {
  const rabbitmq = await api.get(RABBITMQ, namespace, name, signal);
  if (rabbitmq === undefined) {
    throw new UsageError(`there is no RabbitMq ${namespace}/${name}: name another, or another --namespace`);
  }
  const underWay = valueAt(rabbitmq, 'status', 'upgrade');
  const record = isObject(underWay) ? underWay : valueAt(rabbitmq, 'status', 'lastUpgrade');
  const sequence = valueAt(record, 'sequence');
  if (!isObject(record) || typeof sequence !== 'number') {
    throw new UsageError(`RabbitMq ${namespace}/${name} has had no upgrade`);
  }
  const configMap = reportName({ name, sequence });
  const stored = await api.get(CONFIG_MAP, namespace, configMap, signal);
  const phase = isObject(underWay) ? (phaseOf(rabbitmq) ?? 'not begun') : '';
  const report = reportIn(textAt(stored, 'data', 'report.json'));
  const isEarly = stored === undefined && textAt(record, 'importedAt') === undefined;
  return {
    namespace,
    name,
    sequence,
    from: textAt(record, 'from') ?? '',
    to: textAt(record, 'to') ?? '',
    reason: textAt(record, 'reason') ?? '',
    phase,
    timeline: timelineOf(record),
    report: report ?? null,
    why:
      report === undefined
        ? isEarly
          ? 'it comes when the definitions are brought back'
          : `ConfigMap ${namespace}/${configMap} ${stored === undefined ? 'is not there' : 'has no report that can be read'}`
        : null,
  };
}

function timelineOf(record: JsonObject): Moment[] {
  return MOMENTS.flatMap(([path, what]) => {
    const at = textAt(record, ...path);
    return at === undefined ? [] : [{ at, what }];
  });
}

function reportIn(text: string | undefined): UpgradeReport | undefined {
  let report: Json;
  try {
    report = JSON.parse(text ?? '') as Json;
  } catch {
    return undefined;
  }
  // Only the reconciler writes it.
  return valueAt(report, 'formatVersion') === 1 ? (report as unknown as UpgradeReport) : undefined;
}
