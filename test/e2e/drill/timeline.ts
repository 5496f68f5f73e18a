// What happened when, as the drill tells it: phases, conditions and Events of the RabbitMq, and what client and pods say.
import type { Cluster } from '../../support/kube.ts';
import type { KubeObject } from '../../support/kube-api.ts';

interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
}

export interface RabbitMq extends KubeObject {
  status?: {
    upgradePhase?: string;
    currentVersion?: string;
    proxyRequired?: boolean;
    conditions?: Condition[];
    clients?: { needProxy?: number };
    lastUpgrade?: { definitions?: Record<string, number>; backup?: { messages?: number; queues?: number } };
  };
}

interface Event extends KubeObject {
  reason?: string;
  note?: string;
  regarding?: { kind?: string; name?: string };
  reportingController?: string;
}

const INTERVAL_MS = 200;

export class Timeline {
  readonly #cluster: Cluster;
  readonly #ref: RabbitMq;
  readonly #tell: (line: string) => void;
  readonly #seen = new Set<string>();
  readonly #phases: { phase: string; at: number }[] = [];
  #before: RabbitMq['status'] = {};
  #stopped = false;
  #loop: Promise<void> = Promise.resolve();

  constructor(cluster: Cluster, ref: RabbitMq, tell: (line: string) => void) {
    this.#cluster = cluster;
    this.#ref = ref;
    this.#tell = tell;
  }

  start(): void {
    this.#loop = this.#watch();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  /** Each phase that was seen, and when it began; the last one is the empty one that follows them. */
  get phases(): readonly { phase: string; at: number }[] {
    return this.#phases;
  }

  async #watch(): Promise<void> {
    while (!this.#stopped) {
      // An API server that does not answer now does so later.
      await this.#look().catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    }
  }

  async #look(): Promise<void> {
    const { status = {} } = await this.#cluster.api.read<RabbitMq>(this.#ref);
    const { upgradePhase: phase = '', proxyRequired, currentVersion } = status;
    if (phase !== (this.#before?.upgradePhase ?? '')) {
      this.#phases.push({ phase, at: Date.now() });
      this.#tell(phase === '' ? 'phase: none any more' : `phase: ${phase}`);
    }
    if (proxyRequired !== this.#before?.proxyRequired) this.#tell(`proxyRequired: ${proxyRequired}`);
    if (currentVersion !== this.#before?.currentVersion) this.#tell(`currentVersion: ${currentVersion}`);
    for (const { type, status: met, reason = '', message = '' } of status.conditions ?? []) {
      const old = this.#before?.conditions?.find((one) => one.type === type);
      if (old?.status !== met || old.reason !== reason)
        this.#tell(`condition ${type}=${met} ${reason}: ${message}`);
    }
    this.#before = status;
    const { namespace, name } = this.#ref.metadata;
    for (const event of await this.#cluster.api.list<Event>('events.k8s.io/v1', 'Event', namespace)) {
      const { metadata, regarding, reason, note, reportingController = '' } = event;
      if (
        this.#seen.has(metadata.uid!) ||
        regarding?.name !== name ||
        !reportingController.startsWith('quorumbridge')
      )
        continue;
      this.#seen.add(metadata.uid!);
      this.#tell(`event ${regarding?.kind} ${reason}: ${note}`);
    }
  }
}
