// Children of the tests and the demo: started, watched line by line, and always ended.
import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

/** The root of the repository, with a trailing slash. */
export const HOME = fileURLToPath(new URL('../../', import.meta.url));

const KEPT_LINES = 200;

export interface StartOptions {
  env?: Record<string, string>;
  /** Called with each line of stdout and stderr. */
  onLine?: (line: string, stream: 'stdout' | 'stderr') => void;
  /** Ends when its stdin does; a Ctrl-C of the terminal does not reach it. */
  ownSession?: boolean;
}

/** A child process. Its stdin is a pipe, so that a child which watches it notices the death of its parent. */
export class Child {
  readonly name: string;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #process: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #lines: string[] = [];
  readonly #waiters = new Set<() => void>();
  #ended = false;

  constructor(name: string, command: string, args: string[], options: StartOptions = {}) {
    this.name = name;
    this.#process = spawn(command, args, {
      cwd: HOME,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      detached: options.ownSession === true,
    });
    this.#process.stdin.on('error', () => {}); // EPIPE of a child that is gone: `exited` tells
    for (const stream of ['stdout', 'stderr'] as const) {
      createInterface({ input: this.#process[stream] }).on('line', (line) => {
        this.#lines.push(line);
        if (this.#lines.length > KEPT_LINES) this.#lines.shift();
        options.onLine?.(line, stream);
        for (const wake of this.#waiters) wake();
      });
    }
    this.exited = new Promise((resolve) => {
      this.#process.once('error', (error) => {
        this.#lines.push(error.message);
        this.#ended = true;
        resolve({ code: null, signal: null });
      });
      this.#process.once('close', (code, signal) => {
        this.#ended = true;
        for (const wake of this.#waiters) wake();
        resolve({ code, signal });
      });
    });
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** The last lines of stdout and stderr, oldest first. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  write(text: string): void {
    this.#process.stdin.write(text);
  }

  /** Ends the child's stdin. */
  end(): void {
    this.#process.stdin.end();
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** Lets this process end while the child lives on. */
  release(): void {
    this.#process.unref();
    for (const pipe of [this.#process.stdin, this.#process.stdout, this.#process.stderr]) pipe.destroy();
  }

  /** Waits until `ready` gives a value; rejects when the child ends first or after `timeoutMs`. */
  async waitFor<T>(
    what: string,
    timeoutMs: number,
    ready: (lines: readonly string[]) => T | undefined,
  ): Promise<T> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const value = ready(this.#lines);
      if (value !== undefined) return value;
      if (this.#ended) throw new Error(`${this.name} ended before ${what}:\n${this.#tail()}`);
      const left = deadline - Date.now();
      if (left <= 0)
        throw new Error(`${this.name}: no ${what} within ${timeoutMs / 1000} s:\n${this.#tail()}`);
      await this.#change(Math.min(left, 100));
    }
  }

  /** Ends the child with SIGTERM, after `timeoutMs` with SIGKILL, and waits until it is gone. */
  async stop(timeoutMs = 10_000): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    if (!this.#ended) this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), timeoutMs);
    const result = await this.exited;
    clearTimeout(timer);
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #tail(): string {
    return this.#lines.slice(-15).join('\n');
  }

  #change(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#waiters.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.#waiters.add(wake);
    });
  }
}
