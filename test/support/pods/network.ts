// The network of test pods: one bridge, which enter.sh made, an address and names for each pod, and services.
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { NODE_ADDRESS } from './types.ts';

const run = promisify(execFile);
const BRIDGE = 'pods';
/** Of enter.sh's bridge. */
const PREFIX_LENGTH = 16;
/** kube-apiserver's --service-cluster-ip-range, see kube.ts. */
const SERVICE_RANGE = '10.0.0.0/16';

/** Names that the pods resolve, as /etc/hosts has them. */
export class Names {
  readonly #folder: string;
  readonly #pods = new Map<string, string>();
  #common = '';

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Makes an /etc/hosts for a pod. */
  async add(id: string, ownLine: string): Promise<void> {
    await mkdir(this.folder(id), { recursive: true });
    this.#pods.set(id, ownLine);
    await this.#write(id);
  }

  /** The folder that a pod's `hosts` is in. */
  folder(id: string): string {
    return join(this.#folder, id);
  }

  remove(id: string): void {
    this.#pods.delete(id);
  }

  /** Tells all pods who is where. */
  async set(lines: string[]): Promise<void> {
    const common = lines.join('\n');
    if (common === this.#common) return;
    this.#common = common;
    for (const id of this.#pods.keys()) await this.#write(id);
  }

  async #write(id: string): Promise<void> {
    const text = `127.0.0.1 localhost\n::1 localhost\n${this.#pods.get(id)}\n${this.#common}\n`;
    const file = join(this.folder(id), 'hosts');
    await writeFile(`${file}.next`, text, { mode: 0o644 });
    await rename(`${file}.next`, file);
  }
}

/** The namespaces that the containers of a pod share, held by a process that sleeps. */
export class Sandbox {
  readonly address: string;
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess, address: string) {
    this.#process = process;
    this.address = address;
  }

  /** @param number of the pod, from 1; it chooses the address and is not used twice at a time */
  static async create(hostname: string, number: number): Promise<Sandbox> {
    const address = `10.244.${Math.floor(number / 250) + 1}.${(number % 250) + 2}`;
    const script = 'hostname "$0" && ip link set lo up && echo up && exec sleep infinity';
    const child = spawn('unshare', ['--net', '--uts', '--ipc', '--', 'sh', '-c', script, hostname], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    });
    await new Promise((resolve, reject) => {
      child.stdout.once('data', resolve);
      child.once('exit', () => reject(new Error('the sandbox of a pod ended at once')));
    });
    const sandbox = new Sandbox(child, address);
    const link = `veth${number}`;
    await run('ip', [
      'link',
      'add',
      link,
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      String(child.pid),
    ]);
    await run('ip', ['link', 'set', link, 'master', BRIDGE, 'up']);
    await sandbox.#ip('address', 'add', `${address}/${PREFIX_LENGTH}`, 'dev', 'eth0');
    await sandbox.#ip('link', 'set', 'eth0', 'up');
    await sandbox.#ip('route', 'add', SERVICE_RANGE, 'via', NODE_ADDRESS);
    return sandbox;
  }

  get pid(): number {
    return this.#process.pid!;
  }

  /** The last process in it takes the network with it. */
  end(): void {
    this.#process.kill('SIGKILL');
  }

  async #ip(...args: string[]): Promise<void> {
    await run('nsenter', ['--target', String(this.pid), '--net', '--', 'ip', ...args]);
  }
}
