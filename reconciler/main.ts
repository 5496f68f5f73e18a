import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { type Check, startAdmin } from '../common/admin.ts';
import { UsageError } from '../common/errors.ts';
import { findCluster } from '../common/kube/access.ts';
import { type Api, connectApi } from '../common/kube/api.ts';
import { openCluster } from '../common/kube/open.ts';
import type { Logger } from '../common/log.ts';
import { createMetrics } from '../common/metrics.ts';
import type { HostPort, OptionValues } from '../common/options.ts';
import { createBroker } from './broker/access.ts';
import { clientsLookup } from './clients.ts';
import { type Controller, startController } from './controller.ts';
import { createTeller } from './events.ts';
import { type Elector, type LeaseTimes, startElector, whileLeading } from './lease.ts';
import { ReconcilerStats, factsOf, registerMetrics } from './metrics.ts';
import type { reconcilerOptions } from './options.ts';
import { createReconciler } from './reconcile.ts';
import type { UpgradeEvents } from './upgrade-events.ts';

export type ReconcilerValues = OptionValues<typeof reconcilerOptions>;

export interface RunningReconciler {
  /** Where health and metrics are served. */
  readonly adminAddress: HostPort;
  /** Takes up no more work, ends what is under way within 10 s, gives the Lease back, and ends. */
  close(): Promise<void>;
}

/** For all proxies of a cluster together. */
const LEDGERS_TIMEOUT_MS = 5000;
const GRACE_MS = 10_000;

/**
 * Starts the reconciler, which works once it holds the Lease.
 * @param onLost called when the Lease was lost: the process is to end, since what it had under way is unknown
 * @throws UsageError for a kubeconfig that can't be used; Error when an address can't be listened at
 */
export async function startReconciler(
  values: ReconcilerValues,
  log: Logger,
  onLost: () => void = () => process.exit(1),
): Promise<RunningReconciler> {
  const access = await findCluster({
    kubeconfig: values.kubeconfig,
    env: process.env,
    advice: 'name the kubeconfig of the cluster',
  });
  if (access === undefined) {
    throw new UsageError(
      'option --kubeconfig: there is no kubeconfig and no service account: name the kubeconfig of the cluster',
    );
  }
  await using cleanup = new AsyncDisposableStack();
  const cluster = await openCluster(access);
  cleanup.defer(() => cluster.pool.destroy());
  const api = connectApi(cluster);
  const stats = new ReconcilerStats();

  const events = await upgradeEvents(values.eventsConfig, log, stats);

  let isClosing = false;
  // What is started later, for the checks.
  const parts: { controller?: Controller; elector?: Elector } = {};
  const metrics = createMetrics();
  registerMetrics(metrics, stats);
  const admin = await startAdmin({
    listen: values.adminListen,
    log,
    metrics,
    livez: () => ({ ok: true, reasons: [] }),
    readyz: () => readiness(isClosing, parts),
  });
  cleanup.defer(() => admin.close());

  const controller = startController({
    api,
    reconcile: reconcileWith(parts, api, values, log, stats, events),
    log,
    stats,
    workers: values.workers,
    namespaces: values.namespace,
  });
  parts.controller = controller;
  const elector = values.noLeaderElection ? undefined : elect(values, api, log, controller, onLost);
  if (elector === undefined) controller.lead(new AbortController().signal);
  else {
    parts.elector = elector;
    stats.elector = elector;
  }
  log.info(
    { server: cluster.server, from: access.from, adminAddress: admin.address, namespaces: values.namespace },
    'reconciler started',
  );

  const running = cleanup.move();
  return {
    adminAddress: admin.address,
    async close() {
      isClosing = true;
      // The Lease is kept until the work has ended: nobody else may begin before that.
      await controller.stop(GRACE_MS);
      await Promise.all([elector?.stop(), events?.close()]);
      await running.disposeAsync();
    },
  };
}

/** @throws UsageError for a configuration that can't be used */
async function upgradeEvents(
  file: string | undefined,
  log: Logger,
  stats: ReconcilerStats,
): Promise<UpgradeEvents | undefined> {
  if (file === undefined) return undefined;
  const { loadConfig } = await import('../messaging/config.ts');
  const { startUpgradeEvents } = await import('./upgrade-events.ts');
  const config = loadConfig(file, process.env);
  for (const warning of config.warnings) log.warn({ option: '--events-config' }, warning);
  return config.enabled ? startUpgradeEvents({ config, log, stats }) : undefined;
}

function reconcileWith(
  parts: { readonly elector?: Elector },
  connected: Api,
  values: ReconcilerValues,
  log: Logger,
  stats: ReconcilerStats,
  events: UpgradeEvents | undefined,
): ReturnType<typeof createReconciler> {
  const api = values.noLeaderElection
    ? connected
    : whileLeading(connected, () => parts.elector?.leading ?? false);
  return createReconciler({
    api,
    broker: createBroker(api),
    clients: clientsLookup(api, LEDGERS_TIMEOUT_MS),
    settings: {
      requireApproval: values.requireApproval,
      wipePolicy: values.wipePolicy,
      readyTimeoutMs: values.readyTimeout * 1000,
      defaultVersion: values.defaultVersion,
      clientsIntervalMs: values.clientsInterval * 1000,
    },
    log,
    tell: createTeller({ api, log, stats }),
    now: () => new Date(),
    seen: (key, observed) => {
      stats.note(key.namespace, key.name, observed && factsOf(observed.rabbitmq));
      events?.seen(key, observed?.rabbitmq);
    },
  });
}

function elect(
  values: ReconcilerValues,
  api: Api,
  log: Logger,
  controller: Controller,
  onLost: () => void,
): Elector {
  return startElector({
    api,
    ...values.lease,
    ...leaseTimes(values.leaseDuration),
    identity: `${hostname()}_${randomUUID()}`,
    log,
    onLeading: (signal) => controller.lead(signal),
    onLost(why) {
      log.fatal({ why }, 'the Lease is lost, exiting');
      onLost();
    },
  });
}

/** In the proportions of client-go: renewed for two thirds of the time, every fifth of that. */
function leaseTimes(durationSeconds: number): LeaseTimes {
  const durationMs = durationSeconds * 1000;
  const renewDeadlineMs = (durationMs * 2) / 3;
  return { durationMs, renewDeadlineMs, retryMs: renewDeadlineMs / 5 };
}

function readiness(
  isClosing: boolean,
  { controller, elector }: { controller?: Controller; elector?: Elector },
): Check {
  const reasons: string[] = [];
  if (isClosing) reasons.push('shutting down');
  if (controller?.synced !== true) reasons.push('not all that is watched was seen yet');
  const ok = reasons.length === 0;
  if (controller !== undefined) reasons.push(...controller.troubles);
  if (elector !== undefined && !elector.leading)
    reasons.push(`${elector.holder ?? 'nobody'} holds the Lease`);
  return { ok, reasons };
}
