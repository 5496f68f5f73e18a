// A pod's volumes as folders, with the modes and owners that a kubelet gives them.
import {
  chmod,
  lchown,
  mkdir,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { KubeApi } from '../kube-api.ts';
import { needData } from './objects.ts';
import { fieldOf } from './types.ts';
import type { FieldItem, FileItem, FileSource, PodObject, Volume } from './types.ts';

/** A file of a volume. */
interface File {
  content: Buffer;
  mode: number;
  /** Readable by the user of the pod alone: a token. */
  personal?: boolean;
}

const DEFAULT_MODE = 0o644;
const TOKEN_SECONDS = 3607;

/** The volumes of one pod, below a folder of its own. */
export class Volumes {
  readonly #api: KubeApi;
  readonly #folder: string;
  readonly #podIP: string;
  readonly #claimFolder: (claim: string) => Promise<string>;
  readonly #paths = new Map<string, string>();
  /** What a volume has now, as text. */
  readonly #written = new Map<string, string>();
  /** Volumes whose token is fresh. */
  readonly #tokens = new Map<string, Buffer>();
  #generations = 0;

  constructor(api: KubeApi, folder: string, podIP: string, claimFolder: (claim: string) => Promise<string>) {
    this.#api = api;
    this.#folder = folder;
    this.#podIP = podIP;
    this.#claimFolder = claimFolder;
  }

  /** The folder of a volume, once `prepare` made it. */
  path(name: string): string {
    const path = this.#paths.get(name);
    if (path === undefined) throw new Error(`the pod has no volume "${name}"`);
    return path;
  }

  /** Makes the volumes, or brings their files up to date; rejects with what is missing of one when all others are done. */
  async prepare(pod: PodObject): Promise<void> {
    let failure: Error | undefined;
    for (const volume of pod.spec.volumes ?? []) {
      try {
        await this.#prepare(pod, volume);
      } catch (error) {
        failure ??= new Error(`volume "${volume.name}": ${(error as Error).message}`, { cause: error });
      }
    }
    if (failure !== undefined) throw failure;
  }

  async #prepare(pod: PodObject, volume: Volume): Promise<void> {
    const group = pod.spec.securityContext?.fsGroup;
    const path = join(this.#folder, volume.name);
    if (volume.emptyDir !== undefined || volume.persistentVolumeClaim !== undefined) {
      if (this.#paths.has(volume.name)) return;
      const made =
        volume.emptyDir === undefined
          ? await this.#claimFolder(volume.persistentVolumeClaim!.claimName)
          : path;
      await mkdir(made, { recursive: true });
      await chmod(made, 0o777);
      if (group !== undefined) await giveToGroup(made, group);
      this.#paths.set(volume.name, made);
      return;
    }
    const files = await this.#files(pod, volume);
    await mkdir(path, { recursive: true });
    const text = JSON.stringify(
      [...files].map(([name, file]) => [name, file.mode, file.content.toString('base64')]),
    );
    if (this.#written.get(volume.name) !== text) {
      await this.#write(path, files, group, userOf(pod));
      this.#written.set(volume.name, text);
    }
    this.#paths.set(volume.name, path);
  }

  /** As kubelets do: `..data` is a link to a folder with the files, and is moved at once to the next one. */
  async #write(
    path: string,
    files: Map<string, File>,
    group: number | undefined,
    user: number | undefined,
  ): Promise<void> {
    this.#generations += 1;
    const name = `..generation_${this.#generations}`;
    const folder = join(path, name);
    await mkdir(folder);
    await chmod(folder, 0o755);
    for (const [file, { content, mode, personal = false }] of files) {
      const at = join(folder, file);
      await mkdir(dirname(at), { recursive: true });
      await writeFile(at, content);
      await chmod(at, group === undefined ? mode : mode | 0o440);
      await lchown(at, personal && user !== undefined ? user : 0, group ?? 0).catch(onlyOneUser);
    }
    const [link, next] = [join(path, '..data'), join(path, '..data_next')];
    const before = await readlink(link).catch(() => undefined);
    await symlink(name, next);
    await rename(next, link);
    for (const top of new Set([...files.keys()].map((file) => file.split('/')[0]!)))
      await symlink(join('..data', top), join(path, top)).catch(() => {}); // it is there
    if (before !== undefined) await rm(join(path, before), { recursive: true });
  }

  async #files(pod: PodObject, volume: Volume): Promise<Map<string, File>> {
    const { projected } = volume;
    if (projected !== undefined) {
      const files = new Map<string, File>();
      for (const source of projected.sources ?? [])
        for (const [name, file] of await this.#source(pod, volume.name, source, projected.defaultMode))
          files.set(name, file);
      return files;
    }
    const { defaultMode } = volume.configMap ?? volume.secret ?? volume.downwardAPI ?? {};
    return this.#source(pod, volume.name, volume, defaultMode);
  }

  async #source(
    pod: PodObject,
    volume: string,
    source: FileSource,
    defaultMode = DEFAULT_MODE,
  ): Promise<Map<string, File>> {
    const { namespace } = pod.metadata;
    const { configMap, secret, downwardAPI, serviceAccountToken } = source;
    if (configMap !== undefined) {
      const data = await needData(this.#api, 'ConfigMap', namespace, configMap.name, configMap.optional);
      return chosen(data, configMap.items, defaultMode);
    }
    if (secret !== undefined) {
      const name = secret.secretName ?? secret.name ?? '';
      return chosen(
        await needData(this.#api, 'Secret', namespace, name, secret.optional),
        secret.items,
        defaultMode,
      );
    }
    if (downwardAPI !== undefined)
      return new Map(
        (downwardAPI.items ?? []).map((item) => [item.path, this.#field(pod, item, defaultMode)]),
      );
    if (serviceAccountToken !== undefined) {
      const content = this.#tokens.get(volume) ?? (await this.#token(pod, serviceAccountToken));
      this.#tokens.set(volume, content);
      return new Map([[serviceAccountToken.path, { content, mode: 0o600, personal: true }]]);
    }
    throw new Error(`${Object.keys(source).join()} is no volume that test pods know`);
  }

  #field(pod: PodObject, { fieldRef, mode }: FieldItem, defaultMode: number): File {
    if (fieldRef === undefined)
      throw new Error('downwardAPI without a fieldRef is nothing that test pods know');
    return { content: Buffer.from(fieldOf(pod, fieldRef.fieldPath, this.#podIP)), mode: mode ?? defaultMode };
  }

  async #token(
    pod: PodObject,
    { audience, expirationSeconds = TOKEN_SECONDS }: NonNullable<FileSource['serviceAccountToken']>,
  ): Promise<Buffer> {
    const { namespace, name, uid } = pod.metadata;
    const account = pod.spec.serviceAccountName ?? 'default';
    const body = {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {
        ...(audience === undefined ? {} : { audiences: [audience] }),
        expirationSeconds,
        boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
      },
    };
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`;
    return Buffer.from(
      (await this.#api.call<{ status: { token: string } }>('POST', path, { body })).body.status.token,
    );
  }
}

/** The keys that `items` names under the paths that it gives them; all of them without `items`. */
function chosen(
  data: Map<string, Buffer>,
  items: FileItem[] | undefined,
  defaultMode: number,
): Map<string, File> {
  if (items === undefined)
    return new Map([...data].map(([key, content]) => [key, { content, mode: defaultMode }]));
  return new Map(
    items.map(({ key, path, mode = defaultMode }) => {
      const content = data.get(key);
      if (content === undefined) throw new Error(`references non-existent secret or config map key: ${key}`);
      return [path, { content, mode }];
    }),
  );
}

/** The one user that all containers of a pod run as, if there is one. */
function userOf(pod: PodObject): number | undefined {
  const all = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];
  const users = new Set(
    all.map(({ securityContext }) => securityContext?.runAsUser ?? pod.spec.securityContext?.runAsUser),
  );
  return users.size === 1 ? [...users][0] : undefined;
}

/** fsGroup: all of it belongs to the group, which may read and write, and what is made in it does, too. */
async function giveToGroup(path: string, group: number): Promise<void> {
  const { mode, uid } = await stat(path);
  await lchown(path, uid, group).catch(onlyOneUser);
  await chmod(path, (mode & 0o7777) | 0o2770);
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const at = join(path, entry.name);
    if (entry.isDirectory()) await giveToGroup(at, group);
    else if (entry.isFile()) {
      const file = await stat(at);
      await lchown(at, file.uid, group).catch(onlyOneUser);
      await chmod(at, (file.mode & 0o7777) | 0o660);
    }
  }
}

/** In a user namespace of one user nothing can be given away. */
function onlyOneUser(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
}
