// Stands in for kube-proxy and the cluster's DNS: who connects to a Service's ClusterIP gets to one of its ready pods.
import { execFile } from 'node:child_process';
import { createServer, connect } from 'node:net';
import type { Server } from 'node:net';
import { promisify } from 'node:util';
import type { KubeApi, KubeObject } from '../kube-api.ts';

const run = promisify(execFile);

interface Service extends KubeObject {
  spec: { clusterIP?: string; ports?: { name?: string; port: number; protocol?: string }[] };
}

interface EndpointSlice extends KubeObject {
  endpoints?: { addresses: string[]; conditions?: { ready?: boolean } }[];
  ports?: { name?: string; port?: number }[];
}

/** Where a connection may be taken to. */
interface Target {
  host: string;
  port: number;
}

export class Services {
  readonly #api: KubeApi;
  /** Where the API server listens, for the service `kubernetes`. */
  readonly #apiServer: Target;
  readonly #servers = new Map<string, { server: Server; targets: Target[] }>();
  readonly #addresses = new Set<string>();

  constructor(api: KubeApi, apiServer: Target) {
    this.#api = api;
    this.#apiServer = apiServer;
  }

  /** Looks at all services, listens for those with ready pods, and returns lines of /etc/hosts with their names. */
  async update(): Promise<string[]> {
    const query = { resourceVersion: '0' };
    const [services, slices] = await Promise.all([
      this.#api.list<Service>('v1', 'Service', undefined, query),
      this.#api.list<EndpointSlice>('discovery.k8s.io/v1', 'EndpointSlice', undefined, query),
    ]);
    const names: string[] = [];
    const wanted = new Map<string, Target[]>();
    for (const { metadata, spec } of services) {
      const { name, namespace } = metadata;
      const { clusterIP = 'None', ports = [] } = spec;
      if (clusterIP === 'None' || clusterIP === '') continue;
      names.push(`${clusterIP} ${domainNames(`${name}.${namespace}`)}`);
      await this.#own(clusterIP);
      const own = slices.filter(
        ({ metadata: slice }) =>
          slice.namespace === namespace && slice.labels?.['kubernetes.io/service-name'] === name,
      );
      for (const { name: portName = '', port, protocol = 'TCP' } of ports) {
        if (protocol !== 'TCP') continue;
        const isApiServer = namespace === 'default' && name === 'kubernetes';
        const targets = isApiServer ? [this.#apiServer] : readyTargets(own, portName);
        if (targets.length > 0) wanted.set(`${clusterIP} ${port}`, targets);
      }
    }
    await this.#listen(wanted);
    return names.sort();
  }

  close(): void {
    for (const { server } of this.#servers.values()) server.close();
    this.#servers.clear();
  }

  async #listen(wanted: Map<string, Target[]>): Promise<void> {
    for (const [key, { server }] of this.#servers) {
      if (wanted.has(key)) continue;
      server.close(); // refused from now on; what is connected stays so
      this.#servers.delete(key);
    }
    for (const [key, targets] of wanted) {
      const known = this.#servers.get(key);
      if (known !== undefined) known.targets = targets;
      else await this.#open(key, targets);
    }
  }

  /** Without a ready pod connections are refused, as kube-proxy does it. */
  async #own(address: string): Promise<void> {
    if (this.#addresses.has(address)) return;
    await run('ip', ['address', 'add', `${address}/32`, 'dev', 'lo']);
    this.#addresses.add(address);
  }

  async #open(key: string, targets: Target[]): Promise<void> {
    const [address = '', port] = key.split(' ');
    const entry = { server: createServer({ pauseOnConnect: true, noDelay: true }), targets };
    entry.server.on('connection', (socket) => {
      const target = entry.targets[Math.floor(Math.random() * entry.targets.length)]!;
      const onward = connect({ ...target, noDelay: true });
      socket.on('error', () => onward.destroy());
      socket.on('close', () => onward.destroy());
      onward.on('error', () => socket.resetAndDestroy());
      onward.on('close', () => socket.destroy());
      onward.once('connect', () => {
        socket.pipe(onward);
        onward.pipe(socket);
      });
    });
    await new Promise<void>((resolve, reject) => {
      entry.server.once('error', reject);
      entry.server.listen(Number(port), address, resolve);
    });
    this.#servers.set(key, entry);
  }
}

function readyTargets(slices: EndpointSlice[], portName: string): Target[] {
  return slices.flatMap(({ endpoints = [], ports = [] }) => {
    const port = ports.find(({ name = '' }) => name === portName)?.port;
    if (port === undefined) return [];
    return endpoints
      .filter(({ conditions }) => conditions?.ready !== false)
      .flatMap(({ addresses }) => addresses.map((host) => ({ host, port })));
  });
}

/** The names by which the cluster's DNS knows `NAME.NAMESPACE`, from anywhere. */
export function domainNames(name: string): string {
  return `${name}.svc.cluster.local ${name}.svc ${name}`;
}
