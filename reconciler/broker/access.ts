// The broker of a RabbitmqCluster, by the management API of its pods: looked at, exported, and given its definitions back.
import type { Api } from '../../common/kube/api.ts';
import { textAt, valueAt } from '../../common/kube/json.ts';
import { SECRET } from '../../common/kube/resources.ts';
import type { JsonObject, KubeObject } from '../../common/kube/types.ts';
import { formatHostPort } from '../../common/options.ts';
import { parseVersion } from '../../common/version.ts';
import type { TopologyConfig } from '../../messaging/config.ts';
import type { ObservedBroker, ObservedPod } from '../types.ts';
import { compareDefinitions } from './compare.ts';
import { type ExportedDefinitions, exportDefinitions } from './definitions.ts';
import { importDefinitions } from './import.ts';
import { pickDefinitions } from './kinds.ts';
import { type Inventory, inventoryOf, observeBroker } from './inventory.ts';
import { type Management, ManagementFailure, connectManagement } from './management.ts';
import { queueFormOf } from './queue-form.ts';
import { type DefinitionsReport, differencesOf, reportOf, settledOutcomes } from './report.ts';
import type { TopologyOutcome } from './topology.ts';
import { type Outcome, translateDefinitions } from './translate.ts';

/** What is saved of a broker. */
export interface BrokerExport {
  readonly definitions: ExportedDefinitions;
  /** What its wipe loses. */
  readonly inventory: Inventory;
}

/** Where definitions are brought back, and as what. */
export interface BringBack {
  readonly cluster: KubeObject;
  readonly pods: readonly ObservedPod[];
  /** NAME-default-user. */
  readonly secret: KubeObject;
  readonly saved: { readonly definitions: JsonObject };
  /** spec.queueType of the RabbitMq. */
  readonly queueType: string;
}

/** What is declared, and where. */
export interface Declare {
  readonly cluster: KubeObject;
  readonly pods: readonly ObservedPod[];
  /** NAME-default-user. */
  readonly secret: KubeObject;
  readonly topology: Pick<TopologyConfig, 'vhost' | 'exchanges'>;
}

export interface BroughtBack {
  readonly report: DefinitionsReport;
  /** Of objects; what the broker refused, left out or made otherwise counts as refused. */
  readonly counts: {
    readonly kept: number;
    readonly changed: number;
    readonly dropped: number;
    readonly refused: number;
  };
  /** What was not kept and why, in a few lines. */
  readonly differences: readonly string[];
  /** The first that was refused and why; empty where none was. */
  readonly firstRefused: string;
}

export interface Broker {
  /** Never rejects, unless the signal ends: what went wrong is said. */
  readonly observe: (
    cluster: KubeObject,
    pods: readonly ObservedPod[],
    defaultUser: KubeObject,
    signal: AbortSignal,
  ) => Promise<ObservedBroker>;
  /** @throws ManagementFailure */
  readonly export: (
    cluster: KubeObject,
    pods: readonly ObservedPod[],
    defaultUser: KubeObject,
    signal: AbortSignal,
  ) => Promise<BrokerExport>;
  /** Doing it again changes nothing that is there. @throws ManagementFailure */
  readonly bringBack: (what: BringBack, signal: AbortSignal) => Promise<BroughtBack>;
  /** Doing it again changes nothing that is there. @throws ManagementFailure */
  readonly declare: (what: Declare, signal: AbortSignal) => Promise<TopologyOutcome>;
}

/** As the cluster operator has RabbitMQ listen. */
const MANAGEMENT_PORT = { plain: 15_672, tls: 15_671 } as const;
const TIMEOUT_MS = 10_000;

