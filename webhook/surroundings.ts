import type { Check } from '../common/admin.ts';
import type { Logger } from '../common/log.ts';
import type { OptionValues } from '../common/options.ts';
import { findCluster } from '../common/kube/access.ts';
import { connectApi } from '../common/kube/api.ts';
import { type LedgerLookup, ledgerLookup } from './clients.ts';
import { openCluster } from '../common/kube/open.ts';
import type { WebhookStats } from './metrics.ts';
import { type NativeLookup, createNativeLookup } from './native.ts';
import { startObserver } from './observer.ts';
import type { webhookOptions } from './options.ts';
import { type OwnerCache, type OwnerLookup, ownerLookup, startOwnerCache } from './owners.ts';

type Values = Pick<
  OptionValues<typeof webhookOptions>,
  'noCluster' | 'kubeconfig' | 'noEvents' | 'proxyImage'
>;

/** What the webhook asks, and follows, in a cluster. */
export interface Surroundings {
  readonly owners: OwnerLookup;
  readonly ledgers: LedgerLookup;
  readonly natives: NativeLookup;
  /** Not ready until the RabbitMqs are known, or until that took too long: then the API server is asked each time. */
  ready(): Check;
  close(): Promise<void>;
}

/** Registrations allow 5 s for an admission: an owner that takes longer than this counts as unknown. */
const OWNER_LOOKUP_TIMEOUT_MS = 1500;
/** As long as an owner may take: both are asked at the same time. */
const NATIVE_LOOKUP_TIMEOUT_MS = OWNER_LOOKUP_TIMEOUT_MS;
/** For all proxies of a cluster together. */
const LEDGER_TIMEOUT_MS = 2000;
/** How long /readyz waits for the cache: a replica that can't have one is better than none. */
const CACHE_WAIT_MS = 30_000;

/** Opens the cluster that the options lead to; undefined when there is none, or when it is not to be asked. */
export async function openSurroundings(
  values: Values,
  log: Logger,
  stats: WebhookStats,
): Promise<Surroundings | undefined> {
  if (values.noCluster) {
    log.info('--no-cluster: deciding from the objects alone');
    return undefined;
  }
  const access = await findCluster({
    kubeconfig: values.kubeconfig,
    env: process.env,
  });
  if (access === undefined) {
    log.warn('no kubeconfig and no service account: deciding from the objects alone');
    return undefined;
  }
  const cluster = await openCluster(access);
  const api = connectApi(cluster);
  log.info({ server: cluster.server, from: access.from }, 'asking the API server for the owners of objects');

  const cache = startOwnerCache(api, log);
  stats.ownerCache = cache;
  const owners = ownerLookup(api, OWNER_LOOKUP_TIMEOUT_MS, cache);
  // The webhook's own namespace: the only one where its account may create Pods, of which none is ever stored.
  const namespace =
    cluster.config.getContextObject(cluster.config.getCurrentContext())?.namespace ?? 'default';
  const sample = { namespace, image: values.proxyImage };
  const natives = createNativeLookup(api, sample, NATIVE_LOOKUP_TIMEOUT_MS);
  const observer = values.noEvents
    ? undefined
    : startObserver({ api, owners, natives, settings: { image: values.proxyImage }, log, stats });
  const patienceEnds = performance.now() + CACHE_WAIT_MS;
  return {
    owners,
    natives,
    ledgers: ledgerLookup(api, LEDGER_TIMEOUT_MS),
    ready: () => cacheCheck(cache, performance.now() >= patienceEnds),
    async close() {
      await Promise.all([cache.stop(), observer?.stop()]);
      await cluster.pool.destroy();
    },
  };
}

/** Whether the cache lets a replica be ready. */
export function cacheCheck(cache: Pick<OwnerCache, 'synced' | 'trouble'>, isTooLong: boolean): Check {
  if (cache.synced) return { ok: true, reasons: [] };
  const why = cache.trouble === undefined ? '' : `: ${cache.trouble}`;
  return { ok: isTooLong, reasons: [`the RabbitMqs are not known yet${why}`] };
}
