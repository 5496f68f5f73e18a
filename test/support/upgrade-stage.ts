// Where upgrades are tested: a real control plane with the real cluster-operator and our webhook, pods with brokers, and an
// audit log of all that the reconciler does as its service account.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { stringify } from 'yaml';
import { ANNOTATION, INSTALL } from '../../common/contract.ts';
import { type Api, connectApi } from '../../common/kube/api.ts';
import { type OpenCluster, openCluster } from '../../common/kube/open.ts';
import { type Reflector, startReflector } from '../../common/kube/reflector.ts';
import { CLUSTER, RABBITMQ, type Resource, SECRET } from '../../common/kube/resources.ts';
import { createLogger } from '../../common/log.ts';
import { KeptReconciler } from './kept-reconciler.ts';
import { type KubeApi, type KubeObject, eventually } from './kube-api.ts';
import { type Cluster, startCluster } from './kube.ts';
import { MANIFESTS, objectsOf } from './manifests.ts';
import { PodBrokers, type PodBrokersSettings } from './pod-brokers.ts';
import { type WebhookProcess, startWebhookProcess } from './webhook-process.ts';

export const NAMESPACE = 'openstack';
const ACCOUNT = `system:serviceaccount:${INSTALL.namespace}:${INSTALL.reconciler}`;

export interface RabbitMqStatus {
  readonly currentVersion?: string;
  readonly upgradePhase?: string;
  readonly proxyRequired?: boolean;
  readonly upgrade?: Record<string, unknown>;
  readonly lastUpgrade?: Record<string, unknown>;
  readonly messagingTopology?: Record<string, unknown>;
  readonly conditions?: readonly Condition[];
}

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

export interface RabbitMq extends KubeObject {
  readonly spec: Record<string, unknown>;
  readonly status?: RabbitMqStatus;
}

export interface Secret extends KubeObject {
  readonly data: Record<string, string>;
}

/** A request of the reconciler's, as the API server has noted it. */
export interface AuditEvent {
  readonly verb: string;
  readonly objectRef?: { resource: string; namespace?: string; name?: string; subresource?: string };
  readonly responseStatus?: { code: number };
  readonly requestReceivedTimestamp: string;
}

/** Told of what is stored anew, and with 'gone' as it last was. */
export type Witness = (what: 'stored' | 'gone', object: KubeObject) => void;

export function rabbitMqRef(name: string) {
  return {
    apiVersion: 'rabbitmq.openstack.org/v1beta1',
    kind: 'RabbitMq',
    metadata: { namespace: NAMESPACE, name },
  };
}

export function clusterRef(name: string) {
  return {
    apiVersion: 'rabbitmq.com/v1beta1',
    kind: 'RabbitmqCluster',
    metadata: { namespace: NAMESPACE, name },
  };
}

export function secretRef(name: string) {
  return { apiVersion: 'v1', kind: 'Secret', metadata: { namespace: NAMESPACE, name } };
}

/** A RabbitmqCluster of one node with a claim, as its user made it. */
export function oldCluster(name: string): KubeObject {
  const spec = {
    replicas: 1,
    image: 'rabbitmq:3.10.8-management',
    persistence: { storage: '1Gi' },
    terminationGracePeriodSeconds: 1,
  };
  return { ...clusterRef(name), spec };
}

function registration(kind: 'Mutating' | 'Validating', { url, ca }: WebhookProcess): KubeObject {
  const path = kind === 'Mutating' ? INSTALL.path.mutate : INSTALL.path.validate;
  const rule = (apiGroup: string, resource: string) => ({
    apiGroups: [apiGroup],
    apiVersions: ['v1beta1'],
    operations: ['CREATE', 'UPDATE'],
    resources: [resource],
    scope: 'Namespaced',
  });
  const webhook = {
    name: INSTALL.webhook.rabbitMq,
    clientConfig: { url: new URL(path, url).href, caBundle: Buffer.from(ca).toString('base64') },
    rules: [rule('rabbitmq.openstack.org', 'rabbitmqs'), rule('rabbitmq.com', 'rabbitmqclusters')],
    failurePolicy: 'Fail',
    sideEffects: 'None',
    timeoutSeconds: 10,
    admissionReviewVersions: ['v1'],
  };
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: `${kind}WebhookConfiguration`,
    metadata: { name: INSTALL.configuration },
    webhooks: [webhook],
  };
}

