// Asks the proxies of a cluster whether clients need them still: what their admin ports answer to GET /clients.
import { isIP } from 'node:net';
import { ANNOTATION, type CLIENTS_CHECKS, PORT } from '../common/contract.ts';
import { messageOf } from '../common/errors.ts';
import { formatHostPort } from '../common/options.ts';
import type { Api } from '../common/kube/api.ts';
import { objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { fieldName } from './refusal.ts';
import { ENDPOINT_SLICE } from '../common/kube/resources.ts';
import type { Json, KubeObject } from '../common/kube/types.ts';
import type { Problem, Validation } from './validate.ts';

export type ClientsCheck = (typeof CLIENTS_CHECKS)[number];

/** What one pod's proxy said. */
type Told =
  | { readonly pod: string; readonly needed: 'now' | 'before' | 'never'; readonly text: string }
  | { readonly pod: string; readonly why: string };

/** What all proxies said; `why` where nobody could be asked at all. */
export interface Ledgers {
  readonly told: readonly Told[];
  readonly why?: string;
}

export interface LedgerLookup {
  /** Never rejects: what could not be asked within the time limit is said. */
  ask(namespace: string, name: string): Promise<Ledgers>;
}

/** More pods than a RabbitMQ cluster has; one admission must not turn into a scan. */
const PODS_MAX = 32;
/** A full ledger of 1000 clients is below 2 MB. */
const ANSWER_MAX = 8 * 1024 * 1024;

/**
 * Asks all pods behind the Services NAME and NAME-nodes, which the cluster operator makes, at the proxies' admin port.
 * @param timeoutMs milliseconds for everything together
 */
export function ledgerLookup(api: Api, timeoutMs: number, adminPort: number = PORT.admin): LedgerLookup {
  return {
    async ask(namespace, name) {
      const signal = AbortSignal.timeout(timeoutMs);
      const explain = (error: unknown): string =>
        signal.aborted ? `no answer within ${timeoutMs} ms` : messageOf(error);
      // Another name is no Service's, and would be another selector.
      if (!/^[a-z\d](?:[-.a-z\d]*[a-z\d])?$/.test(name)) return { told: [] };
      const labelSelector = `kubernetes.io/service-name in (${name},${name}-nodes)`;
      let pods: [string, string][];
      try {
        pods = podsOf((await api.list(ENDPOINT_SLICE, { namespace, labelSelector }, signal)).items);
      } catch (error) {
        return { told: [], why: explain(error) };
      }
      const told = pods.slice(0, PODS_MAX).map(async ([pod, address]): Promise<Told> => {
        try {
          const url = `http://${formatHostPort({ host: address, port: adminPort })}/clients`;
          return { pod, ...summaryOf(await fetchJson(url, signal)) };
        } catch (error) {
          return { pod, why: explain(error) };
        }
      });
      const left = pods.slice(PODS_MAX).map(([pod]): Told => ({ pod, why: `more than ${PODS_MAX} pods` }));
      return { told: [...(await Promise.all(told)), ...left] };
    },
  };
}

/** Pods and their addresses, each pod once however many Services it is in. */
function podsOf(slices: KubeObject[]): [string, string][] {
  const pods = new Map<string, string>();
  for (const endpoint of slices.flatMap((slice) => objectsAt(slice, 'endpoints'))) {
    const address = textAt(endpoint, 'addresses', 0) ?? '';
    const pod = textAt(endpoint, 'targetRef', 'name') ?? address;
    if (isIP(address) !== 0 && !pods.has(pod)) pods.set(pod, address);
  }
  return [...pods].sort(([a], [b]) => (a < b ? -1 : 1));
}

async function fetchJson(url: string, signal: AbortSignal): Promise<Json> {
  const response = await fetch(url, { signal, redirect: 'error', headers: { accept: 'application/json' } });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`it answered ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > ANSWER_MAX) throw new Error(`it answered more than ${ANSWER_MAX} octets`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString()) as Json;
  } catch {
    throw new Error('it answered something else than JSON'); // without the parser's words, which quote it
  }
}

function summaryOf(document: Json): { needed: 'now' | 'before' | 'never'; text: string } {
  const summary = valueAt(document, 'summary');
  const [text, since, needing] = [
    textAt(summary, 'text'),
    valueAt(summary, 'unneededSince'),
    valueAt(summary, 'needing'),
  ];
  if (text === undefined || since === undefined || typeof needing !== 'number') {
    throw new Error('it answered something else than a ledger');
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
