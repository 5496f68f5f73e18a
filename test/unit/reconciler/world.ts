// A cluster in memory around the reconciler: what the cluster operator, the StatefulSet controller, the kubelet, the garbage
// collector, the webhook and RabbitMQ do, one move at a time, by a clock that only the test moves.
import { randomUUID } from 'node:crypto';
import { ANNOTATION, PROXY_CONTAINER, UPGRADE_ANNOTATION, WIPE_CONTAINER } from '../../../common/contract.ts';
import { objectsAt, textAt, valueAt } from '../../../common/kube/json.ts';
import { CLAIM, CLUSTER, POD, RABBITMQ, SECRET, STATEFUL_SET } from '../../../common/kube/resources.ts';
import type { JsonObject, KubeObject } from '../../../common/kube/types.ts';
import type { ToldEvent } from '../../../common/kube/events.ts';
import { messageOf } from '../../../common/errors.ts';
import { createLogger } from '../../../common/log.ts';
import type { Broker } from '../../../reconciler/broker/access.ts';
import { sha256Of } from '../../../reconciler/broker/definitions.ts';
import { DEFINITION_KINDS } from '../../../reconciler/broker/kinds.ts';
import { reportOf } from '../../../reconciler/broker/report.ts';
import type { ClientsLookup } from '../../../reconciler/clients.ts';
import { type Reconcile, createReconciler } from '../../../reconciler/reconcile.ts';
import type { ObservedRabbitMq, PlanSettings } from '../../../reconciler/types.ts';
import { imageWarnings } from '../../../webhook/downgrade.ts';
import { Crash, MemoryApi, type Write } from '../../support/memory-api.ts';

export const NAMESPACE = 'openstack';
export const NAME = 'rabbitmq';
const PLACE = { namespace: NAMESPACE, name: NAME };
const FINALIZER = 'deletion.finalizers.rabbitmqclusters.rabbitmq.com';

export interface WorldSettings {
  /** Tag of the image that the cluster runs at the start; undefined: there is none. */
  readonly version?: string;
  readonly replicas?: number;
  readonly settings?: Partial<PlanSettings>;
  readonly spec?: JsonObject;
  readonly annotations?: Record<string, string>;
  readonly status?: JsonObject;
}

/** RabbitMQ's own state: what a node keeps on its volume. */
interface BrokerState {
  version: string;
  definitions: string[];
  /** Exchanges of the messaging topology. */
  declared: string[];
  messages: number;
  user: { username: string; password: string };
}

const labels = {
  'app.kubernetes.io/name': NAME,
  'app.kubernetes.io/component': 'rabbitmq',
  'app.kubernetes.io/part-of': 'rabbitmq',
};

export class World {
  readonly api = new MemoryApi();
  readonly told: ToldEvent[] = [];
  /** Deletions of the RabbitmqCluster that were accepted, by uid. */
  readonly deletions: string[] = [];
  readonly created: string[] = [];
  time = Date.parse('2026-11-21T12:00:00Z');
  /** undefined while no broker runs. */
  broker: BrokerState | undefined;
  /** What may be changed by a test at any time. */
  whims = {
    podsEnd: true,
    podsBecomeReady: true,
    managementAnswers: true,
    webhook: true,
    operatorWorks: true,
  };
  /** How often a messaging topology was declared, and what is in the way of that. */
  declares = 0;
  obstacle = '';
  /** Writes so far, and after which of them the process ends; before it is done or behind it. */
  writes = 0;
  crash: { at: number | 'every change'; when: 'before' | 'after' } | undefined;
  #isDead = false;
  readonly #settings: PlanSettings & { clientsIntervalMs: number };
  #reconcile: Reconcile;