export class Stage {
  readonly cluster: Cluster;
  readonly brokers: PodBrokers;
  readonly webhook: WebhookProcess;
  /** Of the reconciler's service account, which has the rights of the manifests. */
  readonly #kubeconfig: string;
  readonly #reconcilers: KeptReconciler[] = [];
  readonly #witnesses = new Set<Witness>();
  readonly #folder: string;
  readonly #opened: OpenCluster;
  readonly #reflectors: Reflector[];

  private constructor(parts: {
    cluster: Cluster;
    brokers: PodBrokers;
    webhook: WebhookProcess;
    kubeconfig: string;
    folder: string;
    opened: OpenCluster;
  }) {
    this.cluster = parts.cluster;
    this.brokers = parts.brokers;
    this.webhook = parts.webhook;
    this.#kubeconfig = parts.kubeconfig;
    this.#folder = parts.folder;
    this.#opened = parts.opened;
    const api = connectApi(parts.opened);
    this.#reflectors = [RABBITMQ, CLUSTER, SECRET].map((resource) => this.#follow(api, resource));
  }

  static async start(settings: PodBrokersSettings): Promise<Stage> {
    const folder = await mkdtemp(join(tmpdir(), 'quorumbridge-stage-'));
    const brokers = new PodBrokers(settings);
    await using started = new AsyncDisposableStack();
    started.defer(() => rm(folder, { recursive: true, force: true }));
    started.defer(() => brokers.stop());
    const cluster = await startCluster({
      operator: true,
      kubelet: brokers.kubelet,
      apiServerArgs: await auditArgs(folder),
    });
    started.use(cluster);
    brokers.begin(cluster.api);
    await cluster.createNamespace(NAMESPACE);
    await installRights(cluster);
    // It looks for new kinds of objects at its start, and then every 30 s: until it does, what they own is not collected.
    await cluster.restart('kube-controller-manager');
    const webhook = started.use(await startWebhookProcess(cluster.kubeconfig));
    for (const kind of ['Mutating', 'Validating'] as const)
      await cluster.api.create(registration(kind, webhook));
    await eventually('the validating webhook', async () => {
      const dotted = { ...rabbitMqRef('dotted.name'), spec: {} };
      const refused = await cluster.api.create(dotted, { dryRun: 'All' }).catch((error: unknown) => error);
      return String(refused).includes('is no DNS label');
    });
    const token = await cluster.tokenOf(INSTALL.namespace, INSTALL.reconciler);
    const kubeconfig = await cluster.writeKubeconfig('reconciler', token);
    const opened = await openCluster({ from: 'kubeconfig', files: [cluster.kubeconfig] });
    started.move();
    return new Stage({ cluster, brokers, webhook, kubeconfig, folder, opened });
  }

  get api(): KubeApi {
    return this.cluster.api;
  }

