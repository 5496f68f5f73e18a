// Who still needs the proxy, by the ledgers of all pods of a cluster, and whether it may go.
import { isIP } from 'node:net';
import { ANNOTATION, NAME_LABEL, RABBITMQ_SELECTOR, UPGRADE_ANNOTATION } from '../common/contract.ts';
import type { Api } from '../common/kube/api.ts';
import { objectsAt, textAt, valueAt } from '../common/kube/json.ts';
import { type Told, askProxies, deadlineIn, noLedger } from '../common/kube/ledgers.ts';
import { POD } from '../common/kube/resources.ts';
import type { Json, JsonObject } from '../common/kube/types.ts';

/** One client that needs the proxy now: all connections of the same user, name and product, whatever else they differ in. */
interface NeedingClient {
  readonly name: string;
  /** Open connections on which something was rewritten. */
  readonly connections: number;
  /** ISO 8601, or "" where the proxy does not say. */
  readonly lastRewrite: string;
}

/** What is kept of one pod's ledger. */
export interface PodClients {
  /** Since when no open connection needs the proxy, in milliseconds since 1970; null while one does. */
  readonly noneSince: number | null;
  readonly needing: readonly NeedingClient[];
}

/** What all pods' proxies said; `why` where nobody could be asked at all. */
export interface ClusterClients {
  readonly told: readonly Told<PodClients>[];
  readonly why?: string;
}

export interface ClientsLookup {
  /** Never rejects: what could not be asked within the time limit is said. */
  ask(namespace: string, name: string, signal: AbortSignal): Promise<ClusterClients>;
}

/** `status.clients` of a RabbitMq. */
export interface ClientsStatus {
  /** Clients that need the proxy now; null while none is known and not every pod's proxy could be asked. */
  readonly needProxy: number | null;
  /** Their names, those with the most connections first; at most 20. */
  readonly top: string[];
  /** ISO 8601: since when none needs it; null while one does, or while not every pod's proxy could be asked. */
  readonly noneSince: string | null;
  /** Pods whose proxies were asked, and those of them that did not answer. */
  readonly pods: number;
  readonly unreachable: number;
  /** Why not, of the first of them; null where all did. */
  readonly why: string | null;
}

/** As in the CRD. */
const TOP_MAX = 20;
const NAME_MAX = 256;
/** Of one ledger; proxies remember 1000 unless told otherwise. */
const CLIENTS_MAX = 10_000;

/**
 * Asks the proxies of all pods of the RabbitmqCluster, by the pods' own addresses: a pod that is not ready stands behind
 * no Service, and has clients all the same.
 * @param timeoutMs milliseconds for everything together
 */
export function clientsLookup(api: Api, timeoutMs: number, adminPort?: number): ClientsLookup {
  return {
    async ask(namespace, name, signal) {
      const deadline = deadlineIn(timeoutMs, signal);
      try {
        const selection = { namespace, labelSelector: `${RABBITMQ_SELECTOR},${NAME_LABEL}=${name}` };
        const { items } = await api.list(POD, selection, deadline.signal);
        const pods = items.map((pod) => {
          const ip = textAt(pod, 'status', 'podIP') ?? '';
          return { pod: textAt(pod, 'metadata', 'name') ?? '', address: isIP(ip) === 0 ? undefined : ip };
        });
        return { told: await askProxies(pods, readLedger, deadline, adminPort) };
      } catch (error) {
        return { told: [], why: deadline.explain(error) };
      }
    },
  };
}

/** Reads a ledger, as GET /clients answers it. Throws Error for what is none. */
export function readLedger(document: Json): PodClients {
  const since = valueAt(document, 'summary', 'unneededSince');
  const noneSince = typeof since === 'string' ? Date.parse(since) : null;
  if ((since !== null && typeof since !== 'string') || Number.isNaN(noneSince)) throw noLedger();
  const needing = new Map<string, NeedingClient>();
  for (const client of objectsAt(document, 'clients').slice(0, CLIENTS_MAX)) {
    const open = valueAt(client, 'connections', 'needing');
    if (typeof open !== 'number' || !(open > 0)) continue;
    const name = nameOf(client);
    add(needing, {
      name,
      connections: open,
      lastRewrite: (textAt(client, 'lastRewrite') ?? '').slice(0, 32),
    });
  }
  return { noneSince, needing: [...needing.values()] };
}

function add(clients: Map<string, NeedingClient>, client: NeedingClient): void {
  const before = clients.get(client.name);
  const last = before?.lastRewrite ?? '';
  clients.set(client.name, {
    name: client.name,
    connections: (before?.connections ?? 0) + client.connections,
    lastRewrite: last > client.lastRewrite ? last : client.lastRewrite,
  });
}

/** What people know it by. It is the client's own text: nothing in it may break a line. */
function nameOf(client: JsonObject): string {
  const [name, product, version, user] = ['connectionName', 'product', 'version', 'user'].map((key) =>
    (textAt(client, key) ?? '').replaceAll(/[\p{Cc}\p{Cf}]+/gu, ' ').trim(),
  );
  const library = [product, version].filter((part) => part !== '').join(' ');
  const who = [name, library].filter((part) => part !== '').join(', ') || 'without a name';
  const text = user === '' ? who : `${who}, user ${user}`;
  return text.length > NAME_MAX ? `${text.slice(0, NAME_MAX - 1)}…` : text;
}

/**
 * `status.clients` by what the pods said.
 * @param replicas pods that there should be: one that is missing may have had clients, and could not be asked
 */
