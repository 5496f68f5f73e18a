// Stands in for RabbitMQ's cluster operator where the real one can't be had: RabbitmqClusters become StatefulSets,
// Services, Secrets and ConfigMaps as by its version 2.16, with its finalizer, status and order of steps.
//
// It does not play: Vault and external secrets, plugins that have ports of their own (both are refused in the status),
// growing volumes, clusters scaled to zero, and commands in the pods. Those are taken for done once the pods are ready.
//
//   stand-in-operator.ts    with KUBE_URL, KUBE_CA (a file) and KUBE_TOKEN in the environment
import { readFileSync } from 'node:fs';
import { same } from '../../common/kube/json.ts';
import type { Json, JsonObject } from '../../common/kube/types.ts';
import { KubeApi, KubeError } from './kube-api.ts';
import type { KubeMetadata, KubeObject } from './kube-api.ts';
import { needsRestart, objectsOf, written } from './operator-objects.ts';
import { child, filledIn, statefulSet, unplayed } from './operator-statefulset.ts';
import type { Condition, RabbitmqCluster, StatefulSet } from './operator-statefulset.ts';

const API_VERSION = 'rabbitmq.com/v1beta1';
const DEFAULT_IMAGE = 'rabbitmq:4.1.1-management';
const FINALIZER = 'deletion.finalizers.rabbitmqclusters.rabbitmq.com';
const PAUSE_LABEL = 'rabbitmq.com/pauseReconciliation';
const SKIP_LABEL = 'skipPreStopChecks';
const CONF_UPDATED = 'rabbitmq.com/serverConfUpdatedAt';
const RESTARTED = 'rabbitmq.com/lastRestartAt';
const CONDITIONS = ['AllReplicasReady', 'ClusterAvailable', 'NoWarnings', 'ReconcileSuccess'];
const ROUND_MS = 200;
/** After what failed, such as a TLS Secret that isn't there yet. */
const RETRY_MS = 1000;

/** What ends a reconciliation, and the reason in the condition ReconcileSuccess. */
class Failure extends Error {
  readonly reason: string;

  constructor(reason: string, message: string) {
    super(message);
    this.name = 'Failure';
    this.reason = reason;
  }
}

class StandInOperator {
  readonly #api: KubeApi;
  /** What each cluster and its objects were when it was last reconciled. */
  readonly #seen = new Map<string, string>();
  readonly #retryAt = new Map<string, number>();

  constructor(api: KubeApi) {
    this.#api = api;
  }

  /** Goes on until the process ends. */
  async run(): Promise<never> {
    for (;;) {
      await this.#round().catch((error: unknown) => log(`round: ${String(error)}`));
      await new Promise((resolve) => setTimeout(resolve, ROUND_MS));
    }
  }

  async #round(): Promise<void> {
    const recent = { resourceVersion: '0' }; // from the API server's memory
    const clusters = await this.#api.list<RabbitmqCluster>(API_VERSION, 'RabbitmqCluster', undefined, recent);
    if (clusters.length === 0) return;
    const kinds = [
      ['apps/v1', 'StatefulSet'],
      ['v1', 'Service'],
      ['v1', 'Endpoints'],
      ['v1', 'ConfigMap'],
      ['v1', 'Secret'],
      ['v1', 'ServiceAccount'],
    ] as const;
    const query = { ...recent, labelSelector: 'app.kubernetes.io/part-of=rabbitmq' };
    const lists = await Promise.all(
      kinds.map(([version, kind]) => this.#api.list(version, kind, undefined, query)),
    );
    const objects = lists.flat();
    for (const cluster of clusters) {
      const { namespace, name, uid, resourceVersion } = cluster.metadata;
      const own = objects.filter(
        ({ metadata }) =>
          metadata.namespace === namespace && metadata.labels?.['app.kubernetes.io/name'] === name,
      );
      const versions = own.map(({ metadata }) => `${metadata.uid} ${metadata.resourceVersion}`);
      const now = [resourceVersion, ...versions].join();
      if (this.#seen.get(uid) === now && Date.now() < (this.#retryAt.get(uid) ?? Infinity)) continue;
      this.#seen.set(uid, now);
      this.#retryAt.delete(uid);
      await this.#attempt(cluster);
    }
  }

  async #attempt(listed: RabbitmqCluster): Promise<void> {
    const { namespace, name, uid } = listed.metadata;
    try {
      const cluster = await this.#api.find<RabbitmqCluster>(listed);
      if (cluster === undefined) return;
      if (cluster.metadata.deletionTimestamp === undefined) await this.#reconcile(cluster);
      else await this.#letGo(cluster);
    } catch (error) {
      // Somebody was faster, or it is gone: the next round sees.
      const common = error instanceof KubeError && (error.code === 409 || error.code === 404);
      this.#retryAt.set(uid, common ? 0 : Date.now() + RETRY_MS);
      if (!common) log(`${namespace}/${name}: ${String(error)}`);
    }
  }

