// `quorumbridge reconciler` as a kubelet keeps it: started again whenever it ends, with all that it has said since its first
// start.
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from './ports.ts';
import { Child } from './processes.ts';

/** A container that has just ended is started again after this. */
const PAUSE_MS = 200;

export class KeptReconciler {
  readonly #args: readonly string[];
  readonly #said: string[] = [];
  #child: Child;
  #isWanted = true;
  /** How often it was started. */
  starts = 0;

  private constructor(args: readonly string[]) {
    this.#args = args;
    this.#child = this.#run();
  }

  /** It is not waited for: what it does shows. */
  static async start(kubeconfig: string, args: readonly string[] = []): Promise<KeptReconciler> {
    const listen = `127.0.0.1:${await freePort()}`;
    return new KeptReconciler([`--kubeconfig=${kubeconfig}`, `--admin-listen=${listen}`, ...args]);
  }

  /** All lines of its stdout and stderr. */
  get said(): readonly string[] {
    return this.#said;
  }

  /** Those of its lines that are its log. */
  get log(): Record<string, unknown>[] {
    return this.#said
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** SIGKILL, now. */
  crash(): void {
    this.#child.kill('SIGKILL');
  }

  /** SIGSTOP: it does nothing until `goOn`. */
  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  goOn(): void {
    this.#child.kill('SIGCONT');
  }

  /** SIGKILL, and no new one. */
  async kill(): Promise<void> {
    this.#isWanted = false;
    this.crash();
    await this.#child.exited;
  }

  /** SIGTERM; the exit code. */
  async stop(): Promise<number | null> {
    this.#isWanted = false;
    return (await this.#child.stop()).code;
  }

  #run(): Child {
    this.starts += 1;
    const child = new Child(
      'reconciler',
      process.execPath,
      ['cli/quorumbridge.mjs', 'reconciler', ...this.#args],
      {
        onLine: (line) => this.#said.push(line),
      },
    );
    void this.#again(child);
    return child;
  }

  async #again(child: Child): Promise<void> {
    await child.exited;
    await delay(PAUSE_MS);
    if (this.#isWanted) this.#child = this.#run();
  }
}