export function clientsStatus({ told, why }: ClusterClients, replicas: number): ClientsStatus {
  const asked = told.filter((each): each is { pod: string } & PodClients => !('why' in each));
  const pods = Math.max(told.length, replicas);
  const unreachable = pods - asked.length;
  const clients = new Map<string, NeedingClient>();
  for (const client of asked.flatMap(({ needing }) => needing)) add(clients, client);
  // A client that its ledger has forgotten to make room has no name, and is there all the same.
  const isNeeded = asked.some(({ noneSince }) => noneSince === null);
  const sorted = [...clients.values()].sort(
    (a, b) => b.connections - a.connections || order(b.lastRewrite, a.lastRewrite) || order(a.name, b.name),
  );
  const isKnown = why === undefined && unreachable === 0 && asked.length > 0;
  const since = Math.max(...asked.map(({ noneSince }) => noneSince ?? NaN));
  const needProxy = Math.max(clients.size, Number(isNeeded));
  return {
    needProxy: needProxy === 0 && !isKnown ? null : needProxy,
    top: sorted.slice(0, TOP_MAX).map(({ name }) => name),
    noneSince: isKnown && !isNeeded ? `${new Date(since).toISOString().slice(0, 19)}Z` : null,
    pods,
    unreachable,
    why: isKnown ? null : whyNot(told, why),
  };
}

function whyNot(told: readonly Told<PodClients>[], why: string | undefined): string {
  if (why !== undefined) return why.slice(0, NAME_MAX);
  const first = told.find((each) => 'why' in each);
  return first === undefined ? 'a pod is missing' : `${first.pod}: ${first.why}`.slice(0, NAME_MAX);
}

function order(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** Whether the proxy may go, as the condition ProxyRemovable says it. */
export interface Removal {
  readonly removable: boolean;
  readonly reason: 'ClientsNeedProxy' | 'NoneSeen' | 'NotYet' | 'NotKnown' | 'InvalidAnnotation';
  /** For people. */
  readonly message: string;
  /** Whether clients-reconfigured is to be set now, because the annotation asks for that. */
  readonly removeNow: boolean;
}

/** How long nobody must have needed the proxy where no annotation says: jobs that run daily have come round. */
const QUIET_MS = 24 * 3_600_000;
const UNIT_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };
const LONGEST_MS = 365 * 86_400_000;

/** Milliseconds of `30m`, `72h` or `7d`, from a minute to a year; undefined for anything else. */
export function durationOf(text: string): number | undefined {
  const match = /^(\d{1,6})([mhd])$/.exec(text);
  const ms = match === null ? 0 : Number(match[1]) * UNIT_MS[match[2]!]!;
  return ms >= 60_000 && ms <= LONGEST_MS ? ms : undefined;
}

function spoken(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 72 ? `${hours} h` : `${Math.floor(hours / 24)} d`;
}

/**
 * Judges whether the proxy may go. Only what every pod has said counts: one that can't be asked may have a client that
 * needs it.
 * @param autoRemoveAfter the annotation quorumbridge.io/auto-remove-proxy-after; undefined where there is none
 */
export function judgeRemoval(
  clients: ClientsStatus,
  autoRemoveAfter: string | undefined,
  now: Date,
): Removal {
  const wanted = autoRemoveAfter === undefined ? undefined : durationOf(autoRemoveAfter);
  const no = (reason: Removal['reason'], message: string): Removal => ({
    removable: false,
    reason,
    message,
    removeNow: false,
  });
  const { needProxy, top, noneSince, pods, unreachable, why } = clients;
  if (needProxy !== null && needProxy > 0) {
    const names = top.slice(0, 3).join('; ');
    const more = needProxy > 3 ? `; and ${needProxy - 3} more` : '';
    const plural = needProxy === 1 ? 'client needs' : 'clients need';
    return no(
      'ClientsNeedProxy',
      `${needProxy} ${plural} the proxy${names === '' ? '' : `: ${names}${more}`}`,
    );
  }
  if (noneSince === null) {
    const which = `the proxies of ${unreachable} of ${pods} pods could not be asked about their clients`;
    return no('NotKnown', why === null ? which : `${which}: ${why}`);
  }
  if (autoRemoveAfter !== undefined && wanted === undefined) {
    const value = JSON.stringify(autoRemoveAfter.slice(0, 40));
    return no(
      'InvalidAnnotation',
      `annotation ${UPGRADE_ANNOTATION.autoRemoveAfter}: ${value} is no duration from a minute to a year, such as 30m, 72h or 7d; ` +
        `no client has needed the proxy since ${noneSince}`,
    );
  }
  const quiet = now.getTime() - Date.parse(noneSince);
  const needed = wanted ?? QUIET_MS;
  const since = `no client has needed the proxy since ${noneSince}`;
  if (quiet < needed) {
    const at = `${new Date(Date.parse(noneSince) + needed).toISOString().slice(0, 19)}Z`;
    const then = wanted === undefined ? 'it counts as removable' : `${ANNOTATION.clientsReconfigured} is set`;
    return no('NotYet', `${since}; ${then} at ${at} if that stays so`);
  }
  const next =
    wanted === undefined
      ? `set the annotation ${ANNOTATION.clientsReconfigured}: "true" to take it out`
      : `${ANNOTATION.clientsReconfigured} is set, as ${UPGRADE_ANNOTATION.autoRemoveAfter}: ${autoRemoveAfter} asks for`;
  return {
    removable: true,
    reason: 'NoneSeen',
    message: `${since} (${spoken(quiet)}): ${next}`,
    removeNow: wanted !== undefined,
  };
}
