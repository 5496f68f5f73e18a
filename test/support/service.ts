// Long-running children (webhook, proxy) of the tests and the demo: their log goes to a file, so that they can outlive
// the demo.
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.ts';
import { HOME } from './processes.ts';

const READY_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;
/** The connection isn't kept for the next request: who counts descriptors counts no idle ones. */
const CLOSES = { connection: 'close' };

export class Service {
  readonly pid: number;
  readonly logFile: string;
  readonly #name: string;
  readonly #exited: Promise<number | null>;
  readonly #release: () => void;
  #ended = false;

  /** Starts `quorumbridge ARGS` on the Node that runs this. */
  constructor(args: string[], logFile: string) {
    this.#name = `quorumbridge ${args[0]}`;
    this.logFile = logFile;
    const log = openSync(logFile, 'a');
    const child = spawn(process.execPath, ['cli/quorumbridge.mjs', ...args], {
      cwd: HOME,
      stdio: ['ignore', log, log],
      detached: true,
    });
    closeSync(log);
    this.pid = child.pid ?? 0;
    this.#release = () => child.unref();
    this.#exited = new Promise((resolve) => {
      child.once('error', () => {
        this.#ended = true;
        resolve(null);
      });
      child.once('exit', (code) => {
        this.#ended = true;
        resolve(code);
      });
    });
  }

  /** Waits until `url` (a /readyz) answers 200; rejects with the end of the log when it does not. */
  async ready(url: string): Promise<void> {
    const deadline = Date.now() + READY_TIMEOUT_MS;
    let last = 'no answer yet';
    while (Date.now() < deadline) {
      if (this.#ended) throw new Error(`${this.#name} ended at once:\n${this.#tail()}`);
      try {
        const response = await fetch(url, { signal: AbortSignal.timeout(2000), headers: CLOSES });
        const body = await response.text();
        if (response.status === 200) return;
        last = `${response.status}: ${body.trim()}`;
      } catch (error) {
        last = String((error as Error).cause ?? error);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(
      `${this.#name} is not ready after ${READY_TIMEOUT_MS / 1000} s (${last}):\n${this.#tail()}`,
    );
  }

  /** Lets the demo end while this runs on. */
  release(): void {
    this.#release();
  }

  /** SIGTERM, then SIGKILL; the exit code, or null when it was killed. */
  async stop(): Promise<number | null> {
    if (!this.#ended) process.kill(this.pid, 'SIGTERM');
    const timer = setTimeout(() => process.kill(this.pid, 'SIGKILL'), STOP_TIMEOUT_MS);
    const code = await this.#exited;
    clearTimeout(timer);
    return code;
  }

  #tail(): string {
    return readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-12).join('\n');
  }
}

/** A proxy of its own process, as `quorumbridge proxy` runs it. */
export interface ProxyProcess extends AsyncDisposable {
  pid: number;
  /** Plain AMQP on 127.0.0.1. */
  port: number;
  /** Such as http://127.0.0.1:12345, with /livez, /readyz and /metrics. */
  adminUrl: string;
  /** Its log so far: one JSON object a line. */
  log(): string;
  /** SIGTERM; the exit code, or null when it had to be killed. */
  stop(): Promise<number | null>;
}

/** Starts a proxy in front of 127.0.0.1:backendPort and waits until it is ready. */
export async function startProxyProcess(backendPort: number, args: string[] = []): Promise<ProxyProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-proxy-'));
  const port = await freePort();
  const admin = `127.0.0.1:${await freePort()}`;
  const options = [
    `--backend=127.0.0.1:${backendPort}`,
    `--listen=amqp://127.0.0.1:${port}`,
    `--admin-listen=${admin}`,
  ];
  const service = new Service(['proxy', ...options, ...args], join(folder, 'log'));
  const stop = async () => {
    const code = await service.stop();
    rmSync(folder, { recursive: true, force: true });
    return code;
  };
  try {
    await service.ready(`http://${admin}/readyz`);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    pid: service.pid,
    port,
    adminUrl: `http://${admin}`,
    log: () => readFileSync(service.logFile, 'utf8'),
    stop,
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}
