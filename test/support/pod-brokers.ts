// What the pods of a test cluster's RabbitmqClusters run, started and stopped with them: each pod has a loopback address
// of its own, where the management API of its RabbitMQ answers, a real one or a played one. Its storage is its claim's.
import { randomInt } from 'node:crypto';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { NAME_LABEL, RABBITMQ_CONTAINER, WIPE_CONTAINER } from '../../common/contract.ts';
import { type Broker, type BrokerVersion, startBroker } from './broker.ts';
import type { KubeApi, KubeObject } from './kube-api.ts';
import type { KubeletSettings, Pod, PodFate } from './kubelet.ts';
import {
  type Definitions,
  PlayedBroker,
  type PlayedStorage,
  definitionsIn,
  putDefinitions,
} from './played-broker.ts';

const CREATED = 'rabbitmq.com/createdAt';

/** What survives a pod: its volume's. */
interface Storage {
  readonly played: PlayedStorage;
  /** Wipes that it has seen. */
  readonly markers: Set<string>;
  /** The real node that has its data there. */
  node?: Broker;
}

interface Booted {
  readonly storage: Storage;
  readonly stop: () => Promise<void>;
}

interface Running {
  readonly pod: Pod;
  readonly address: string;
  /** Undefined where it did not start. */
  readonly booting: Promise<Booted | undefined>;
  booted?: Booted;
  ending?: Promise<void>;
}

export interface PodBrokersSettings {
  /** Real brokers, or played ones. */
  readonly real: boolean;
  /** What a played one of 3.x has from the start. */
  readonly seed?: Definitions;
}

interface Secret extends KubeObject {
  data: Record<string, string>;
}

export class PodBrokers {
  readonly #settings: PodBrokersSettings;
  readonly #running = new Map<string, Running>();
  readonly #storages = new Map<string, Storage>();
  readonly #network = `127.${randomInt(64, 250)}.${randomInt(1, 250)}`;
  /** StatefulSets, by their uids, whose feature flags are enabled, or are about to be. */
  readonly #enabled = new Set<string>();
  #addresses = 0;
  #api: KubeApi | undefined;
  /** How far the pods of these clusters get, by the cluster's name. */
  readonly fates = new Map<string, PodFate>();
  /** Clusters whose pods never end. */
  readonly endless = new Set<string>();
  /** Why brokers did not start, for the message of a test that waits in vain. */
  readonly failures: string[] = [];
  /** Told of each request to a played broker. */
  onRequest: (cluster: string, method: string, path: string) => void = () => {};

  constructor(settings: PodBrokersSettings) {
    this.#settings = settings;
  }

  /** For the cluster's kubelet. */
  get kubelet(): KubeletSettings {
    return {
      address: () => `${this.#network}.${(this.#addresses += 1)}`,
      fate: (pod) => this.#fate(pod),
      gone: (pod) => this.#gone(pod),
    };
  }

  /** From here on pods are started. */
  begin(api: KubeApi): void {
    this.#api = api;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#running.values()].map((running) => this.#end(running)));
    await Promise.all([...this.#storages.values()].map(async ({ node }) => node?.stop()));
  }

  /** Where the management API of a cluster's first pod answers. */
  managementUrl(name: string): string {
    return `http://${this.#of(name).address}:15672`;
  }

  /** What the played broker of a cluster has. */
  definitions(name: string): Definitions {
    return definitionsIn(this.#of(name).booted!.storage.played);
  }

  #of(name: string): Running {
    const found = [...this.#running.values()].find(
      ({ pod, booted }) => booted !== undefined && clusterOf(pod) === name,
    );
    if (found === undefined) throw new Error(`no pod of ${name} runs: ${this.failures.join('\n')}`);
    return found;
  }

  #fate(pod: Pod): PodFate {
    const name = clusterOf(pod);
    if (name === undefined) return 'ready';
    const asked = this.fates.get(name);
    if (asked !== undefined) return asked;
    const { uid } = pod.metadata;
    const address = pod.status?.podIP;
    if (address === undefined || this.#api === undefined) return 'unready';
    const running = this.#running.get(uid);
    if (running === undefined) this.#start(pod, address, this.#api);
    if (running?.booted === undefined) return 'unready';
    if (pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true)
      void this.#enableFeatureFlags(pod, this.#api);
    return 'ready';
  }

  /**
   * What becomes of the operator's `rabbitmqctl enable_feature_flag all`, which it runs in the first pod of a new
   * StatefulSet by a kubelet that is not here: the annotation by which it remembers to do that goes.
   */
  async #enableFeatureFlags(pod: Pod, api: KubeApi): Promise<void> {
    const owner = pod.metadata.ownerReferences?.[0];
    if (owner === undefined || this.#enabled.has(owner.uid)) return;
    this.#enabled.add(owner.uid);
    try {
      const set = ref('StatefulSet', pod.metadata.namespace, owner.name, 'apps/v1');
      const { metadata } = await api.read(set);
      if (metadata.uid !== owner.uid || metadata.annotations?.[CREATED] === undefined)
        throw new Error('not yet');
      await api.patch(set, { metadata: { uid: owner.uid, annotations: { [CREATED]: null } } });
    } catch {
      this.#enabled.delete(owner.uid); // the next round tries again
    }
  }

  #gone(pod: Pod): boolean {
    if (this.endless.has(clusterOf(pod) ?? '')) return false;
    const running = this.#running.get(pod.metadata.uid);
    if (running === undefined) return true;
    void this.#end(running);
    return false;
  }

  #start(pod: Pod, address: string, api: KubeApi): void {
    const { uid } = pod.metadata;
    const boot = async (): Promise<Booted | undefined> => {
      try {
        return (running.booted = await this.#boot(pod, address, api));
      } catch (error) {
        // The API server may be away for the test's sake: the next round tries again.
        this.failures.push(`${pod.metadata.name}: ${String(error)}`);
        this.#running.delete(uid);
        return undefined;
      }
    };
    const running: Running = { pod, address, booting: Promise.resolve().then(boot) };
    this.#running.set(uid, running);
  }

  #end(running: Running): Promise<void> {
    running.ending ??= (async () => {
      const booted = await running.booting;
      await booted?.stop();
      this.#running.delete(running.pod.metadata.uid);
    })();
    return running.ending;
  }

