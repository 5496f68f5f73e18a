// A real Kubernetes control plane on loopback, by the programs of kube-install.sh: etcd and kube-apiserver; unless
// told otherwise kube-controller-manager and a stand-in for the kubelet; on request RabbitMQ's cluster-operator, or where
// that can't be had a stand-in for it.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAllDocuments, stringify } from 'yaml';
import { makeCa, makeServingCertificate } from '../../certs/certificates.ts';
import { KubeApi, eventually } from './kube-api.ts';
import type { KubeObject } from './kube-api.ts';
import { Kubelet } from './kubelet.ts';
import type { KubeletSettings } from './kubelet.ts';
import {
  OPERATOR_SINCE,
  SINCE,
  adapted,
  apiServerArgsSince,
  controllerArgsSince,
  hasTokenSecrets,
  minorOf,
} from './kube-versions.ts';
import { RABBITMQCLUSTER_CRD } from './operator-crd.ts';
import { freePort } from './ports.ts';
import { Child, HOME } from './processes.ts';

const INSTALL = join(HOME, 'test/support/kube-install.sh');
const GUARD = join(HOME, 'test/support/guard.sh');
/** A cold build takes some minutes of two idle cores, and other tests may want them. */
const BUILD_TIMEOUT_MS = 45 * 60_000;
/** Exit code of kube-install.sh. */
const NOT_POSSIBLE = 3;
const START_TIMEOUT_MS = 90_000;

/** Where the cluster-operator's manifests put it, as its users know it. */
export const OPERATOR_NAMESPACE = 'rabbitmq-system';
const OPERATOR_ACCOUNT = 'rabbitmq-cluster-operator';
const STAND_IN = join(HOME, 'test/support/stand-in-operator.ts');

/** What kube-install.sh has: the programs are files in `folder`. */
export interface KubeTools {
  controlPlane: { version: string; folder: string };
  /** Whether kube-controller-manager is there too, which envtest's assets lack. */
  controllers: boolean;
  /** Absent where it was not asked for, and where it can't be had: a stand-in takes its place then. */
  operator?: { version: string; folder: string };
}

export interface ClusterSettings {
  /** Run kube-controller-manager: StatefulSets get pods, owners' objects are collected, … Default: true. */
  controllers?: boolean;
  /** What the stand-in for the kubelet does; false for none. Default: with `controllers`, pods become ready. */
  kubelet?: KubeletSettings | false;
  /** Install and run RabbitMQ's cluster-operator, or the stand-in for it where it can't be had. Default: false. */
  operator?: boolean | 'stand-in';
  /** More arguments of kube-apiserver. */
  apiServerArgs?: string[];
  /** Told each line of progress. */
  onProgress?: (line: string) => void;
}

/** A program of the cluster, which ends with this process however that ends. */
class Program {
  readonly #start: () => Child;
  #child: Child;
  #ended = false;

  constructor(folder: string, path: string, args: string[], env: Record<string, string> = {}) {
    const name = path.split('/').at(-1)!;
    this.#start = () => new Child(name, GUARD, [folder, path, ...args], { ownSession: true, env });
    this.#child = this.#watched();
  }

  get child(): Child {
    return this.#child;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Kills it. Its files stay. */
  async kill(): Promise<void> {
    await this.#child.stop();
  }

  again(): void {
    this.#child = this.#watched();
  }

  /** Kills it and deletes the cluster's folder. */
  async end(): Promise<void> {
    this.#child.end();
    await this.#child.exited;
  }

  #watched(): Child {
    const child = this.#start();
    this.#ended = false;
    void child.exited.then(() => (this.#ended = true));
    return child;
  }
}

export type ProgramName = 'etcd' | 'kube-apiserver' | 'kube-controller-manager' | 'cluster-operator';

/** A running control plane, of which this process is the administrator (group system:masters). */
export class Cluster {
  /** `https://127.0.0.1:PORT` */
  readonly url: string;
  /** The CA of the API server, PEM. */
  readonly ca: string;
  /** The administrator's. */
  readonly api: KubeApi;
  readonly tools: KubeTools;
  /** Absent where it was not asked for. */
  kubelet?: Kubelet;
  /** Where the cluster keeps its files; deleted at its end. Free for files of the caller's. */
  readonly folder: string;
  readonly #programs = new Map<ProgramName, Program>();
  #version = '';

  constructor(tools: KubeTools, folder: string, port: number, ca: string, token: string) {
    this.tools = tools;
    this.folder = folder;
    this.url = `https://127.0.0.1:${port}`;
    this.ca = ca;
    this.api = new KubeApi({ url: this.url, ca, token });
  }

  /** As the API server says it: `v1.34.4`. */
  get version(): string {
    return this.#version;
  }

  get minor(): number {
    return minorOf(this.#version);
  }

  /** Whether admission webhooks can have matchConditions without a feature gate. */
  get hasMatchConditions(): boolean {
    return this.minor >= SINCE.matchConditions[0];
  }

  /** Whether init containers with restartPolicy Always are kept without a feature gate. */
  get hasNativeSidecars(): boolean {
    return this.minor >= SINCE.nativeSidecars[0];
  }

  /** The object as this API server takes it. */
  adapted<T extends KubeObject>(object: T): T {
    return adapted(object, this.minor);
  }

  /** The administrator's kubeconfig, a file. */
  get kubeconfig(): string {
    return join(this.folder, 'admin.kubeconfig');
  }

  /** Writes a kubeconfig for that bearer token and returns its path. */
  async writeKubeconfig(name: string, token: string): Promise<string> {
    const path = join(this.folder, `${name}.kubeconfig`);
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: 'test',
          cluster: {
            server: this.url,
            'certificate-authority-data': Buffer.from(this.ca).toString('base64'),
          },
        },
      ],
      users: [{ name, user: { token } }],
      contexts: [{ name, context: { cluster: 'test', user: name } }],
      'current-context': name,
    };
    await writeFile(path, stringify(config), { mode: 0o600 });
    return path;
  }

