import { execFile, spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { messageOf } from '../common/errors.ts';
import { bundle, cacheCode, PROXY_ENVIRONMENT, PROXY_FLAGS } from '../test/support/bundle.ts';
import { freePort } from '../test/support/ports.ts';
import { HOME } from '../test/support/processes.ts';
import type { Certificate } from './certificate.ts';

// What the load goes through to the sink: nothing, Quorumbridge as its image runs it, HAProxy, or any command.

/** Where a target listens, and what it is; `pid` and `tlsPort` are undefined where it has none. */
export interface Target extends AsyncDisposable {
  readonly name: string;
  readonly pid: number | undefined;
  readonly port: number;
  readonly tlsPort: number | undefined;
}

/** How to start a target. */
export interface TargetKind {
  readonly name: string;
  /** @param upstream a port of 127.0.0.1 @param tls whether it listens by TLS, too, if it can */
  start(upstream: number, tls: boolean): Promise<Target>;
}

const READY_MS = 30_000;
const STOP_MS = 15_000;

/** Whether a port of 127.0.0.1 accepts connections. */
function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host: '127.0.0.1', port });
    socket.on('error', () => resolve(false));
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

/** Starts a program, which ends with this process however that ends, and waits until it listens on the ports. */
async function startProgram(
  name: string,
  command: readonly string[],
  { port, tlsPort }: Pick<Target, 'port' | 'tlsPort'>,
  env: Readonly<Record<string, string>> = {},
): Promise<Target> {
  // The program takes the place of setpriv: the process is the program's own.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-4096)));
  }
  let why: string | undefined;
  const ended = new Promise<void>((resolve) => {
    child.once('error', (error) => resolve(void (why = error.message)));
    child.once('exit', (code, signal) => resolve(void (why = `ended (${signal ?? code})`)));
  });
  const stop = async (): Promise<void> => {
    if (why !== undefined) return;
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await ended;
    clearTimeout(timer);
  };
  const deadline = Date.now() + READY_MS;
  for (const one of [port, tlsPort].filter((one) => one !== undefined)) {
    while (!(await accepts(one))) {
      if (why === undefined && Date.now() < deadline) await sleep(50);
      else {
        await stop();
        throw new Error(`${name} does not listen on port ${one}: ${why}\n${said.trim()}`);
      }
    }
  }
  return { name, pid: child.pid!, port, tlsPort, [Symbol.asyncDispose]: stop };
}

/** No proxy at all. */
export const direct: TargetKind = {
  name: 'direct',
  start: async (upstream) => ({
    name: 'direct',
    pid: undefined,
    port: upstream,
    tlsPort: undefined,
    async [Symbol.asyncDispose]() {},
  }),
};

/** Quorumbridge's modes that are measured. */
export const MODES = ['transparent', 'pool'] as const;

/** Quorumbridge in these modes, as its image runs it: one file with its code cached, Node's flags, environment. */
export async function quorumbridge(
  modes: readonly (typeof MODES)[number][],
  folder: string,
  certificate: Certificate,
): Promise<TargetKind[]> {
  const { file } = await bundle('proxy', folder);
  await cacheCode(file);
  const env = { ...PROXY_ENVIRONMENT, NODE_COMPILE_CACHE: join(folder, 'cache') };
  return modes.map((mode) => ({
    name: mode,
    async start(upstream, tls) {
      const [port, admin] = [await freePort(), await freePort()];
      const tlsPort = tls ? await freePort() : undefined;
      const options = [
        `--mode=${mode}`,
        `--backend=127.0.0.1:${upstream}`,
        `--listen=amqp://127.0.0.1:${port}`,
        `--admin-listen=127.0.0.1:${admin}`,
        '--drain-timeout=1s',
      ];
      const { cert, key } = certificate;
      if (tls)
        options.push(`--listen=amqps://127.0.0.1:${tlsPort}`, `--tls-cert=${cert}`, `--tls-key=${key}`);
      return startProgram(
        mode,
        [process.execPath, ...PROXY_FLAGS, file, 'proxy', ...options],
        { port, tlsPort },
        env,
      );
    },
  }));
}

/** HAProxy's program and version: one that is installed, else one that is fetched into the cache; or why there is none. */
export async function findHaproxy(): Promise<{ program: string; version: string; why: string }> {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin'];
  const installed = folders.map((folder) => join(folder, 'haproxy')).find((path) => existsSync(path));
  const run = promisify(execFile);
  try {
    const program = installed ?? (await run(join(HOME, 'test/support/haproxy.sh'))).stdout.trim();
    const { stdout } = await run(program, ['-v']);
    return { program, version: /^HAProxy version ([\d.]+)/m.exec(stdout)?.[1] ?? 'unknown', why: '' };
  } catch (error) {
    const { stderr = messageOf(error) } = error as { stderr?: string };
    return { program: '', version: '', why: stderr.trim().split('\n').at(-1)! };
  }
}

/** HAProxy in TCP mode, with one thread, as the proxy has one: more of them cost more CPU for each message. */
export function haproxy(program: string, folder: string, certificate: Certificate): TargetKind {
  return {
    name: 'haproxy',
    async start(upstream, tls) {
      const port = await freePort();
      const tlsPort = tls ? await freePort() : undefined;
      const file = join(folder, `haproxy-${port}.cfg`);
      const listeners = [haproxyListener('plain', String(port), upstream)];
      if (tls) {
        const bind = `${tlsPort} ssl crt ${certificate.both} ssl-min-ver TLSv1.3`;
        listeners.push(haproxyListener('tls', bind, upstream));
      }
      writeFileSync(file, HAPROXY + listeners.join(''));
      return startProgram('haproxy', [program, '-db', '-q', '-f', file], { port, tlsPort });
    },
  };
}

const HAPROXY = `global
  maxconn 4000
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
`;

/** @param bind its port, and what else there is to say of it */
function haproxyListener(name: string, bind: string, upstream: number): string {
  return `listen ${name}\n  bind 127.0.0.1:${bind}\n  server broker 127.0.0.1:${upstream}\n`;
}

/**
 * Any proxy: a command of a shell, with {listen} and {upstream} for ports of 127.0.0.1. Where it has {listen-tls} it speaks TLS at
 * that port, by {cert} and {key}, or {both} in one file.
 */
export function anyCommand(name: string, command: string, certificate: Certificate): TargetKind {
  return {
    name,
    async start(upstream) {
      const port = await freePort();
      const tlsPort = command.includes('{listen-tls}') ? await freePort() : undefined;
      const { cert, key, both } = certificate;
      const values = { listen: port, 'listen-tls': tlsPort, upstream, cert, key, both };
      const line = Object.entries(values).reduce(
        (text, [placeholder, value]) => text.replaceAll(`{${placeholder}}`, String(value)),
        command,
      );
      return startProgram(name, ['sh', '-c', `exec ${line}`], { port, tlsPort });
    },
  };
}