  async #boot(pod: Pod, host: string, api: KubeApi): Promise<Booted> {
    const name = clusterOf(pod)!;
    const { namespace } = pod.metadata;
    const secret = await api.read<Secret>(ref('Secret', namespace, `${name}-default-user`));
    const conf = Buffer.from(secret.data['default_user.conf'] ?? '', 'base64').toString();
    const claim = await api.read(ref('PersistentVolumeClaim', namespace, `persistence-${pod.metadata.name}`));
    // In place of the controller that binds claims to volumes.
    await api.patch(claim, { status: { phase: 'Bound' } }, { subresource: 'status' });
    const isNew = !this.#storages.has(claim.metadata.uid!);
    const storage: Storage = this.#storages.get(claim.metadata.uid!) ?? {
      played: new Map(),
      markers: new Set(),
    };
    this.#storages.set(claim.metadata.uid!, storage);
    const version = versionOf(pod);
    const isWiped = wipes(pod, storage);
    if (this.#settings.real) {
      const node = await this.#real(storage, minorOf(version), conf, isWiped);
      const stop = await forward(host, node.managementPort);
      return { storage, stop };
    }
    if (isWiped) storage.played.clear();
    const broker = await PlayedBroker.start({
      host,
      version,
      storage: storage.played,
      defaultUser: { username: entry(conf, 'default_user'), password: entry(conf, 'default_pass') },
      onRequest: (method, path) => this.onRequest(name, method, path),
    });
    if (isNew && version.startsWith('3.')) putDefinitions(storage.played, this.#settings.seed ?? {});
    return { storage, stop: () => broker.stop() };
  }

  /** A node can't be stopped without its data: it is when its next pod starts, and until then nobody reaches it. */
  async #real(storage: Storage, version: BrokerVersion, conf: string, isWiped: boolean): Promise<Broker> {
    const { node } = storage;
    if (node === undefined) return (storage.node = await startBroker(version, { conf }));
    if (node.version !== version)
      throw new Error(`there is data of ${node.version} on the volume of ${version}`);
    await (isWiped ? node.replace({ conf }) : node.restart({ conf }));
    return node;
  }
}

function ref(kind: string, namespace: string, name: string, apiVersion = 'v1') {
  return { apiVersion, kind, metadata: { namespace, name } };
}

function clusterOf({ metadata }: Pod): string | undefined {
  return metadata.labels?.['app.kubernetes.io/component'] === 'rabbitmq'
    ? metadata.labels[NAME_LABEL]
    : undefined;
}

/** `default_user = name` */
function entry(conf: string, key: string): string {
  const found = new RegExp(`^${key} = (.+)$`, 'm').exec(conf)?.[1];
  if (found === undefined) throw new Error(`default_user.conf has no ${key}`);
  return found;
}

/** By the tag of its image; always with a patch. */
function versionOf(pod: Pod): string {
  const image = pod.spec.containers.find(({ name }) => name === RABBITMQ_CONTAINER)?.image ?? '';
  const [, minor, patch = '.0'] = /:(\d+\.\d+)(\.\d+)?/.exec(image) ?? [];
  if (minor === undefined) throw new Error(`the image ${image} has no version`);
  return `${minor}${patch}`;
}

function minorOf(version: string): BrokerVersion {
  return version.split('.').slice(0, 2).join('.') as BrokerVersion;
}

/** What the init container would do: whether it empties the storage, which it does once. */
function wipes(pod: Pod, { markers }: Storage): boolean {
  const container = pod.spec.initContainers?.find(({ name }) => name === WIPE_CONTAINER);
  const marker = /\.operator-wipe-[\d.]+-\d+/.exec(JSON.stringify(container ?? ''))?.[0];
  if (marker === undefined || markers.has(marker)) return false;
  markers.add(marker);
  return true;
}

/** Passes connections to the address on to the node; resolves to what ends that. */
async function forward(host: string, port: number): Promise<() => Promise<void>> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((incoming) => {
    const outgoing = connect(port, '127.0.0.1');
    for (const [socket, other] of [[incoming, outgoing] as const, [outgoing, incoming] as const]) {
      sockets.add(socket);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(15_672, host, resolve);
  });
  return async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => {
      server.close(resolve);
    });
  };
}