  constructor({
    version = '3.10.8',
    replicas = 1,
    settings = {},
    spec = {},
    annotations = {},
    status,
  }: WorldSettings = {}) {
    this.#settings = {
      requireApproval: false,
      wipePolicy: 'refuse',
      readyTimeoutMs: 1_800_000,
      defaultVersion: '4.2',
      clientsIntervalMs: 30_000,
      ...settings,
    };
    this.api.now = () => new Date(this.time);
    this.api.before = (write) => this.#before(write);
    this.api.after = (write, hasChanged) => this.#after(write, hasChanged);
    this.api.reading = () => this.#live();
    this.#reconcile = this.#start();
    this.api.put(RABBITMQ, {
      apiVersion: 'rabbitmq.openstack.org/v1beta1',
      kind: 'RabbitMq',
      metadata: { ...PLACE, annotations },
      spec: { queueType: 'Quorum', ...spec },
      ...(status && { status }),
    });
    if (version !== '') this.startCluster(version, replicas);
  }

  startCluster(version: string, replicas: number): void {
    this.api.put(CLUSTER, {
      apiVersion: 'rabbitmq.com/v1beta1',
      kind: 'RabbitmqCluster',
      metadata: { ...PLACE },
      spec: { image: `rabbitmq:${version}-management`, replicas, terminationGracePeriodSeconds: 60 },
    });
    this.settle();
    this.broker!.definitions = ['orders', 'reply_1'];
  }

  /** A new process: nothing is remembered. */
  #start(): Reconcile {
    return createReconciler({
      api: this.api,
      broker: this.#brokerPort(),
      clients: this.clients,
      settings: this.#settings,
      log: createLogger({ name: 'test', level: 'silent' }),
      tell: (_object, event) => void this.told.push(event),
      now: () => new Date(this.time),
      seen: (_key, observed) => this.seen(observed?.rabbitmq),
    });
  }

  /** Told of the RabbitMq at each look. */
  seen: (rabbitmq: ObservedRabbitMq | undefined) => void = () => {};

  clients: ClientsLookup = { ask: () => Promise.resolve({ told: [] }) };

  restart(): void {
    this.#isDead = false;
    this.#reconcile = this.#start();
  }

  /** A process that has ended asks and writes nothing more. */
  #live(): void {
    if (this.#isDead) throw new Crash('the process has ended');
  }

  #end(when: string): never {
    this.#isDead = true;
    throw new Crash(`${when} the write`);
  }

  #before(write: Write): void {
    this.#live();
    this.writes++;
    if (this.crash?.at === this.writes && this.crash.when === 'before') this.#end('before');
    if (write.verb === 'delete' && write.resource === CLUSTER && write.before !== undefined)
      this.#judgeDeletion(write);
  }

  #after(write: Write, hasChanged: boolean): void {
    if (write.verb === 'create' && write.resource === CLUSTER && write.before === undefined) {
      this.created.push(textAt(this.cluster, 'metadata', 'uid') ?? '');
      // As the real one does, at admission.
      if (this.whims.webhook) this.inject();
    }
    if (write.verb === 'patch' && write.resource === CLUSTER) {
      this.#judgeImage(write);
      if (this.whims.webhook) this.inject();
    }
    if (this.crash?.when !== 'after') return;
    if (this.crash.at === this.writes || (this.crash.at === 'every change' && hasChanged)) this.#end('after');
  }

  /** What must hold whenever a cluster is deleted; recorded, since the code under test may catch what is thrown. */
  readonly wrongs: string[] = [];

  #judgeDeletion({ before }: Write): void {
    const uid = textAt(before, 'metadata', 'uid') ?? '';
    if (textAt(before, 'metadata', 'deletionTimestamp') === undefined) this.deletions.push(uid);
    const upgrade = valueAt(this.rabbitmq, 'status', 'upgrade');
    if (textAt(this.rabbitmq, 'metadata', 'deletionTimestamp') !== undefined) return;
    if (textAt(upgrade, 'clusterUid') !== uid)
      this.wrongs.push('a cluster was deleted that is not the recorded one');
    if (textAt(this.rabbitmq, 'status', 'upgradePhase') !== 'DeletingResources')
      this.wrongs.push('deleted out of its phase');
    const credentials = this.api.peek(SECRET, NAMESPACE, `${NAME}-default-user-backup`);
    if (textAt(credentials, 'data', 'password') !== textAt(this.secret, 'data', 'password')) {
      this.wrongs.push('deleted before the credentials were saved');
    }
    const index = this.api.peek(SECRET, NAMESPACE, textAt(upgrade, 'backup', 'secret') ?? '');
    if (index === undefined) this.wrongs.push('deleted before the definitions were saved');
    if (this.pods.some((pod) => textAt(pod, 'metadata', 'labels', 'skipPreStopChecks') === undefined)) {
      this.wrongs.push('deleted before the pods were labelled');
    }
  }

  /** The reconciler's own writes are none that the webhook would refuse, or only warn about. */
  #judgeImage({ before }: Write): void {
    const [object, rabbitmq] = [this.cluster, this.rabbitmq];
    if (object === undefined || before === undefined || rabbitmq === undefined) return;
    const owner = { state: 'found', rabbitmq } as const;
    try {
      this.wrongs.push(...imageWarnings({ object, oldObject: before, owner }));
    } catch (error) {
      this.wrongs.push(messageOf(error));
    }
  }

  get rabbitmq(): KubeObject | undefined {
    return this.api.peek(RABBITMQ, NAMESPACE, NAME);
  }

  get cluster(): KubeObject | undefined {
    return this.api.peek(CLUSTER, NAMESPACE, NAME);
  }

  get secret(): KubeObject | undefined {
    return this.api.peek(SECRET, NAMESPACE, `${NAME}-default-user`);
  }

  get pods(): KubeObject[] {
    return this.api
      .all(POD)
      .filter((pod) => textAt(pod, 'metadata', 'labels', 'app.kubernetes.io/name') === NAME);
  }

  status(...path: string[]) {
    return valueAt(this.rabbitmq, 'status', ...path);
  }

  condition(type: string): JsonObject | undefined {
    return objectsAt(this.rabbitmq, 'status', 'conditions').find((each) => each['type'] === type);
  }

  /** As kubectl does it: a merge patch. */
  async edit(patch: JsonObject): Promise<void> {
    const { before, after } = this.api;
    this.api.before = this.api.after = () => {};
    await this.api.patch(RABBITMQ, PLACE, patch, {});
    this.api.before = before;
    this.api.after = after;
  }

  async annotate(annotations: Record<string, string | null>): Promise<void> {
    await this.edit({ metadata: { annotations } });
  }

  /** Whether the webhook would put the proxy in, as far as matters here. */
  inject(): void {
    const cluster = this.cluster;
    if (cluster === undefined) return;
    const stamp = textAt(cluster, 'metadata', 'annotations', ANNOTATION.inject);
    const isWanted = stamp !== 'false' && (stamp === 'true' || this.status('proxyRequired') === true);
    const path = ['spec', 'override', 'statefulSet', 'spec', 'template', 'spec'];
    const template = (valueAt(cluster, ...path) ?? {}) as JsonObject;
    const others = objectsAt(template, 'containers').filter((each) => each['name'] !== PROXY_CONTAINER);
    const containers = isWanted ? [...others, { name: PROXY_CONTAINER }] : others;
    const override = { statefulSet: { spec: { template: { spec: { ...template, containers } } } } };
    this.api.put(CLUSTER, { ...cluster, spec: { ...(cluster['spec'] as JsonObject), override } });
  }

  /** What the others do until nothing more happens by itself. */
  settle(): void {
    for (let i = 0; i < 6; i++) this.move();
  }

  /** One move of everybody else. */
  move(): void {
    if (!this.whims.operatorWorks) return;
    const cluster = this.cluster;
    if (cluster !== undefined && textAt(cluster, 'metadata', 'deletionTimestamp') !== undefined)
      this.#endCluster();
    else if (cluster !== undefined) this.#runCluster(cluster);
    this.#movePods();
  }

  #endCluster(): void {
    this.api.drop(CLUSTER, NAMESPACE, NAME);
    this.api.drop(STATEFUL_SET, NAMESPACE, `${NAME}-server`);
    this.broker = undefined;
    for (const pod of this.pods) this.#deletePod(pod);
  }

  #deletePod(pod: KubeObject): void {
    if (textAt(pod, 'metadata', 'deletionTimestamp') !== undefined) return;
    const grace = 60;
    const deletionTimestamp = new Date(this.time + grace * 1000).toISOString();
    this.api.put(POD, {
      ...pod,
      metadata: { ...pod.metadata, deletionTimestamp, deletionGracePeriodSeconds: grace },
    });
  }

  #runCluster(cluster: KubeObject): void {
    const uid = textAt(cluster, 'metadata', 'uid') ?? '';
    const replicas = Number(valueAt(cluster, 'spec', 'replicas') ?? 1);
    const owner = [
      { apiVersion: 'rabbitmq.com/v1beta1', kind: 'RabbitmqCluster', name: NAME, uid, controller: true },
    ];
    const secret = this.secret;
    const generated = { username: b64(`default_user_${uid.slice(0, 8)}`), password: b64(randomUUID()) };
    const data = (valueAt(secret, 'data') ?? generated) as JsonObject;
    const metadata = { namespace: NAMESPACE, name: `${NAME}-default-user`, labels, ownerReferences: owner };
    this.api.put(SECRET, { apiVersion: 'v1', kind: 'Secret', metadata, data });
    if (!objectsAt(cluster, 'metadata', 'finalizers').includes({})) {
      this.api.put(CLUSTER, { ...cluster, metadata: { ...cluster.metadata, finalizers: [FINALIZER] } });
    }
    const template = valueAt(cluster, 'spec', 'override', 'statefulSet', 'spec', 'template', 'spec') as
      | JsonObject
      | undefined;
    const image = textAt(cluster, 'spec', 'image') ?? '';
    const ready = this.pods.filter((pod) => isReady(pod)).length;
    const generation = Number(valueAt(cluster, 'metadata', 'generation') ?? 1);
    const all = { replicas, readyReplicas: ready, updatedReplicas: replicas };
    this.api.put(STATEFUL_SET, {
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: { namespace: NAMESPACE, name: `${NAME}-server`, labels, ownerReferences: owner, generation },
      spec: { replicas, template: { spec: { ...template } } },
      status: { observedGeneration: generation, ...all, currentRevision: 'r1', updateRevision: 'r1' },
    });
    for (let i = 0; i < replicas; i++) this.#startPod(i, image, template, uid);
    const current = this.cluster!;
    const conditions = [{ type: 'AllReplicasReady', status: ready === replicas ? 'True' : 'False' }];
    this.api.put(CLUSTER, { ...current, status: { observedGeneration: generation, conditions } });
  }

  #startPod(index: number, image: string, template: JsonObject | undefined, clusterUid: string): void {
    const name = `${NAME}-server-${index}`;
    const claim = {
      namespace: NAMESPACE,
      name: `persistence-${name}`,
      labels,
      ownerReferences: [{ kind: 'RabbitmqCluster', uid: clusterUid }],
    };
    const volume = this.api.peek(CLAIM, NAMESPACE, claim.name);
    this.api.put(CLAIM, {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: volume?.metadata ?? claim,
      status: { phase: 'Bound' },
    });
    const old = this.api.peek(POD, NAMESPACE, name);
    if (old !== undefined) return;
    const wipes = objectsAt(template, 'initContainers').some((each) => each['name'] === WIPE_CONTAINER);
    this.api.put(POD, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: NAMESPACE, name, labels },
      spec: { terminationGracePeriodSeconds: 60, ...template },
      status: { podIP: `10.0.0.${index + 1}`, conditions: [] },
    });
    if (index > 0) return;
    const version = /:(\d+\.\d+(?:\.\d+)?)/.exec(image)?.[1] ?? '';
    const { username, password } = credentialsOf(this.secret);
    if (this.broker !== undefined && !wipes) this.broker.version = version;
    else this.broker = { version, definitions: [], declared: [], messages: 0, user: { username, password } };
  }

  #movePods(): void {
    for (const pod of this.pods) {
      if (textAt(pod, 'metadata', 'deletionTimestamp') !== undefined) {
        if (this.whims.podsEnd) this.api.drop(POD, NAMESPACE, textAt(pod, 'metadata', 'name') ?? '');
      } else if (this.whims.podsBecomeReady && !isReady(pod)) {
        const conditions = [{ type: 'Ready', status: 'True' }];
        this.api.put(POD, { ...pod, status: { ...(pod['status'] as JsonObject), conditions } });
      }
    }
  }

  #brokerPort(): Broker {
    const answers = (secret: KubeObject): BrokerState => {
      if (!this.whims.managementAnswers || this.broker === undefined)
        throw new Error('the management API does not answer');
      const { username, password } = credentialsOf(secret);
      const { user } = this.broker;
      if (username !== user.username || password !== user.password)
        throw new Error('401: the credentials are not accepted');
      return this.broker;
    };
    return {
      observe: async (_cluster, pods, secret) => {
        try {
          const { version, messages } = answers(secret);
          const queues = Math.min(messages, 1);
          const holding = messages > 0 ? [{ vhost: '/', name: 'orders', messages }] : [];
          return await Promise.resolve({
            state: 'known',
            version,
            running: pods.length,
            nodes: pods.length,
            holding,
            messages,
            queues,
          });
        } catch (error) {
          return { state: 'unknown', why: (error as Error).message };
        }
      },
      export: async (_cluster, _pods, secret) => {
        const { version: brokerVersion, messages, definitions: queues } = answers(secret);
        const lists = DEFINITION_KINDS.map((kind) => [kind, kind === 'queues' ? queues.map(asQueue) : []]);
        const text = JSON.stringify(Object.fromEntries(lists));
        const counts = Object.fromEntries(DEFINITION_KINDS.map((kind) => [kind, 0])) as never;
        const holding = messages > 0 ? [{ vhost: '/', name: 'orders', messages }] : [];
        const definitions = { text, sha256: sha256Of(text), brokerVersion, counts };
        return Promise.resolve({ definitions, inventory: { holding, messages } });
      },
      bringBack: async ({ secret, saved }) => {
        const state = answers(secret);
        const names = objectsAt(saved.definitions, 'queues').map((queue) => textAt(queue, 'name') ?? '');
        state.definitions = [...new Set([...state.definitions, ...names])];
        const counts = { kept: names.length, changed: 0, dropped: 0, refused: 0 };
        return Promise.resolve({ counts, differences: [], firstRefused: '', report: reportOf([]) });
      },
      declare: async ({ secret, topology: { exchanges } }) => {
        const { declared } = answers(secret);
        this.declares++;
        if (this.obstacle !== '') return Promise.resolve({ result: 'conflict', why: this.obstacle });
        const lacking = exchanges.filter(({ name }) => !declared.includes(name));
        declared.push(...lacking.map(({ name }) => name));
        return Promise.resolve({ result: 'declared', created: lacking.length, total: exchanges.length });
      },
    };
  }

  /** Another process that works at the same time. */
  another(): () => Promise<unknown> {
    const reconcile = this.#start();
    return () => reconcile(PLACE, new AbortController().signal);
  }

  /** One reconcile; what it would be told to do next in milliseconds, undefined for nothing. */
  async reconcile(): Promise<number | undefined> {
    return (await this.#reconcile(PLACE, new AbortController().signal)).requeueAfterMs;
  }

  /**
   * Reconciles, lets the others move and time pass, until `isDone` or until that makes no sense any more.
   * @returns how many reconciles that took; throws when it isn't done then.
   */
  async run(isDone: () => boolean, max = 400): Promise<number> {
    for (let i = 1; i <= max; i++) {
      let next: number | undefined;
      try {
        next = await this.reconcile();
      } catch (error) {
        if (error instanceof Crash) this.restart();
        next = 1000; // the work queue's backoff
      }
      this.move();
      this.time += Math.max(next ?? 30_000, 100);
      if (isDone()) return i;
    }
    throw new Error(`not done after ${max} reconciles: ${JSON.stringify(this.rabbitmq?.['status'])}`);
  }

  /** Reconciles until nothing more is to be done at once. */
  async rest(): Promise<void> {
    for (let i = 0; i < 100; i++) {
      const next = await this.reconcile();
      this.move();
      this.time += Math.max(next ?? 30_000, 100);
      if (next !== 0 && i > 5) return;
    }
    throw new Error(`no rest: ${JSON.stringify(this.rabbitmq?.['status'])}`);
  }

  /** Whether an upgrade to `version` is over and done with. */
  isAt(version: string): boolean {
    return (
      this.status('currentVersion') === version &&
      (this.status('upgradePhase') ?? '') === '' &&
      textAt(this.rabbitmq, 'metadata', 'annotations', ANNOTATION.targetVersion) === undefined &&
      textAt(this.cluster, 'metadata', 'annotations', UPGRADE_ANNOTATION.storageWipeNeeded) === undefined
    );
  }
}

function asQueue(name: string): JsonObject {
  return { name, vhost: '/', durable: true };
}

function b64(text: string): string {
  return Buffer.from(text).toString('base64');
}

function credentialsOf(secret: KubeObject | undefined): { username: string; password: string } {
  const read = (key: string): string => Buffer.from(textAt(secret, 'data', key) ?? '', 'base64').toString();
  return { username: read('username'), password: read('password') };
}

function isReady(pod: KubeObject): boolean {
  return objectsAt(pod, 'status', 'conditions').some(
    (each) => each['type'] === 'Ready' && each['status'] === 'True',
  );
}
