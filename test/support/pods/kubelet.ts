// A kubelet (and a scheduler, a storage class, kube-proxy and DNS) for a test cluster: every pod runs for real, its
// containers as processes in namespaces of their own. To be used in a world of enter.sh.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { KubeError } from '../kube-api.ts';
import type { KubeApi } from '../kube-api.ts';
import type { Cluster } from '../kube.ts';
import { Claims } from './claims.ts';
import type { ReclaimPolicy } from './claims.ts';
import type { ExecResult } from './container.ts';
import { startExecServer } from './exec-server.ts';
import { Images } from './images.ts';
import { Names } from './network.ts';
import { PodRuntime } from './pod.ts';
import { Services } from './services.ts';
import { NODE, NODE_ADDRESS, timestamp } from './types.ts';
import type { PodObject } from './types.ts';

const INTERVAL_MS = 150;
const EXEC_TIMEOUT_MS = 60_000;

export interface PodsSettings {
  /** What becomes of stored data when its claim is deleted; see claims.ts. Default: Delete. */
  reclaim?: ReclaimPolicy;
  /** Told what pods do, a line each. */
  onEvent?: (line: string) => void;
}

/** The pods of a cluster; `stop` ends them all at once. */
export class Pods {
  readonly #api: KubeApi;
  readonly #folder: string;
  readonly #images: Images;
  readonly #names: Names;
  readonly #claims: Claims;
  readonly #services: Services;
  readonly #tell: (line: string) => void;
  readonly #pods = new Map<string, PodRuntime>();
  /** What the API server has of a pod's status from here. */
  readonly #sent = new Map<string, string>();
  #count = 0;
  #stopped = false;
  #round: Promise<void> = Promise.resolve();
  #trouble: unknown;
  #close = (): void => {};