  /** Starts a reconciler, which ends with the stage. */
  async startReconciler(args: readonly string[] = []): Promise<KeptReconciler> {
    const reconciler = await KeptReconciler.start(this.#kubeconfig, args);
    this.#reconcilers.push(reconciler);
    return reconciler;
  }

  /** What all reconcilers have said so far. */
  get said(): string {
    return this.#reconcilers.flatMap(({ said }) => said).join('\n');
  }

  async stop(): Promise<void> {
    await Promise.all(this.#reconcilers.map((reconciler) => reconciler.stop()));
    await Promise.all(this.#reflectors.map((reflector) => reflector.stop()));
    await this.#opened.pool.destroy();
    await this.cluster.stop();
    await this.webhook.stop();
    await this.brokers.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Makes such clusters, and waits until all of them are ready. */
  async makeClusters(names: readonly string[]): Promise<void> {
    for (const name of names) await this.api.create(oldCluster(name));
    for (const name of names) await this.ready(name);
  }

  /** The RabbitmqCluster, once all of it is ready. */
  async ready(name: string): Promise<KubeObject> {
    return this.eventually(`${name} is ready`, async () => {
      const now = await this.api.read<KubeObject & { status?: { conditions?: Condition[] } }>(
        clusterRef(name),
      );
      const found = now.status?.conditions?.find(({ type }) => type === 'AllReplicasReady');
      return found?.status === 'True' && now;
    });
  }

  /** Makes a RabbitMq for a cluster that is there, and waits until its version is known. */
  async govern(name: string, spec: Record<string, unknown> = {}): Promise<void> {
    await this.api.create({ ...rabbitMqRef(name), spec });
    await this.until(name, 'is known and ready', ({ currentVersion, conditions }) => {
      const ready = conditions?.find(({ type }) => type === 'Ready');
      return currentVersion === '3.10' && ready?.status === 'True';
    });
  }

  async annotate(name: string, annotations: Record<string, string | null>): Promise<void> {
    await this.api.patch(rabbitMqRef(name), { metadata: { annotations } });
  }

  read(name: string): Promise<RabbitMq> {
    return this.api.read<RabbitMq>(rabbitMqRef(name));
  }

  /** Waits for a status; tells how everything is when it does not come. */
  async until(
    name: string,
    what: string,
    isSo: (status: RabbitMqStatus, rabbitMq: RabbitMq) => boolean,
    timeoutMs = 60_000,
  ): Promise<RabbitMq> {
    return this.eventually(
      `RabbitMq ${name} ${what}`,
      async () => {
        const now = await this.read(name);
        return isSo(now.status ?? {}, now) && now;
      },
      timeoutMs,
    );
  }

  /** The same with the condition of that type, which has to have this reason. */
  async untilCondition(name: string, type: string, reason: string, timeoutMs?: number): Promise<Condition> {
    const find = ({ conditions }: RabbitMqStatus) => conditions?.find((each) => each.type === type);
    const found = await this.until(
      name,
      `${type}: ${reason}`,
      (status) => find(status)?.reason === reason,
      timeoutMs,
    );
    return find(found.status!)!;
  }

  async eventually<T>(
    what: string,
    ask: () => Promise<T | undefined | false>,
    timeoutMs = 60_000,
  ): Promise<T> {
    try {
      return await eventually(what, ask, timeoutMs);
    } catch (error) {
      const all = await this.api
        .list<RabbitMq>('rabbitmq.openstack.org/v1beta1', 'RabbitMq', NAMESPACE)
        .catch(() => []);
      const statuses = all.map(({ metadata, status }) => `${metadata.name}: ${JSON.stringify(status)}`);
      const trouble = [
        ...this.brokers.failures.slice(-3),
        inspect(this.cluster.kubelet?.trouble),
        this.said.slice(-3000),
      ];
      throw new Error([String(error), ...statuses, ...trouble].join('\n'), { cause: error });
    }
  }

  /** Is told of each RabbitMq, RabbitmqCluster and Secret that is stored anew or gone; returns what ends that. */
  witness(witness: Witness): () => void {
    this.#witnesses.add(witness);
    return () => this.#witnesses.delete(witness);
  }

  /** Resolves in the moment in which it is so. */
  async once(isSo: (what: 'stored' | 'gone', object: KubeObject) => boolean): Promise<void> {
    await new Promise<void>((resolve) => {
      const end = this.witness((what, object) => {
        if (!isSo(what, object)) return;
        end();
        resolve();
      });
    });
  }

  /** Resolves when that phase is stored. */
  phase(name: string, phase: string): Promise<void> {
    return this.once(
      (_, { kind, metadata, ...rest }) =>
        kind === 'RabbitMq' &&
        metadata.name === name &&
        (rest as { status?: RabbitMqStatus }).status?.upgradePhase === phase,
    );
  }

  /** Waits for the end of an upgrade: the version runs, the phase is over, and what it was about is put away. */
  async upgraded(name: string, version: string, timeoutMs = 60_000): Promise<RabbitMq> {
    return this.until(
      name,
      `is at ${version}`,
      ({ currentVersion, upgradePhase, conditions }, { metadata }) =>
        currentVersion === version &&
        upgradePhase === '' &&
        metadata.annotations?.[ANNOTATION.targetVersion] === undefined &&
        conditions?.find(({ type }) => type === 'Upgrading')?.reason === 'NoUpgrade',
      timeoutMs,
    );
  }

  /** Username and password in NAME-default-user. */
  async credentials(name: string): Promise<{ username: string; password: string }> {
    const { data } = await this.api.read<Secret>(secretRef(`${name}-default-user`));
    const text = (key: string) => Buffer.from(data[key] ?? '', 'base64').toString();
    return { username: text('username'), password: text('password') };
  }

  /** What people read about a RabbitMq: itself and its Events. */
  async told(name: string): Promise<string> {
    return JSON.stringify([await this.read(name), await this.events(name)]);
  }

  /** The reconciler's Events about a RabbitMq, the oldest first. */
  async events(name: string): Promise<{ reason: string; type: string; note: string }[]> {
    const all = await this.api.list<KubeObject>('events.k8s.io/v1', 'Event', NAMESPACE);
    return all
      .filter((event) => {
        const { kind, name: about } = event['regarding'] as { kind: string; name: string };
        return (
          kind === 'RabbitMq' &&
          about === name &&
          event['reportingController'] === 'quorumbridge.io/reconciler'
        );
      })
      .sort((a, b) => (String(a['eventTime']) < String(b['eventTime']) ? -1 : 1))
      .map(
        ({ reason, type, note }) =>
          ({ reason, type, note }) as { reason: string; type: string; note: string },
      );
  }

  /** What the reconciler asked the API server for so far, all processes of it. */
  async audited(): Promise<AuditEvent[]> {
    const text = await readFile(join(this.#folder, 'audit.log'), 'utf8');
    return text
      .split('\n')
      .filter((line) => line.endsWith('}'))
      .map((line) => JSON.parse(line) as AuditEvent);
  }

  /** How often it did something to an object with that result. */
  async did(verb: string, resource: string, name: string, code: number): Promise<number> {
    return (await this.audited()).filter(
      (event) =>
        event.verb === verb &&
        event.objectRef?.resource === resource &&
        event.objectRef.name === name &&
        event.responseStatus?.code === code,
    ).length;
  }

  #follow(api: Api, resource: Resource): Reflector {
    const known = new Map<string, KubeObject>();
    const tell = (what: 'stored' | 'gone', object: KubeObject): void => {
      for (const witness of this.#witnesses) witness(what, { ...object, kind: resource.kind });
    };
    const put = (object: KubeObject): void => {
      known.set(object.metadata.uid!, object);
      tell('stored', object);
    };
    const remove = (object: KubeObject): void => {
      if (known.delete(object.metadata.uid!)) tell('gone', object);
    };
    return startReflector({
      api,
      resource,
      selection: { namespace: NAMESPACE },
      log: createLogger({ name: 'witness', level: 'fatal' }),
      backoff: { firstMs: 50, maxMs: 500 },
      follower: {
        replace(objects) {
          const there = new Set(objects.map(({ metadata }) => metadata['uid']));
          for (const object of known.values()) if (!there.has(object.metadata.uid)) remove(object);
          for (const object of objects) put(object);
        },
        put: (object) => put(object),
        remove: (object) => remove(object),
      },
    });
  }
}

async function auditArgs(folder: string): Promise<string[]> {
  const policy = join(folder, 'audit.yaml');
  const rules = [{ level: 'Metadata', users: [ACCOUNT] }, { level: 'None' }];
  const kind = { apiVersion: 'audit.k8s.io/v1', kind: 'Policy', omitStages: ['RequestReceived'], rules };
  await writeFile(policy, stringify(kind));
  return [`--audit-policy-file=${policy}`, `--audit-log-path=${join(folder, 'audit.log')}`];
}

/** The manifests' objects but the workloads and what routes to them. */
async function installRights(cluster: Cluster): Promise<void> {
  const text = await cluster.kubectl(['kustomize', join(MANIFESTS, 'overlays/self-signed')]);
  const wanted = /^(?:Namespace|CustomResourceDefinition|ServiceAccount|(?:Cluster)?Role(?:Binding)?)$/;
  const objects = objectsOf(text).filter(({ kind }) => wanted.test(kind));
  await cluster.kubectl(['apply', '-f', '-'], objects.map((object) => stringify(object)).join('---\n'));
}