  /** The pods are told not to wait for each other; then the garbage collector may take all. */
  async #letGo(cluster: RabbitmqCluster): Promise<void> {
    const { namespace, name, finalizers = [] } = cluster.metadata;
    if (!finalizers.includes(FINALIZER)) return;
    const labelSelector = `app.kubernetes.io/name=${name}`;
    for (const pod of await this.#api.list('v1', 'Pod', namespace, { labelSelector }))
      await this.#api.patch(pod, { metadata: { labels: { [SKIP_LABEL]: 'true' } } });
    const left = finalizers.filter((finalizer) => finalizer !== FINALIZER);
    await this.#api.replace({ ...cluster, metadata: { ...cluster.metadata, finalizers: left } });
  }

  async #reconcile(first: RabbitmqCluster): Promise<void> {
    let cluster = first;
    if (cluster.metadata.labels?.[PAUSE_LABEL] === 'true') {
      const paused = { type: 'NoWarnings', status: 'False', reason: 'reconciliation paused' };
      await this.#writeStatus(cluster, [paused]);
      return;
    }
    if ((cluster.spec.image ?? '') === '')
      cluster = await this.#api.replace({
        ...cluster,
        spec: { ...filledIn(cluster.spec), image: DEFAULT_IMAGE },
      });
    const { finalizers = [] } = cluster.metadata;
    if (!finalizers.includes(FINALIZER)) {
      const metadata = { ...cluster.metadata, finalizers: [...finalizers, FINALIZER] };
      cluster = await this.#api.replace({ ...cluster, metadata, spec: filledIn(cluster.spec) });
    }
    cluster = await this.#writeStatus(cluster, await this.#observed(cluster));
    try {
      await this.#checkTls(cluster);
      const field = unplayed(cluster);
      if (field !== undefined) throw new Failure('Error', `this stand-in does not play ${field}`);
      await this.#writeObjects(cluster);
    } catch (error) {
      const reason = error instanceof Failure ? error.reason : 'Error';
      const message = (error as Error).message;
      await this.#writeStatus(cluster, [{ type: 'ReconcileSuccess', status: 'False', reason, message }]);
      throw error;
    }
    const status = this.#references(cluster);
    cluster = await this.#writeStatus(cluster, [], status);
    const set = await this.#api.read<StatefulSet>(setOf(cluster));
    // Here the operator would run rabbitmqctl in the pods.
    if (!isReady(set)) return;
    const done = {
      type: 'ReconcileSuccess',
      status: 'True',
      reason: 'Success',
      message: 'Finish reconciling',
    };
    await this.#writeStatus(cluster, [done], { observedGeneration: cluster.metadata.generation! });
  }

  async #checkTls(cluster: RabbitmqCluster): Promise<void> {
    const { secretName, caSecretName, disableNonTLSListeners } = cluster.spec.tls ?? {};
    if (disableNonTLSListeners === true && secretName === undefined)
      throw new Failure('TLSError', 'TLS must be enabled if disableNonTLSListeners is set to true');
    const needed: [string | undefined, string[]][] = [
      [secretName, ['tls.crt', 'tls.key']],
      [caSecretName, ['ca.crt']],
    ];
    for (const [name, keys] of needed) {
      if (name === undefined) continue;
      const { namespace } = cluster.metadata;
      const secret = await this.#api.find({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { namespace, name },
      });
      if (secret === undefined) throw new Failure('TLSError', `Secret "${name}" not found`);
      const data = (secret['data'] ?? {}) as JsonObject;
      if (keys.some((key) => data[key] === undefined))
        throw new Failure('TLSError', `TLS secret ${name} does not have the fields ${keys.join(' and ')}`);
    }
  }

  async #writeObjects(cluster: RabbitmqCluster): Promise<void> {
    const { namespace } = cluster.metadata;
    for (const kept of objectsOf(cluster)) {
      const { apiVersion, kind, name } = kept;
      const stored = await this.#api.find({ apiVersion, kind, metadata: { namespace, name } });
      const wanted = written(cluster, kept, stored);
      if (stored === undefined) await this.#api.create(wanted);
      else if (!same(asJson(stored), asJson(wanted))) {
        if (name === child(cluster, 'server-conf') && needsRestart(stored, wanted))
          wanted.metadata.annotations = { ...wanted.metadata.annotations, [CONF_UPDATED]: timestamp() };
        await this.#api.replace(wanted);
      }
    }
    const stored = await this.#api.find<StatefulSet>(setOf(cluster));
    const wanted = statefulSet(cluster, stored);
    if (stored === undefined) {
      await this.#api.create(wanted);
      return;
    }
    const [before, after] = [stored.spec.replicas ?? 1, wanted.spec.replicas ?? 1];
    if (after < before)
      throw new Failure(
        'UnsupportedOperation',
        `Cluster Scale down not supported; tried to scale cluster from ${before} nodes to ${after} nodes`,
      );
    await this.#api.replace(wanted);
    await this.#restartIfNeeded(cluster);
  }

  /** A new configuration is read by a new pod only. */
  async #restartIfNeeded(cluster: RabbitmqCluster): Promise<void> {
    const { namespace } = cluster.metadata;
    const metadata = { namespace, name: child(cluster, 'server-conf') };
    const conf = await this.#api.read({ apiVersion: 'v1', kind: 'ConfigMap', metadata });
    const updated = conf.metadata.annotations?.[CONF_UPDATED];
    if (updated === undefined) return;
    const { spec } = await this.#api.read<StatefulSet>(setOf(cluster));
    const restarted = spec.template.metadata?.annotations?.[RESTARTED];
    if (restarted !== undefined && restarted > updated) return;
    const annotations = { [RESTARTED]: timestamp() };
    await this.#api.patch(setOf(cluster), { spec: { template: { metadata: { annotations } } } });
  }

  async #observed(cluster: RabbitmqCluster): Promise<Condition[]> {
    const { namespace, name } = cluster.metadata;
    const set = await this.#api.find<StatefulSet>(setOf(cluster));
    const endpoints = await this.#api.find({
      apiVersion: 'v1',
      kind: 'Endpoints',
      metadata: { namespace, name },
    });
    return [readyCondition(set), availableCondition(endpoints), warningsCondition(set)];
  }

  #references(cluster: RabbitmqCluster): JsonObject {
    const { namespace, name } = cluster.metadata;
    const user = child(cluster, 'default-user');
    const keys = { username: 'username', password: 'password' };
    const secretReference = { name: user, namespace, keys };
    return {
      binding: { name: user },
      defaultUser: { serviceReference: { name, namespace }, secretReference },
    };
  }

  /** Writes what changed; times are those of the last change of a condition's status. */
  async #writeStatus(
    cluster: RabbitmqCluster,
    news: readonly Condition[],
    fields: JsonObject = {},
  ): Promise<RabbitmqCluster> {
    const before = cluster.status?.conditions ?? [];
    const conditions = CONDITIONS.map((type) => {
      const old = before.find((one) => one.type === type);
      const next = news.find((one) => one.type === type) ??
        old ?? { type, status: 'Unknown', reason: type === 'ReconcileSuccess' ? 'Initialising' : '' };
      const since = old?.status === next.status ? old.lastTransitionTime : undefined;
      return { ...next, lastTransitionTime: since ?? timestamp() };
    });
    const status = { ...cluster.status, ...fields, conditions };
    if (same(status, cluster.status ?? {})) return cluster;
    const path = await this.#api.path(cluster, { subresource: 'status' });
    return (await this.#api.call<RabbitmqCluster>('PUT', path, { body: { ...cluster, status } })).body;
  }
}