/** Asks brokers at the addresses of their pods. @param api for the authority of clusters that have TLS alone */
export function createBroker(api: Pick<Api, 'get'>): Broker {
  const connect = async (
    cluster: KubeObject,
    pods: readonly ObservedPod[],
    defaultUser: KubeObject,
    signal: AbortSignal,
  ): Promise<Management> => {
    const namespace = textAt(cluster, 'metadata', 'namespace') ?? '';
    const name = textAt(cluster, 'metadata', 'name') ?? '';
    const hasTlsAlone = valueAt(cluster, 'spec', 'tls', 'disableNonTLSListeners') === true;
    const addressed = pods.filter(({ ip, deleting }) => ip !== undefined && deleting === undefined);
    return connectManagement({
      endpoints: addressed
        .toSorted((a, b) => Number(b.isReady) - Number(a.isReady))
        .map(({ name: pod, ip = '' }) => ({
          pod,
          url: hasTlsAlone
            ? `https://${formatHostPort({ host: ip, port: MANAGEMENT_PORT.tls })}`
            : `http://${formatHostPort({ host: ip, port: MANAGEMENT_PORT.plain })}`,
        })),
      ...(hasTlsAlone
        ? {
            tls: {
              ca: await authorityOf(api, cluster, namespace, signal),
              serverName: `${name}.${namespace}.svc`,
            },
          }
        : {}),
      credentials: {
        username: decoded(defaultUser, 'username'),
        password: decoded(defaultUser, 'password'),
      },
      credentialsFrom: `Secret ${namespace}/${textAt(defaultUser, 'metadata', 'name') ?? ''}`,
      timeoutMs: TIMEOUT_MS,
    });
  };

  return {
    async observe(cluster, pods, defaultUser, signal) {
      return observeBroker(await connect(cluster, pods, defaultUser, signal), signal);
    },

    async export(cluster, pods, defaultUser, signal) {
      const management = await connect(cluster, pods, defaultUser, signal);
      const definitions = await exportDefinitions(management, signal);
      return { definitions, inventory: inventoryOf(await management.queues(signal)) };
    },

    async bringBack({ cluster, pods, secret, saved, queueType }, signal) {
      const management = await connect(cluster, pods, secret, signal);
      const { version } = await management.overview(signal);
      // Debian and others write 4.0.5-1 or the like.
      const target = parseVersion(/^\d+\.\d+(?:\.\d+)?/.exec(version)?.[0]);
      if (target === undefined)
        throw new ManagementFailure(`the broker says it is RabbitMQ ${version}, which is no version`);
      const form = queueFormOf(queueType);
      const { definitions, outcomes } = translateDefinitions(saved.definitions, { form, target });
      // What an attempt before has brought in is there: thousands of queues take minutes.
      const before = await compareDefinitions(management, definitions, signal);
      const lacking = pickDefinitions(before.map(({ definition }) => definition));
      const refusals = await importDefinitions(management, lacking, signal);
      const differences = await compareDefinitions(management, definitions, signal);
      const settled = settledOutcomes(outcomes, refusals, differences);
      const report = reportOf(settled);
      const { kept, changed, dropped, refused, different, missing } = report.counts;
      return {
        report,
        counts: { kept, changed, dropped, refused: refused + different + missing },
        differences: differencesOf(report),
        firstRefused: firstRefusedOf(settled),
      };
    },

    async declare({ cluster, pods, secret, topology }, signal) {
      // With the kit comes an AMQP client: 4 MiB that most reconcilers never need.
      const { declareTopology } = await import('./topology.ts');
      return declareTopology(await connect(cluster, pods, secret, signal), topology, signal);
    },
  };
}

/** The authority of the cluster's certificate (PEM); undefined where its Secrets have none. */
async function authorityOf(
  api: Pick<Api, 'get'>,
  cluster: KubeObject,
  namespace: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  for (const field of ['caSecretName', 'secretName']) {
    const name = textAt(cluster, 'spec', 'tls', field);
    const secret = name ? await api.get(SECRET, namespace, name, signal) : undefined;
    const authority = secret && decoded(secret, 'ca.crt');
    if (authority) return authority;
  }
  return undefined;
}

function decoded(secret: KubeObject, key: string): string {
  return Buffer.from(textAt(secret, 'data', key) ?? '', 'base64').toString('utf8');
}

function firstRefusedOf(outcomes: readonly Outcome[]): string {
  const first = outcomes.find(({ result }) => ['refused', 'different', 'missing'].includes(result));
  if (first === undefined) return '';
  const place = first.vhost === undefined ? '' : ` of virtual host ${first.vhost}`;
  return `${first.name} of ${first.kind}${place}: ${first.why}`;
}
