import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import net, { type Socket } from 'node:net';
import { HEADER, method, OPEN_ARGUMENTS, tuneArguments } from '../test/support/peers.ts';

/** A forwarder in a process of its own, so that its CPU time and memory can be told from the load's. */
export interface Forwarder {
  readonly child: ChildProcess;
  readonly port: number;
  /** Of its second listener; 0: it has one. */
  readonly tlsPort: number;
}

/** Options of the proxy by camelCase property, as on a command line. */
export type Flags = Record<string, string | string[]>;

/** What the process has used: CPU in microseconds, resident memory in octets. */
export interface Usage {
  readonly cpu: number;
  readonly rss: number;
}

/** Starts `proxy` or `pipe` (see forwarder.ts) in front of a port of 127.0.0.1. */
export async function startForwarder(
  kind: 'proxy' | 'pipe',
  backendPort: number,
  flags: Flags = {},
): Promise<Forwarder> {
  const args = [kind, String(backendPort), JSON.stringify(flags)];
  const { child, ports } = await startChild<{ ports: number[] }>('forwarder.ts', args);
  return { child, port: ports[0]!, tlsPort: ports[1] ?? 0 };
}

/** Starts a program of this folder, which ends with this process, and waits for its first message. */
export async function startChild<M extends object>(
  file: string,
  args: readonly string[],
): Promise<M & { child: ChildProcess }> {
  const child = fork(new URL(file, import.meta.url), args);
  const ended = once(child, 'exit').then(() => undefined);
  const told = await Promise.race([once(child, 'message'), ended]);
  if (told === undefined) throw new Error(`${file} ended at once`);
  return { ...(told as [M])[0], child };
}

export async function usage({ child }: Forwarder): Promise<Usage> {
  child.send('usage');
  const [used] = (await once(child, 'message')) as [Usage];
  return used;
}

/** A server that plays the broker. */
export async function startBackend(): Promise<net.Server> {
  const server = net.createServer({ noDelay: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** A connection through the forwarder with its handshake done; both ends read nothing yet. */
export async function open(
  forwarder: Forwarder,
  backend: net.Server,
): Promise<{ client: Socket; broker: Socket }> {
  const arrives = once(backend, 'connection') as Promise<[Socket]>;
  const client = net.connect({ host: '127.0.0.1', port: forwarder.port, noDelay: true });
  client.write(HEADER);
  const [broker] = await arrives;
  await once(broker, 'data');
  const steps = [
    [broker, client, method(0, 10, 10)],
    [client, broker, method(0, 10, 11)],
    [broker, client, method(0, 10, 30, tuneArguments(131_072))],
    [client, broker, method(0, 10, 31, tuneArguments(131_072))],
    [client, broker, method(0, 10, 40, OPEN_ARGUMENTS)],
    [broker, client, method(0, 10, 41)],
  ] as const;
  for (const [sender, receiver, octets] of steps) {
    sender.write(octets);
    await once(receiver, 'data');
  }
  return { client, broker };
}

/** Writes a line of the result. */
export function out(line: string): void {
  process.stdout.write(`${line}\n`);
}

export const median = (numbers: readonly number[]): number => quantile(numbers, 0.5);

/** The smallest of the numbers that so large a part of them doesn't exceed. */
export function quantile(numbers: readonly number[], part: number): number {
  return numbers.toSorted((a, b) => a - b)[Math.ceil(numbers.length * part) - 1]!;
}

/** Runs a benchmark, and ends all that it started however it ends: by itself, an error, SIGINT or SIGTERM. */
export async function runToEnd(run: (cleanup: AsyncDisposableStack) => Promise<void>): Promise<void> {
  await using cleanup = new AsyncDisposableStack();
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => reject(new Error(`interrupted by ${signal}`)));
    }
  });
  await Promise.race([run(cleanup), interrupted]);
}
