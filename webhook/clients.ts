// Asks the proxies of a cluster whether clients need them still: what their admin ports answer to GET /clients.
import { isIP } from 'node:net';
import { ANNOTATION, type CLIENTS_CHECKS, PORT } from '../common/contract.ts';
import type { Api } from '../common/kube/api.ts';
import { objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { type ProxiedPod, type Told, askProxies, deadlineIn, noLedger } from '../common/kube/ledgers.ts';
import { fieldName } from './refusal.ts';
import { ENDPOINT_SLICE } from '../common/kube/resources.ts';
import type { Json, KubeObject } from '../common/kube/types.ts';
import type { Problem, Validation } from './validate.ts';

export type ClientsCheck = (typeof CLIENTS_CHECKS)[number];

/** What one pod's proxy said. */
interface Summary {
  readonly needed: 'now' | 'before' | 'never';
  readonly text: string;
}

/** What all proxies said; `why` where nobody could be asked at all. */
export interface Ledgers {
  readonly told: readonly Told<Summary>[];
  readonly why?: string;
}

export interface LedgerLookup {
  /** Never rejects: what could not be asked within the time limit is said. */
  ask(namespace: string, name: string): Promise<Ledgers>;
}

/**
 * Asks all pods behind the Services NAME and NAME-nodes, which the cluster operator makes, at the proxies' admin port.
 * @param timeoutMs milliseconds for everything together
 */
export function ledgerLookup(api: Api, timeoutMs: number, adminPort: number = PORT.admin): LedgerLookup {
  return {
    async ask(namespace, name) {
      // Another name is no Service's, and would be another selector.
      if (!/^[a-z\d](?:[-.a-z\d]*[a-z\d])?$/.test(name)) return { told: [] };
      const deadline = deadlineIn(timeoutMs);
      const labelSelector = `kubernetes.io/service-name in (${name},${name}-nodes)`;
      let pods: ProxiedPod[];
      try {
        pods = podsOf((await api.list(ENDPOINT_SLICE, { namespace, labelSelector }, deadline.signal)).items);
      } catch (error) {
        return { told: [], why: deadline.explain(error) };
      }
      return { told: await askProxies(pods, summaryOf, deadline, adminPort) };
    },
  };
}

/** Pods and their addresses, each pod once however many Services it is in. */
function podsOf(slices: KubeObject[]): ProxiedPod[] {
  const pods = new Map<string, string>();
  for (const endpoint of slices.flatMap((slice) => objectsAt(slice, 'endpoints'))) {
    const address = textAt(endpoint, 'addresses', 0) ?? '';
    const pod = textAt(endpoint, 'targetRef', 'name') ?? address;
    if (isIP(address) !== 0 && !pods.has(pod)) pods.set(pod, address);
  }
  return [...pods].sort(([a], [b]) => (a < b ? -1 : 1)).map(([pod, address]) => ({ pod, address }));
}

function summaryOf(document: Json): Summary {
  const summary = valueAt(document, 'summary');
  const [text, since, needing] = [
    textAt(summary, 'text'),
    valueAt(summary, 'unneededSince'),
    valueAt(summary, 'needing'),
  ];
  if (text === undefined || since === undefined || typeof needing !== 'number') {
    throw noLedger();
  }
  const needed = since === null ? 'now' : needing > 0 ? 'before' : 'never';
  return { needed, text: text.slice(0, 160) };
}

/**
 * Judges what the proxies said when the annotation is set. Only what is known to need the proxy now is an error, and only
 * with `deny`: a pod that can't be asked may just be down, and the annotation must not depend on the network.
 */
export function judgeClients({ told, why }: Ledgers, check: ClientsCheck): Validation {
  if (check === 'off') return { errors: [], warnings: [] };
  const warnings: string[] = [];
  const needing: string[] = [];
  for (const each of told) {
    if ('why' in each)
      warnings.push(`pod ${each.pod}: its proxy could not be asked about clients: ${each.why}`);
    else if (each.needed === 'now') needing.push(`pod ${each.pod}: ${each.text}`);
    else if (each.needed === 'before') warnings.push(`pod ${each.pod}: ${each.text}`);
  }
  if (why !== undefined) warnings.push(`whether clients need the proxy is not known: ${why}`);
  else if (told.length === 0) {
    warnings.push('whether clients need the proxy is not known: no pod of the cluster was found to ask');
  }
  if (needing.length === 0) return { errors: [], warnings };
  if (check === 'warn') return { errors: [], warnings: [...needing, ...warnings] };
  const field = fieldName(['metadata', 'annotations', ANNOTATION.clientsReconfigured]);
  const problem: Problem = {
    rule: 'clients-need-proxy',
    message:
      `${field}: "true" would take the proxy from clients that need it (${needing.join('; ')}): reconfigure them, ` +
      'quorumbridge report says how, or start the webhook with --clients-reconfigured-check=warn',
  };
  return { errors: [problem], warnings };
}
