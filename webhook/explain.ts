// Why one object of a cluster carries the proxy or doesn't, and what its next write would change.
import { messageOf } from '../common/errors.ts';
import type { ClusterAccess } from '../common/kube/access.ts';
import { type Api, connectApi } from '../common/kube/api.ts';
import { defaultRabbitMq } from './defaults.ts';
import { type Examination, examine } from './examine.ts';
import { textAt, valueAt } from '../common/kube/json.ts';
import { openCluster } from '../common/kube/open.ts';
import { createNativeLookup, nativeFactsFor } from './native.ts';
import { ownerLookup } from './owners.ts';
import { phaseOf, queueTypeOf, targetOf } from '../common/kube/rabbitmq.ts';
import { CLUSTER, NAMESPACE, RABBITMQ, type Resource, STATEFUL_SET } from '../common/kube/resources.ts';
import type { KubeObject } from '../common/kube/types.ts';
import type { InjectionSettings, OwnerFacts } from './types.ts';
import { validate } from './validate.ts';

/** Kinds by what people call them. */
const NAMES: readonly (readonly [Resource, readonly string[]])[] = [
  [CLUSTER, ['rabbitmqcluster', 'rabbitmqclusters', 'rmq', 'rabbitmqclusters.rabbitmq.com']],
  [STATEFUL_SET, ['statefulset', 'statefulsets', 'sts', 'statefulsets.apps']],
  [RABBITMQ, ['rabbitmq', 'rabbitmqs', 'rabbitmqs.rabbitmq.openstack.org']],
];

/** The kind that a name or its short form means, as kubectl takes them; undefined for another. */
export function kindNamed(text: string): Resource | undefined {
  return NAMES.find(([, names]) => names.includes(text.toLowerCase()))?.[0];
}

export interface ExplainSettings {
  readonly resource: Resource;
  /** undefined: the kubeconfig's. */
  readonly namespace: string | undefined;
  readonly name: string;
  readonly settings: InjectionSettings;
  readonly timeoutMs: number;
}

/** A RabbitMq, as far as it decides. */
export interface RabbitMqSummary {
  readonly name: string;
  readonly currentVersion: string | null;
  readonly target: string | null;
  readonly queueType: string | null;
  readonly upgradePhase: string | null;
  readonly proxyRequired: boolean | string | null;
}

/** One object that can carry the proxy, and why it does or doesn't. */
export interface ExplainedObject extends Examination {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** The RabbitMq behind it; `why` it is not known. */
  readonly owner:
    | { state: 'found'; rabbitmq: RabbitMqSummary }
    | { state: 'absent' }
    | { state: 'unknown'; why: string };
}

export interface Explanation {
  /** Only when a RabbitMq was asked about. */
  readonly rabbitmq?: RabbitMqSummary & {
    readonly namespace: string;
    /** What the validating webhook says about it as it is. */
    readonly problems: string[];
    /** What the mutating webhook would make of spec.queueType; null: leave it. */
    readonly queueTypeDefault: string | null;
  };
  readonly objects: ExplainedObject[];
}

/** A question that has no answer: nothing of that name, or the API server does not say. */
export class ExplainError extends Error {
  override readonly name = 'ExplainError';
}

function summaryOf(rabbitmq: KubeObject): RabbitMqSummary {
  const required = valueAt(rabbitmq, 'status', 'proxyRequired');
  return {
    name: textAt(rabbitmq, 'metadata', 'name') ?? '',
    currentVersion: textAt(rabbitmq, 'status', 'currentVersion') || null,
    target: targetOf(rabbitmq)?.text ?? null,
    queueType: queueTypeOf(rabbitmq) ?? null,
    upgradePhase: phaseOf(rabbitmq) ?? null,
    proxyRequired: typeof required === 'boolean' || typeof required === 'string' ? required : null,
  };
}

/**
 * Reads the object, its owner and its namespace, and decides as the webhook would.
 * @throws ExplainError or ApiFailure when something can't be read, UsageError when the kubeconfig is not usable.
 */
export async function explain(access: ClusterAccess, asked: ExplainSettings): Promise<Explanation> {
  const cluster = await openCluster(access);
  try {
    const { config } = cluster;
    const context = config.getContextObject(config.getCurrentContext());
    const namespace = asked.namespace ?? context?.namespace ?? 'default';
    return await explainWith(connectApi(cluster), { ...asked, namespace });
  } finally {
    await cluster.pool.destroy();
  }
}

async function explainWith(api: Api, asked: ExplainSettings & { namespace: string }): Promise<Explanation> {
  const { resource, namespace, name, timeoutMs } = asked;
  const signal = AbortSignal.timeout(timeoutMs);
  const found = await api.get(resource, namespace, name, signal);
  if (found === undefined) {
    throw new ExplainError(
      `there is no ${resource.kind} ${namespace}/${name}, or the cluster knows no such kind: name another, or another --namespace`,
    );
  }
  if (resource !== RABBITMQ) return { objects: [await explainObject(api, asked, found, signal)] };
  const { reason, patch } = defaultRabbitMq(found, found);
  const { errors, warnings } = validate(undefined, found);
  const carrier = await api.get(CLUSTER, namespace, name, signal);
  return {
    rabbitmq: {
      ...summaryOf(found),
      namespace,
      problems: [...errors.map(({ message }) => message), ...warnings],
      queueTypeDefault: patch.length > 0 && reason !== 'nothing-to-default' ? 'Quorum' : null,
    },
    objects: carrier === undefined ? [] : [await explainObject(api, asked, carrier, signal)],
  };
}

async function explainObject(
  api: Api,
  { namespace, settings, timeoutMs }: ExplainSettings & { namespace: string },
  object: KubeObject,
  signal: AbortSignal,
): Promise<ExplainedObject> {
  const unknown: string[] = [];
  const [{ owner }, ownNamespace, native] = await Promise.all([
    ownerLookup(api, timeoutMs).find(object, namespace, true),
    api.get(NAMESPACE, undefined, namespace, signal).catch((error: unknown) => {
      unknown.push(`whether the namespace forbids injection is not known: ${messageOf(error)}`);
      return undefined;
    }),
    nativeFactsFor(createNativeLookup(api, { namespace, image: settings.image }, timeoutMs), object),
  ]);
  const examination = examine({
    object,
    owner,
    settings,
    ...(native !== undefined && { native }),
    ...(ownNamespace !== undefined && { namespace: ownNamespace }),
  });
  const name = textAt(object, 'metadata', 'name') ?? '';
  const warnings = [...unknown, ...examination.warnings];
  return { kind: object.kind, namespace, name, owner: ownerOf(owner), ...examination, warnings };
}

function ownerOf(owner: OwnerFacts): ExplainedObject['owner'] {
  return owner.state === 'found' ? { state: 'found', rabbitmq: summaryOf(owner.rabbitmq) } : owner;
}

/** Whether everything is as the webhook would leave it. */
export function isSettled({ rabbitmq, objects }: Explanation): boolean {
  const isValid =
    rabbitmq === undefined || (rabbitmq.problems.length === 0 && rabbitmq.queueTypeDefault === null);
  return isValid && objects.every(({ admission }) => admission.would === 'change nothing');
}
