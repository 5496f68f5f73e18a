import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';

// Functions of another process: the loader and the sink are processes of their own, and the benchmark tells them what to do.

/** Functions by name; what they take and return passes through JSON. */
export type Functions<F> = { readonly [K in keyof F]: (...args: never[]) => unknown };

interface Call {
  readonly id: number;
  readonly name: string;
  readonly args: readonly unknown[];
}

interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

/** Serves the functions to the process that forked this one, for as long as that lives. */
export function serve<F extends Functions<F>>(functions: F): void {
  const answer = async ({ id, name, args }: Call): Promise<Reply> => {
    try {
      return { id, result: await functions[name as keyof F](...(args as never[])) };
    } catch (error) {
      return { id, error: (error as Error).message };
    }
  };
  process.on('message', (call: Call) => void answer(call).then((reply) => process.send!(reply)));
  process.on('disconnect', () => process.exit());
}

/** A process that serves functions. */
export class Remote<F extends Functions<F>> {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  #last = 0;

  /** @param file a program of this folder */
  constructor(file: string, args: readonly string[] = []) {
    this.#child = fork(new URL(file, import.meta.url), args);
    this.#child.on('message', (reply: Reply) => {
      this.#waiting.get(reply.id)?.(reply);
      this.#waiting.delete(reply.id);
    });
    this.#child.on('exit', (code, signal) => {
      for (const [id, settle] of this.#waiting) settle({ id, error: `ended (${signal ?? code})` });
      this.#waiting.clear();
    });
    this.call = async (name, ...args) => {
      const call: Call = { id: ++this.#last, name: String(name), args };
      const reply = await new Promise<Reply>((resolve) => {
        this.#waiting.set(call.id, resolve);
        this.#child.send(call, (error) => {
          if (error !== null) resolve({ id: call.id, error: error.message });
        });
      });
      if (reply.error !== undefined) throw new Error(`${file}: ${call.name}: ${reply.error}`);
      return reply.result as never;
    };
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Calls a function there; rejects with its error, or when the process ends. */
  readonly call: <K extends keyof F>(
    name: K,
    ...args: Parameters<F[K]>
  ) => Promise<Awaited<ReturnType<F[K]>>>;

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.disconnect();
    await ended;
  }
}
