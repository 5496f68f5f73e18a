// A Secret's volume as the kubelet keeps it (AtomicWriter): each file is a link to ..data/FILE, ..data is a link to a
// folder, and another content is another folder to which ..data points from one moment to the next.
import { mkdir, mkdtemp, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class MountedSecret implements AsyncDisposable {
  readonly folder: string;
  #count = 0;

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Mounts a Secret with these files. */
  static async mount(files: Readonly<Record<string, string>>): Promise<MountedSecret> {
    const secret = new MountedSecret(await mkdtemp(join(tmpdir(), 'quorumbridge-mount-')));
    await secret.update(files);
    for (const name of Object.keys(files)) await symlink(join('..data', name), secret.path(name));
    return secret;
  }

  /** Where the container finds the file. */
  path(name: string): string {
    return join(this.folder, name);
  }

  /** What the kubelet does when the Secret has changed. */
  async update(files: Readonly<Record<string, string>>): Promise<void> {
    this.#count += 1;
    const name = `..2026_01_01_${this.#count}`;
    await mkdir(this.path(name));
    for (const [file, text] of Object.entries(files)) await writeFile(join(this.path(name), file), text);
    const before = await readlink(this.path('..data')).catch(() => undefined);
    await symlink(name, this.path('..data_tmp'));
    await rename(this.path('..data_tmp'), this.path('..data'));
    if (before !== undefined) await rm(this.path(before), { recursive: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}
