// Stands in for a storage class: every claim is bound at once to a volume that is a folder here.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { KubeError } from '../kube-api.ts';
import type { KubeApi, KubeMetadata, KubeObject } from '../kube-api.ts';

interface Claim extends KubeObject {
  metadata: KubeMetadata & { name: string; namespace: string; uid: string };
  spec: {
    accessModes?: string[];
    resources?: { requests?: { storage?: string } };
    volumeMode?: string;
    volumeName?: string;
  };
  status?: { phase?: string };
}

export type ReclaimPolicy = 'Delete' | 'Retain';

export class Claims {
  readonly #api: KubeApi;
  readonly #folder: string;
  readonly #policy: ReclaimPolicy;
  /** Folders of volumes, by the uid of the claim. */
  readonly #bound = new Map<string, { path: string; volume: KubeObject }>();

  /**
   * @param policy Delete: what was stored goes with the claim. Retain: the next claim of that name finds it, as an
   *   administrator would arrange it who gives the released volume to it.
   */
  constructor(api: KubeApi, folder: string, policy: ReclaimPolicy) {
    this.#api = api;
    this.#folder = folder;
    this.#policy = policy;
  }

  /** Binds new claims, and frees what belongs to those that are gone. */
  async update(): Promise<void> {
    const claims = await this.#api.list<Claim>('v1', 'PersistentVolumeClaim', undefined, {
      resourceVersion: '0',
    });
    for (const claim of claims) if (!this.#bound.has(claim.metadata.uid)) await this.#bind(claim);
    const alive = new Set(claims.map(({ metadata }) => metadata.uid));
    for (const [uid, { path, volume }] of this.#bound) {
      if (alive.has(uid)) continue;
      await this.#api.remove(volume).catch(isGone);
      if (this.#policy === 'Delete') await rm(path, { recursive: true, force: true });
      this.#bound.delete(uid);
    }
  }

  /** The folder behind a claim; rejects where a pod has to wait for it. */
  async folder(namespace: string, name: string): Promise<string> {
    const ref = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: { namespace, name } };
    const claim = await this.#api.find<Claim>(ref);
    if (claim === undefined) throw new Error(`persistentvolumeclaim "${name}" not found`);
    if (claim.metadata.deletionTimestamp !== undefined)
      throw new Error(`persistentvolumeclaim "${name}" is being deleted`);
    const bound = this.#bound.get(claim.metadata.uid);
    if (bound === undefined) throw new Error(`persistentvolumeclaim "${name}" is not bound`);
    return bound.path;
  }

  async #bind(claim: Claim): Promise<void> {
    const { namespace, name, uid } = claim.metadata;
    const { accessModes = ['ReadWriteOnce'], resources, volumeMode = 'Filesystem' } = claim.spec;
    const capacity = { storage: resources?.requests?.storage ?? '1Gi' };
    const path = join(this.#folder, namespace, this.#policy === 'Retain' ? name : `${name}-${uid}`);
    await mkdir(path, { recursive: true });
    const claimRef = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name, uid };
    const volume: KubeObject = {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: {
        name: `pvc-${uid}`,
        annotations: { 'pv.kubernetes.io/provisioned-by': 'quorumbridge-test' },
      },
      spec: {
        accessModes,
        capacity,
        volumeMode,
        claimRef,
        hostPath: { path },
        persistentVolumeReclaimPolicy: this.#policy,
      },
    };
    await this.#api.create(volume);
    const volumeName = volume.metadata.name!;
    await this.#api.patch(volume, { status: { phase: 'Bound' } }, { subresource: 'status' });
    const annotations = { 'pv.kubernetes.io/bind-completed': 'yes' };
    await this.#api.patch(claim, { metadata: { uid, annotations }, spec: { volumeName } });
    await this.#api.patch(
      claim,
      { metadata: { uid }, status: { phase: 'Bound', accessModes, capacity } },
      { subresource: 'status' },
    );
    this.#bound.set(uid, { path, volume });
  }
}

function isGone(error: unknown): void {
  if (!(error instanceof KubeError && error.code === 404)) throw error;
}