  private constructor(
    cluster: Cluster,
    world: string,
    { reclaim = 'Delete', onEvent = () => {} }: PodsSettings,
  ) {
    this.#api = cluster.api;
    this.#folder = join(world, 'pods');
    this.#images = new Images(join(world, 'images'));
    this.#names = new Names(join(world, 'names'));
    this.#claims = new Claims(cluster.api, join(world, 'claims'), reclaim);
    this.#services = new Services(cluster.api, {
      host: '127.0.0.1',
      port: Number(new URL(cluster.url).port),
    });
    this.#tell = onEvent;
  }

  /** Registers the node of a cluster that was started with `kubelet: false`, and begins. */
  static async start(cluster: Cluster, settings: PodsSettings = {}): Promise<Pods> {
    const world = process.env['QUORUMBRIDGE_WORLD'];
    if (world === undefined) throw new Error('pods run only in a world of test/support/pods/enter.sh');
    const pods = new Pods(cluster, world, settings);
    const { api } = cluster;
    const node = await api.create({ apiVersion: 'v1', kind: 'Node', metadata: { name: NODE } });
    const conditions = [
      { type: 'Ready', status: 'True', reason: 'KubeletReady', lastTransitionTime: timestamp() },
    ];
    const addresses = [{ type: 'InternalIP', address: NODE_ADDRESS }];
    const execServer = await startExecServer((...args) => pods.exec(...args));
    pods.#close = execServer.close;
    const daemonEndpoints = { kubeletEndpoint: { Port: execServer.port } };
    await api.patch(node, { status: { conditions, addresses, daemonEndpoints } }, { subresource: 'status' });
    pods.#round = pods.#rounds();
    return pods;
  }

  /** Why the last round failed, if it did: for the message of a test that waits in vain. */
  get trouble(): unknown {
    return this.#trouble;
  }

  /** The address of a pod that has one; reached from the whole world. */
  address(namespace: string, name: string): string {
    const address = this.#find(namespace, name).address;
    if (address === undefined) throw new Error(`pod ${namespace}/${name} has no address yet`);
    return address;
  }

  /** What a container has printed, in all of its runs and in those of earlier pods of that name. */
  log(namespace: string, name: string, container: string): string {
    return readFileSync(join(this.#logs(namespace, name), `${container}.log`), 'utf8');
  }

  /** Runs a command in a container that runs. */
  async exec(
    namespace: string,
    name: string,
    container: string,
    command: string[],
    timeoutMs = EXEC_TIMEOUT_MS,
  ): Promise<ExecResult> {
    const run = this.#find(namespace, name).run(container);
    if (run === undefined) throw new Error(`container ${container} of ${namespace}/${name} does not run`);
    return run.exec(command, timeoutMs);
  }

  /** SIGKILL for a container, as when its memory is over: it will be started again. */
  async crash(namespace: string, name: string, container: string): Promise<void> {
    await this.#find(namespace, name).run(container)?.kill();
  }

  /** Ends all pods without hooks. Their objects stay as they are. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#round;
    this.#services.close();
    this.#close();
    for (const pod of this.#pods.values()) pod.abort();
    await Promise.all([...this.#pods.values()].map((pod) => pod.ended));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  // --------------------------------------------------------------------------- rounds ---

  async #rounds(): Promise<void> {
    while (!this.#stopped) {
      try {
        await this.#work();
        this.#trouble = undefined;
      } catch (error) {
        this.#trouble = error; // the API server may be down for a test's sake: the next round tells
      }
      await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    }
  }

  async #work(): Promise<void> {
    await this.#claims.update();
    // resourceVersion 0: from the API server's memory.
    const objects = await this.#api.list<PodObject>('v1', 'Pod', undefined, { resourceVersion: '0' });
    for (const object of objects) {
      if (this.#stopped) return;
      await this.#advance(object).catch(passOver);
    }
    const alive = new Set(objects.map(({ metadata }) => metadata.uid));
    for (const [key, pod] of this.#pods) {
      if (alive.has(pod.uid)) continue;
      this.#forget(key, pod);
      pod.abort();
    }
    const serviceNames = await this.#services.update();
    await this.#names.set([...serviceNames, ...this.#podNames()]);
  }

  async #advance(object: PodObject): Promise<void> {
    const { name, namespace, uid, deletionTimestamp } = object.metadata;
    const key = `${namespace}/${name}`;
    let pod = this.#pods.get(key);
    if (pod !== undefined && pod.uid !== uid) return; // its predecessor has to go first
    if (pod === undefined) {
      if (deletionTimestamp !== undefined) {
        await this.#remove(object);
        return;
      }
      if (object.spec.nodeName === undefined) await this.#bind(object);
      pod = this.#create(object);
      this.#pods.set(key, pod);
    }
    pod.update(object);
    await this.#report(object, pod);
    if (!pod.isOver) return;
    await this.#remove(object);
    this.#tell(`pod ${name}: is gone`);
    this.#forget(key, pod);
  }

  #create(object: PodObject): PodRuntime {
    this.#count += 1;
    const { name, namespace, uid } = object.metadata;
    const logs = this.#logs(namespace, name);
    mkdirSync(logs, { recursive: true });
    return new PodRuntime(
      {
        api: this.#api,
        images: this.#images,
        names: this.#names,
        claimFolder: (space, claim) => this.#claims.folder(space, claim),
        folder: join(this.#folder, uid),
        logs,
        tell: this.#tell,
      },
      object,
      this.#count,
    );
  }

  async #report(object: PodObject, pod: PodRuntime): Promise<void> {
    const status = pod.status();
    const text = JSON.stringify(status);
    if (this.#sent.get(pod.uid) === text) return;
    await this.#api.patch(object, { metadata: { uid: pod.uid }, status }, { subresource: 'status' });
    this.#sent.set(pod.uid, text);
  }

  async #bind(object: PodObject): Promise<void> {
    const { name, namespace, uid } = object.metadata;
    await this.#api.call('POST', `/api/v1/namespaces/${namespace}/pods/${name}/binding`, {
      body: {
        apiVersion: 'v1',
        kind: 'Binding',
        metadata: { name, namespace, uid },
        target: { apiVersion: 'v1', kind: 'Node', name: NODE },
      },
    });
  }

  async #remove(object: PodObject): Promise<void> {
    await this.#api.remove(object, { gracePeriodSeconds: 0, preconditions: { uid: object.metadata.uid } });
  }

  #forget(key: string, pod: PodRuntime): void {
    if (this.#pods.get(key) === pod) this.#pods.delete(key);
    this.#sent.delete(pod.uid);
  }

  #podNames(): string[] {
    return [...this.#pods.values()].flatMap((pod) => {
      const name = pod.domainName();
      return pod.address === undefined || name === undefined ? [] : [`${pod.address} ${name}`];
    });
  }

  #logs(namespace: string, name: string): string {
    return join(this.#folder, 'logs', namespace, name);
  }

  #find(namespace: string, name: string): PodRuntime {
    const pod = this.#pods.get(`${namespace}/${name}`);
    if (pod === undefined) throw new Error(`there is no pod ${namespace}/${name}`);
    return pod;
  }
}

/** The pod is gone, or somebody changed it in this moment: the next round sees. */
function passOver(error: unknown): void {
  if (!(error instanceof KubeError && (error.code === 404 || error.code === 409))) throw error;
}
