// What real clusters have besides Kubernetes and what our manifests are made for: cert-manager, which runs here, and the
// CRDs of the Prometheus operator. Both come from Go modules, by kube-install.sh.
import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from './kube-api.ts';
import type { KubeObject } from './kube-api.ts';
import type { Cluster } from './kube.ts';
import { objectsOf } from './manifests.ts';
import { freePort } from './ports.ts';
import { Child, HOME } from './processes.ts';

const INSTALL = join(HOME, 'test/support/kube-install.sh');
const GUARD = join(HOME, 'test/support/guard.sh');
/** A cold build of cert-manager takes some minutes of two idle cores, and waits for other builds. */
const INSTALL_TIMEOUT_MS = 60 * 60_000;

export type AddonName = 'cert-manager' | 'monitoring';

/**
 * The folder of an add-on, built when the cache has none; rejects with the reason where that can't be done.
 * @param onProgress told each line of progress.
 */
export async function fetchAddon(name: AddonName, onProgress?: (line: string) => void): Promise<string> {
  const printed: string[] = [];
  const told: string[] = [];
  const child = new Child('kube-install.sh', INSTALL, ['install', name], {
    onLine: (line, stream) => {
      (stream === 'stdout' ? printed : told).push(line);
      if (stream === 'stderr') onProgress?.(line);
    },
  });
  child.end();
  const timer = setTimeout(() => child.kill('SIGTERM'), INSTALL_TIMEOUT_MS);
  const { code } = await child.exited;
  clearTimeout(timer);
  const folder = /^\S+ \S+ (.+)$/.exec(printed.at(-1) ?? '')?.[1];
  if (code !== 0 || folder === undefined)
    throw new Error(told.slice(-8).join('\n') || `kube-install.sh failed (exit code ${code})`);
  return folder;
}

interface Crd extends KubeObject {
  status?: { conditions?: { type: string; status: string }[] };
}

/** Installs the CRDs of an add-on and waits until their kinds can be used. */
export async function installCrds(cluster: Cluster, name: AddonName): Promise<void> {
  const crds = objectsOf(await readFile(join(await fetchAddon(name), 'crds.yaml'), 'utf8'));
  for (const crd of crds) await cluster.api.create(crd);
  for (const crd of crds) {
    await eventually(`CRD ${crd.metadata.name}`, async () => {
      const { status } = await cluster.api.read<Crd>(crd);
      return status?.conditions?.some((one) => one.type === 'Established' && one.status === 'True');
    });
  }
}

/**
 * Installs cert-manager's CRDs and runs its controller and CA injector, with the administrator's rights: its own are
 * its manifests' matter. Its webhook, which checks Issuers and Certificates before they are stored, does not run.
 */
export async function startCertManager(cluster: Cluster): Promise<AsyncDisposable> {
  const programs = await fetchAddon('cert-manager');
  await installCrds(cluster, 'cert-manager');
  const common = [`--kubeconfig=${cluster.kubeconfig}`, '--leader-elect=false'];
  const metrics = `--metrics-listen-address=127.0.0.1:${await freePort()}`;
  const children: Child[] = [];
  for (const [name, args] of [
    ['controller', [...common, metrics]],
    ['cainjector', common],
  ] as const) {
    const folder = await mkdtemp(join(tmpdir(), `quorumbridge-${name}-`));
    const command = [folder, join(programs, name), ...args];
    children.push(new Child(name, GUARD, command, { ownSession: true }));
  }
  return {
    async [Symbol.asyncDispose]() {
      for (const child of children) child.end();
      await Promise.all(children.map(({ exited }) => exited));
    },
  };
}
