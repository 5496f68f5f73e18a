import type { EventCount } from '../common/kube/events.ts';
import { LabelledCount, type Metrics } from '../common/metrics.ts';
import { objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import type { ObservedRabbitMq, UpgradePhase } from './types.ts';

/** What is shown of one RabbitMq, as it was at its last reconcile. */
export interface RabbitMqFacts {
  readonly phase: UpgradePhase;
  /** When that phase began, in milliseconds since 1970; undefined without an upgrade. */
  readonly phaseStartedAt: number | undefined;
  readonly conditions: readonly { readonly type: string; readonly status: string }[];
  /** status.clients.needProxy; undefined where it is not known. */
  readonly needProxy: number | undefined;
}

/** What metrics show of a RabbitMq: its status, as it was read. */
export function factsOf({ object, status }: Pick<ObservedRabbitMq, 'object' | 'status'>): RabbitMqFacts {
  const { upgradePhase: phase, upgrade } = status;
  const since = Date.parse(upgrade?.phaseStartedAt ?? '');
  const needProxy = valueAt(object, 'status', 'clients', 'needProxy');
  return {
    phase,
    phaseStartedAt: phase === '' || Number.isNaN(since) ? undefined : since,
    conditions: objectsAt(object, 'status', 'conditions')
      .slice(0, CONDITIONS_MAX)
      .map((condition) => ({
        type: (textAt(condition, 'type') ?? '').slice(0, 64),
        status: textAt(condition, 'status') ?? '',
      })),
    needProxy: typeof needProxy === 'number' ? needProxy : undefined,
  };
}

/** Of one RabbitMq; others may write conditions of theirs beside ours. */
const CONDITIONS_MAX = 20;
/** RabbitMqs with series of their own; of others only the sums are shown. */
const SHOWN_MAX = 500;

type Of = { readonly namespace: string; readonly name: string };

/** What the reconciler did since it started, and what there is now. */
export class ReconcilerStats {
  readonly reconciles = new LabelledCount<{ result: 'done' | 'failed' }>();
  /** Sum over all reconciles, in seconds. */
  reconcileSeconds = 0;
  retries = 0;
  readonly events: EventCount = new LabelledCount();
  readonly upgradeEvents = new LabelledCount<{ result: 'published' | 'failed' }>();
  /** Absent without --events-config, and until there is something to publish. */
  eventsBroker: { readonly state: string; readonly stats: { readonly waiting: number } } | undefined;
  /** Absent until it is started. */
  queue: { readonly depth: number; readonly running: number } | undefined;
  /** Absent with --no-leader-election, and until it is started. */
  elector: { readonly leading: boolean; readonly failures: number } | undefined;
  /** Whether RabbitMqs are reconciled here. */
  leads: () => boolean = () => false;
  /** By what is watched. */
  watches: () => Iterable<readonly [resource: string, watch: { watching: boolean; failures: number }]> =
    () => [];
  readonly #rabbitmqs = new Map<string, Of & RabbitMqFacts>();

  /** Notes how a RabbitMq is now; undefined when it is gone. */
  note(namespace: string, name: string, facts: RabbitMqFacts | undefined): void {
    const key = `${namespace}/${name}`;
    if (facts === undefined) this.#rabbitmqs.delete(key);
    else this.#rabbitmqs.set(key, { namespace, name, ...facts });
  }

  /** RabbitMqs by how far their upgrade is. */
  *phases(): Iterable<readonly [{ phase: string }, number]> {
    const counts = new Map<string, number>();
    for (const { phase } of this.#rabbitmqs.values()) counts.set(phase, (counts.get(phase) ?? 0) + 1);
    for (const [phase, count] of counts) yield [{ phase: phase || 'none' }, count];
  }

  /** @param now milliseconds since 1970 */
  *phaseAges(now: number): Iterable<readonly [Of & { phase: string }, number]> {
    for (const { namespace, name, phase, phaseStartedAt } of this.#shown()) {
      if (phase === '' || phaseStartedAt === undefined) continue;
      yield [{ namespace, name, phase }, Math.max(0, now - phaseStartedAt) / 1000];
    }
  }

  *conditions(): Iterable<readonly [Of & { type: string }, number]> {
    for (const { namespace, name, conditions } of this.#shown()) {
      for (const { type, status } of conditions)
        yield [{ namespace, name, type }, status === 'True' ? 1 : status === 'False' ? 0 : -1];
    }
  }

  *clients(): Iterable<readonly [Of, number]> {
    for (const { namespace, name, needProxy } of this.#shown())
      if (needProxy !== undefined) yield [{ namespace, name }, needProxy];
  }

  /** Those in an upgrade come first: they must not be left out in favour of others. */
  #shown(): (Of & RabbitMqFacts)[] {
    const all = [...this.#rabbitmqs.values()];
    if (all.length <= SHOWN_MAX) return all;
    return all.sort((a, b) => Number(b.phase !== '') - Number(a.phase !== '')).slice(0, SHOWN_MAX);
  }
}

/** Adds the reconciler's metrics, all named quorumbridge_reconciler_…, to a registry. docs/metrics.md lists them. */
export function registerMetrics(metrics: Metrics, stats: ReconcilerStats): void {
  const prefix = 'quorumbridge_reconciler_';
  metrics.gauge(`${prefix}leader`, 'Whether this replica is the one that works', () => Number(stats.leads()));
  metrics.counter(
    `${prefix}lease_failures_total`,
    'Requests about the Lease that failed; 0 with --no-leader-election',
    () => stats.elector?.failures ?? 0,
  );
  metrics.counter(
    `${prefix}reconciles_total`,
    'Looks at a RabbitMq and what was done then; result is done or failed',
    () => stats.reconciles,
    ['result'],
  );
  metrics.counter(`${prefix}reconcile_seconds_total`, 'Time spent on them', () => stats.reconcileSeconds);
  metrics.counter(`${prefix}retries_total`, 'Reconciles put off after a failure', () => stats.retries);
  metrics.gauge(`${prefix}queue_depth`, 'RabbitMqs that wait for a worker', () => stats.queue?.depth ?? 0);
  metrics.gauge(
    `${prefix}queue_running`,
    'RabbitMqs that are being reconciled',
    () => stats.queue?.running ?? 0,
  );
  metrics.gauge(
    `${prefix}watching`,
    'Whether changes of a resource arrive',
    () => [...stats.watches()].map(([resource, { watching }]) => [{ resource }, Number(watching)] as const),
    ['resource'],
  );
  metrics.counter(
    `${prefix}watch_failures_total`,
    'Times that watching a resource failed and was begun again',
    () => [...stats.watches()].map(([resource, { failures }]) => [{ resource }, failures] as const),
    ['resource'],
  );
  metrics.counter(
    `${prefix}events_total`,
    'Events about RabbitMqs; result is written, known (there already), failed or left out (too many)',
    () => stats.events,
    ['reason', 'result'],
  );
  metrics.counter(
    `${prefix}upgrade_events_total`,
    'Upgrade events for --events-config; result is published, or failed: then it is tried again while the phase lasts',
    () => stats.upgradeEvents,
    ['result'],
  );
  metrics.gauge(
    `${prefix}upgrade_events_waiting`,
    'Upgrade events that wait for their broker',
    () => stats.eventsBroker?.stats.waiting ?? 0,
  );
  metrics.gauge(
    `${prefix}upgrade_events_connected`,
    'Whether the broker for upgrade events is connected; 0 without --events-config, and until there is something to publish',
    () => Number(stats.eventsBroker?.state === 'open'),
  );
  metrics.gauge(
    `${prefix}rabbitmqs`,
    'RabbitMqs by how far their upgrade is; phase is none where there is no upgrade',
    () => stats.phases(),
    ['phase'],
  );
  metrics.gauge(
    `${prefix}phase_age_seconds`,
    'For how long an upgrade has been in its phase',
    () => stats.phaseAges(Date.now()),
    ['namespace', 'name', 'phase'],
  );
  metrics.gauge(
    `${prefix}condition`,
    'Conditions of RabbitMqs: 1 is True, 0 False, -1 Unknown',
    () => stats.conditions(),
    ['namespace', 'name', 'type'],
  );
  metrics.gauge(
    `${prefix}clients_needing_proxy`,
    'Clients that need the proxy, as far as proxies could be asked',
    () => stats.clients(),
    ['namespace', 'name'],
  );
}