function setOf(cluster: RabbitmqCluster): KubeObject {
  const metadata: KubeMetadata = { namespace: cluster.metadata.namespace, name: child(cluster, 'server') };
  return { apiVersion: 'apps/v1', kind: 'StatefulSet', metadata };
}

function isReady({ spec, status }: StatefulSet): boolean {
  return status?.readyReplicas === spec.replicas && status?.currentRevision === status?.updateRevision;
}

const MISSING = { status: 'Unknown', reason: 'MissingStatefulSet', message: 'Could not find StatefulSet' };

function readyCondition(set: StatefulSet | undefined): Condition {
  const type = 'AllReplicasReady';
  if (set === undefined) return { type, ...MISSING };
  const [ready, wanted] = [set.status?.readyReplicas ?? 0, set.spec.replicas ?? 1];
  if (wanted === 0) return { type, status: 'False', reason: 'ScaledToZero' };
  if (ready === wanted) return { type, status: 'True', reason: 'AllPodsAreReady' };
  return { type, status: 'False', reason: 'NotAllPodsReady', message: `${ready}/${wanted} Pods ready` };
}

function availableCondition(endpoints: KubeObject | undefined): Condition {
  const type = 'ClusterAvailable';
  if (endpoints === undefined) {
    const message = 'Could not verify available service endpoints';
    return { type, status: 'Unknown', reason: 'CouldNotRetrieveEndpoints', message };
  }
  const subsets = (endpoints['subsets'] ?? []) as { addresses?: unknown[] }[];
  if (subsets.some(({ addresses = [] }) => addresses.length > 0))
    return { type, status: 'True', reason: 'AtLeastOneEndpointAvailable' };
  const message = 'The service has no endpoints available';
  return { type, status: 'False', reason: 'NoEndpointsAvailable', message };
}

function warningsCondition(set: StatefulSet | undefined): Condition {
  const type = 'NoWarnings';
  if (set === undefined) return { type, ...MISSING };
  const [{ resources }] = set.spec.template.spec['containers'] as unknown as [
    { resources?: Record<'limits' | 'requests', { memory?: string } | undefined> },
  ];
  if (resources?.limits?.memory === resources?.requests?.memory)
    return { type, status: 'True', reason: 'NoWarnings' };
  const message = 'RabbitMQ container memory resource request and limit must be equal';
  return { type, status: 'False', reason: 'MemoryRequestAndLimitDifferent', message };
}

/** Whole seconds, as Kubernetes has them. */
function timestamp(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, 'Z');
}

/** Without the fields that are set to undefined, as it would be sent. */
function asJson(object: KubeObject): Json {
  return JSON.parse(JSON.stringify(object)) as Json;
}

function log(line: string): void {
  process.stderr.write(`${new Date().toISOString()} ${line}\n`);
}

const { KUBE_URL = '', KUBE_CA = '', KUBE_TOKEN = '' } = process.env;
const api = new KubeApi({ url: KUBE_URL, ca: readFileSync(KUBE_CA, 'utf8'), token: KUBE_TOKEN });
await new StandInOperator(api).run();