  /** A token of that service account, valid for an hour. */
  async tokenOf(namespace: string, account: string): Promise<string> {
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`;
    const body = {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { expirationSeconds: 3600 },
    };
    return (await this.api.call<{ status: { token: string } }>('POST', path, { body })).body.status.token;
  }

  /** Creates a namespace, and waits until pods can be created in it. */
  async createNamespace(name: string, labels: Record<string, string> = {}): Promise<void> {
    await this.api.create({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
    if (!this.#programs.has('kube-controller-manager')) return;
    const account = {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { namespace: name, name: 'default' },
    };
    await eventually(`service account of namespace ${name}`, async () => {
      const made = await this.api.find(account);
      return made !== undefined && (!hasTokenSecrets(this.minor) || made['secrets'] !== undefined);
    });
  }

  /** Runs kubectl as the administrator and returns what it prints; rejects with what it says when it fails. */
  async kubectl(args: string[], input = ''): Promise<string> {
    const printed: string[] = [];
    const told: string[] = [];
    const child = new Child(`kubectl ${args[0]}`, join(this.tools.controlPlane.folder, 'kubectl'), args, {
      env: { KUBECONFIG: this.kubeconfig, KUBECACHEDIR: join(this.folder, 'kubectl') },
      onLine: (line, stream) => (stream === 'stdout' ? printed : told).push(line),
    });
    child.write(input);
    child.end();
    const { code } = await child.exited;
    if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${[...told, ...printed].join('\n')}`);
    return printed.join('\n');
  }

  /** The last lines that the program logged. */
  log(name: ProgramName): readonly string[] {
    return this.#program(name).child.lines;
  }

  /** Kills a program of the cluster; `restart` starts it again. */
  async kill(name: ProgramName): Promise<void> {
    await this.#program(name).kill();
  }

  /** Starts a program again, on the same ports and files. */
  async restart(name: ProgramName): Promise<void> {
    const program = this.#program(name);
    await program.kill();
    if (name === 'cluster-operator' && this.tools.operator !== undefined) await this.#freeLease();
    program.again();
    await this.#ready();
  }

  /** Ends everything and deletes the cluster's files. */
  async stop(): Promise<void> {
    this.kubelet?.stop();
    this.api.close();
    await Promise.all([...this.#programs.values()].map((program) => program.end()));
    await rm(this.folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Starts a program of the cluster. For `startCluster`. */
  run(name: ProgramName, path: string, args: string[], env: Record<string, string> = {}): void {
    this.#programs.set(name, new Program(this.folder, path, args, env));
  }

  /** Waits for an API server that answers, and its namespaces. For `startCluster`. */
  async begin(): Promise<void> {
    await this.#ready();
    this.#version = (await this.api.call<{ gitVersion: string }>('GET', '/version')).body.gitVersion;
    const standard = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' } };
    await eventually('namespace default', () => this.api.find(standard));
  }

  async #ready(): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      for (const name of ['etcd', 'kube-apiserver'] as const) {
        const { child, ended } = this.#program(name);
        if (ended) throw new Error(`${name} ended:\n${child.lines.slice(-15).join('\n')}`);
      }
      const answer = await this.api.call('GET', '/readyz').catch((error: unknown) => error as Error);
      if (!(answer instanceof Error)) return;
      if (Date.now() > deadline) {
        const log = this.log('kube-apiserver').slice(-15).join('\n');
        throw new Error(
          `the API server is not ready after ${START_TIMEOUT_MS / 1000} s: ${answer.message}\n${log}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  #program(name: ProgramName): Program {
    const program = this.#programs.get(name);
    if (program === undefined) throw new Error(`the cluster runs no ${name}`);
    return program;
  }

  /** An operator that was killed holds its lease for 15 s more. */
  async #freeLease(): Promise<void> {
    const leases = await this.api.list('coordination.k8s.io/v1', 'Lease', OPERATOR_NAMESPACE);
    for (const lease of leases) await this.api.remove(lease);
  }
}

/** Builds what the cache has not; rejects with the reason when that cannot be done here. */
export async function fetchKube(
  { operator = false }: { operator?: boolean } = {},
  onProgress?: (line: string) => void,
): Promise<KubeTools> {
  const controlPlane = (await install('control-plane', onProgress))!;
  const controllers = existsSync(join(controlPlane.folder, 'kube-controller-manager'));
  const tools: KubeTools = { controlPlane, controllers };
  if (!operator || minorOf(controlPlane.version) < OPERATOR_SINCE) return tools;
  const built = await install('operator', onProgress);
  return built === undefined ? tools : { ...tools, operator: built };
}

/** Undefined where there is no way to the cluster-operator here. */
async function install(
  name: 'control-plane' | 'operator',
  onProgress?: (line: string) => void,
): Promise<{ version: string; folder: string } | undefined> {
  const told: string[] = [];
  const child = new Child('kube-install.sh', INSTALL, ['install', name], {
    onLine: (line, stream) => {
      if (stream === 'stdout') return;
      told.push(line);
      onProgress?.(line);
    },
  });
  child.end();
  const timer = setTimeout(() => child.kill('SIGTERM'), BUILD_TIMEOUT_MS);
  const { code } = await child.exited;
  clearTimeout(timer);
  if (code === NOT_POSSIBLE && name === 'operator') return undefined;
  if (code !== 0) throw new Error(told.slice(-8).join('\n') || `kube-install.sh failed (exit code ${code})`);
  const [, version, folder] = child.lines
    .map((line) => /^(?:control-plane|operator) (\S+) (.+)$/.exec(line))
    .find((match) => match !== null)!;
  return { version: version!, folder: folder! };
}

/**
 * Starts a control plane with empty storage, building it first when the cache has none. Webhooks reach it and it
 * reaches webhooks on loopback: register them by `clientConfig.url`.
 */
export async function startCluster(settings: ClusterSettings = {}): Promise<Cluster> {
  const { controllers = true, operator = false, kubelet = controllers ? {} : false } = settings;
  const tools = await fetchKube({ operator: operator === true }, settings.onProgress);
  const minor = minorOf(tools.controlPlane.version);
  const folder = await mkdtemp(join(tmpdir(), 'quorumbridge-kube-'));
  const [etcdPort, peerPort, port] = [await freePort(), await freePort(), await freePort()];
  const token = randomBytes(24).toString('hex');
  const controllerToken = randomBytes(24).toString('hex');
  const ca = await writeKeys(folder);
  const accounts = [
    `${token},admin,admin,system:masters`,
    `${controllerToken},system:kube-controller-manager,kube-controller-manager,`,
  ];
  await writeFile(join(folder, 'tokens.csv'), `${accounts.join('\n')}\n`, { mode: 0o600 });

  const cluster = new Cluster(tools, folder, port, ca, token);
  try {
    await cluster.writeKubeconfig('admin', token);
    const programs = tools.controlPlane.folder;
    cluster.run('etcd', join(programs, 'etcd'), etcdArgs(folder, etcdPort, peerPort));
    // Without controllers nobody makes the accounts that this plugin wants every pod to have.
    const plugins = controllers ? [] : ['--disable-admission-plugins=ServiceAccount'];
    const more = [...plugins, ...(settings.apiServerArgs ?? [])];
    const args = [...apiServerArgs(folder, etcdPort, port), ...apiServerArgsSince(minor), ...more];
    cluster.run('kube-apiserver', join(programs, 'kube-apiserver'), args);
    await cluster.begin();
    if (controllers) {
      const kubeconfig = await cluster.writeKubeconfig('controllers', controllerToken);
      const args = [...controllerArgs(folder, kubeconfig), ...controllerArgsSince(minor)];
      cluster.run('kube-controller-manager', join(programs, 'kube-controller-manager'), args);
    }
    if (kubelet !== false) cluster.kubelet = await Kubelet.start(cluster.api, kubelet);
    if (operator !== false)
      await (tools.operator === undefined ? startStandIn : startOperator)(cluster, token);
    return cluster;
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

/** The CA, the API server's certificate and the key of service accounts; returns the CA's certificate. */
async function writeKeys(folder: string): Promise<string> {
  const ca = await makeCa({ commonName: 'quorumbridge test cluster', days: 2 });
  const serving = await makeServingCertificate({
    ca,
    dnsNames: ['localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'],
    ips: ['127.0.0.1', '10.0.0.1'],
    days: 1,
  });
  const { privateKey, publicKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const files = {
    'ca.crt': ca.cert,
    'server.crt': serving.cert,
    'server.key': serving.key,
    'accounts.key': privateKey,
    'accounts.pub': publicKey,
  };
  for (const [name, text] of Object.entries(files))
    await writeFile(join(folder, name), text, { mode: 0o600 });
  return ca.cert;
}

function etcdArgs(folder: string, port: number, peerPort: number): string[] {
  const client = `http://127.0.0.1:${port}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  return [
    `--data-dir=${join(folder, 'etcd')}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
    '--unsafe-no-fsync', // nothing here outlives the machine
    '--log-level=warn',
  ];
}

function apiServerArgs(folder: string, etcdPort: number, port: number): string[] {
  return [
    `--etcd-servers=http://127.0.0.1:${etcdPort}`,
    '--bind-address=127.0.0.1',
    '--advertise-address=127.0.0.1',
    '--endpoint-reconciler-type=none', // no Endpoints object can have a loopback address
    `--secure-port=${port}`,
    `--tls-cert-file=${join(folder, 'server.crt')}`,
    `--tls-private-key-file=${join(folder, 'server.key')}`,
    `--token-auth-file=${join(folder, 'tokens.csv')}`,
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${join(folder, 'accounts.pub')}`,
    `--service-account-signing-key-file=${join(folder, 'accounts.key')}`,
    '--service-cluster-ip-range=10.0.0.0/16',
    '--authorization-mode=RBAC',
    '--allow-privileged=true', // it is for the pod security standards to forbid them
    '--profiling=false',
  ];
}

function controllerArgs(folder: string, kubeconfig: string): string[] {
  return [
    `--kubeconfig=${kubeconfig}`,
    `--service-account-private-key-file=${join(folder, 'accounts.key')}`,
    `--root-ca-file=${join(folder, 'ca.crt')}`,
    '--use-service-account-credentials', // each controller has its own rights, as in any cluster
    '--leader-elect=false',
    '--secure-port=0', // serves nothing
    '--profiling=false',
  ];
}

/** Waits until the API server serves RabbitmqClusters. */
async function established(cluster: Cluster): Promise<void> {
  await eventually('the CRD of RabbitmqCluster', async () => {
    const crd = await cluster.api.read<
      KubeObject & { status?: { conditions?: { type: string; status: string }[] } }
    >(RABBITMQCLUSTER_CRD);
    return crd.status?.conditions?.some(({ type, status }) => type === 'Established' && status === 'True');
  });
}

/** Runs the stand-in for the operator, as the administrator. */
async function startStandIn(cluster: Cluster, token: string): Promise<void> {
  await cluster.api.create(RABBITMQCLUSTER_CRD);
  await established(cluster);
  cluster.run('cluster-operator', process.execPath, [STAND_IN], {
    KUBE_URL: cluster.url,
    KUBE_CA: join(cluster.folder, 'ca.crt'),
    KUBE_TOKEN: token,
  });
}

/** Applies the operator's own manifests and runs it here, as its service account, in place of its Deployment. */
async function startOperator(cluster: Cluster): Promise<void> {
  const { folder } = cluster.tools.operator!;
  const documents = parseAllDocuments(await readFile(join(folder, 'operator.yaml'), 'utf8'));
  for (const document of documents) {
    const object = document.toJS() as KubeObject | null;
    if (object !== null && object.kind !== 'Deployment') await cluster.api.create(object);
  }
  await established(cluster);
  const token = await cluster.tokenOf(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT);
  const kubeconfig = await cluster.writeKubeconfig('operator', token);
  const home = join(cluster.folder, 'operator');
  await mkdir(home);
  cluster.run(
    'cluster-operator',
    join(folder, 'cluster-operator'),
    [`--kubeconfig=${kubeconfig}`, '--metrics-bind-address=0'],
    {
      OPERATOR_NAMESPACE,
      HOME: home,
    },
  );
}
