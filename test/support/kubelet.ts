// Stands in for the scheduler and the kubelet of a test cluster: pods are put on its node, and their status says that
// they run, without a container anywhere. What the StatefulSet controller, PodDisruptionBudgets, Services and RabbitMQ's
// cluster-operator wait for then comes true.
import { KubeError } from './kube-api.ts';
import type { KubeApi, KubeMetadata, KubeObject } from './kube-api.ts';

/** As far as the stand-in reads a pod. */
export interface Pod extends KubeObject {
  metadata: KubeMetadata & { name: string; namespace: string; uid: string };
  spec: { nodeName?: string; containers: PodContainer[]; initContainers?: PodContainer[] };
  status?: { phase?: string; podIP?: string; conditions?: { type: string; status: string }[] };
}

export interface PodContainer {
  name: string;
  image?: string;
  /** Always makes an init container a native sidecar. */
  restartPolicy?: string;
  [key: string]: unknown;
}

/** How far a pod gets: not onto a node, onto it, running with failing readiness probes, or all the way. */
export type PodFate = 'unscheduled' | 'pending' | 'unready' | 'ready';

export interface KubeletSettings {
  /** Asked again and again, so that the answer may change. Default: ready. */
  fate?: (pod: Pod) => PodFate;
  /** Whether a pod that is being deleted is gone now, or its containers still stop. Default: gone. */
  gone?: (pod: Pod) => boolean;
  /** The address of a pod that starts to run. Default: one that is nobody's. */
  address?: (pod: Pod) => string;
}

const NODE = 'node-1';
/** Nothing listens there: exec and logs are refused at once. Pods' addresses are dialled by nobody, unless they are chosen. */
const NODE_ENDPOINT = { ip: '127.0.0.1', port: 1 };
const INTERVAL_MS = 100;

export class Kubelet {
  /** May be changed at any time. */
  fate: (pod: Pod) => PodFate;
  /** May be changed at any time. */
  gone: (pod: Pod) => boolean;
  readonly #api: KubeApi;
  readonly #addressOf: ((pod: Pod) => string) | undefined;
  #addresses = 0;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #trouble: unknown;

  private constructor(api: KubeApi, { fate = () => 'ready', gone = () => true, address }: KubeletSettings) {
    this.#api = api;
    this.#addressOf = address;
    this.fate = fate;
    this.gone = gone;
  }

  /** Registers the node and begins. */
  static async start(api: KubeApi, settings: KubeletSettings = {}): Promise<Kubelet> {
    const kubelet = new Kubelet(api, settings);
    const node = await api.create({ apiVersion: 'v1', kind: 'Node', metadata: { name: NODE } });
    const conditions = [
      { type: 'Ready', status: 'True', reason: 'KubeletReady', ...now('lastTransitionTime') },
    ];
    const addresses = [{ type: 'InternalIP', address: NODE_ENDPOINT.ip }];
    const daemonEndpoints = { kubeletEndpoint: { Port: NODE_ENDPOINT.port } };
    const status = { conditions, addresses, daemonEndpoints };
    await api.patch(node, { status }, { subresource: 'status' });
    kubelet.#next();
    return kubelet;
  }

  /** Why the last round failed, if it did: for the message of a test that waits in vain. */
  get trouble(): unknown {
    return this.#trouble;
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #next(): void {
    this.#timer = setTimeout(() => {
      void this.#round().finally(() => {
        if (!this.#stopped) this.#next();
      });
    }, INTERVAL_MS);
  }

  async #round(): Promise<void> {
    try {
      // resourceVersion 0: from the API server's memory.
      const pods = await this.#api.list<Pod>('v1', 'Pod', undefined, { resourceVersion: '0' });
      for (const pod of pods) {
        if (this.#stopped) return;
        await this.#advance(pod).catch(passOver);
      }
      this.#trouble = undefined;
    } catch (error) {
      this.#trouble = error; // the API server may be down for a test's sake: the next round tells
    }
  }

  async #advance(pod: Pod): Promise<void> {
    if (pod.metadata.deletionTimestamp !== undefined) {
      if (!this.gone(pod)) return;
      await this.#api.remove(pod, { gracePeriodSeconds: 0, preconditions: { uid: pod.metadata.uid } });
      return;
    }
    const fate = this.fate(pod);
    if (fate === 'unscheduled') return;
    if (pod.spec.nodeName === undefined) await this.#bind(pod);
    if (fate === 'pending') return;
    const ready = fate === 'ready';
    const stored = pod.status?.conditions?.find(({ type }) => type === 'Ready')?.status;
    if (pod.status?.phase === 'Running' && stored === statusOf(ready)) return;
    await this.#api.patch(
      pod,
      { metadata: { uid: pod.metadata.uid }, status: this.#status(pod, ready) },
      { subresource: 'status' },
    );
  }

  async #bind(pod: Pod): Promise<void> {
    const { name, namespace, uid } = pod.metadata;
    await this.#api.call('POST', `/api/v1/namespaces/${namespace}/pods/${name}/binding`, {
      body: {
        apiVersion: 'v1',
        kind: 'Binding',
        metadata: { name, namespace, uid },
        target: { apiVersion: 'v1', kind: 'Node', name: NODE },
      },
    });
  }

  #status(pod: Pod, ready: boolean): Record<string, unknown> {
    const started = now('startedAt');
    const running = (container: PodContainer) => ({
      ...identity(container),
      ready,
      started: true,
      state: { running: started },
    });
    const completed = (container: PodContainer) => ({
      ...identity(container),
      ready: true,
      started: false,
      state: { terminated: { exitCode: 0, reason: 'Completed', ...started, ...now('finishedAt') } },
    });
    const podIP = this.#address(pod);
    return {
      phase: 'Running',
      hostIP: NODE_ENDPOINT.ip,
      podIP,
      podIPs: [{ ip: podIP }],
      ...now('startTime'),
      conditions: [
        ...['PodScheduled', 'Initialized'].map((type) => condition(type, true)),
        ...['ContainersReady', 'Ready'].map((type) => condition(type, ready)),
      ],
      initContainerStatuses: (pod.spec.initContainers ?? []).map((container) =>
        container.restartPolicy === 'Always' ? running(container) : completed(container),
      ),
      containerStatuses: pod.spec.containers.map(running),
    };
  }

  #address(pod: Pod): string {
    if (pod.status?.podIP !== undefined) return pod.status.podIP;
    if (this.#addressOf !== undefined) return this.#addressOf(pod);
    this.#addresses += 1;
    return `10.244.${Math.floor(this.#addresses / 250)}.${(this.#addresses % 250) + 1}`;
  }
}

function identity({ name, image = '' }: PodContainer): Record<string, unknown> {
  return { name, image, imageID: image, restartCount: 0, containerID: `stand-in://${name}` };
}

function condition(type: string, met: boolean): Record<string, unknown> {
  return { type, status: statusOf(met), ...now('lastTransitionTime') };
}

function statusOf(met: boolean): 'True' | 'False' {
  return met ? 'True' : 'False';
}

/** Kubernetes wants seconds without a fraction. */
function now(key: string): Record<string, string> {
  return { [key]: new Date().toISOString().replace(/\.\d+Z$/, 'Z') };
}

/** The pod is gone, or somebody changed it in this moment: the next round sees. */
function passOver(error: unknown): void {
  if (!(error instanceof KubeError && (error.code === 404 || error.code === 409))) throw error;
}
