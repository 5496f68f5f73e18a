// A container's processes: started by container.sh in the namespaces of its pod, and entered by nsenter for exec.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { constants } from 'node:os';
import { delimiter, join } from 'node:path';
import { HOME } from '../processes.ts';
import { timestamp } from './types.ts';
import type { Terminated } from './types.ts';

const SCRIPT = join(HOME, 'test/support/pods/container.sh');
/** With its path: a container's PATH is not the one to look it up in. */
const NSENTER = `${process.env['PATH']}${delimiter}/usr/sbin`
  .split(delimiter)
  .map((folder) => join(folder, 'nsenter'))
  .find((path) => existsSync(path))!;
/** Of what a command in a container prints, so much is kept. */
const OUTPUT_MAX = 65_536;
/** Whoever waits this long for a container's first process to be there waits in vain. */
const APPEAR_TIMEOUT_MS = 10_000;

export interface Mount {
  source: string;
  target: string;
  readOnly: boolean;
}

export interface ContainerSettings {
  /** Empty; for the container's files. */
  folder: string;
  /** Of the image, see images.ts. */
  image: string;
  /** A process in the pod's namespaces for network, host name and IPC. */
  sandbox: number;
  mounts: Mount[];
  environment: Record<string, string>;
  command: string[];
  workingDir: string;
  user: number;
  group: number;
  groups: number[];
  readOnlyRoot: boolean;
  /** Appended to. */
  logFile: string;
}

export interface ExecResult {
  /** -1 where it was ended for taking too long. */
  code: number;
  output: string;
}

/** One run of a container, from its start to its exit. */
export class ContainerRun {
  readonly startedAt = timestamp();
  readonly exited: Promise<Terminated>;
  readonly #settings: ContainerSettings;
  readonly #child: ChildProcess;
  #ended = false;
  #killed = false;

  private constructor(settings: ContainerSettings) {
    this.#settings = settings;
    const { folder, image, sandbox, user, group, groups, readOnlyRoot, workingDir, logFile } = settings;
    const log = openSync(logFile, 'a');
    const namespaces = ['--target', String(sandbox), '--net', '--uts', '--ipc', '--'];
    const own = ['unshare', '--mount', '--pid', '--fork', '--kill-child=KILL', '--'];
    const how = [
      String(user),
      String(group),
      [group, ...groups].join(),
      readOnlyRoot ? 'yes' : 'no',
      workingDir,
    ];
    this.#child = spawn('nsenter', [...namespaces, ...own, 'bash', SCRIPT, folder, image, ...how], {
      stdio: ['ignore', log, log],
      detached: true,
    });
    closeSync(log);
    this.exited = new Promise((resolve) => {
      const end = (exitCode: number, message = ''): void => {
        this.#ended = true;
        const reason = exitCode === 0 ? 'Completed' : 'Error';
        const times = { startedAt: this.startedAt, finishedAt: timestamp() };
        resolve({ exitCode, reason, ...(message === '' ? {} : { message }), ...times });
      };
      this.#child.once('error', (error) => end(128, error.message));
      this.#child.once('exit', (code, signal) => {
        // Whoever waits for the container's first process may be quicker to end by itself than to be killed, too.
        const ended = this.#killed ? 'SIGKILL' : signal;
        const exitCode = ended === null ? code! : 128 + constants.signals[ended];
        end(exitCode, readMessage(join(folder, 'termination-log')));
      });
    });
  }

  static async start(settings: ContainerSettings): Promise<ContainerRun> {
    const { folder, environment, command, mounts } = settings;
    await mkdir(folder, { recursive: true });
    const message = join(folder, 'termination-log');
    await writeFile(message, '', { mode: 0o666 });
    const all = [...mounts, { source: message, target: '/dev/termination-log', readOnly: false }];
    // A mount in a folder of another one comes after it.
    const sorted = all.toSorted((a, b) => a.target.length - b.target.length);
    const words = (list: string[]) => list.map((word) => `${word}\0`).join('');
    const triples = sorted.flatMap(({ source, target, readOnly }) => [
      source,
      target,
      readOnly ? 'ro' : 'rw',
    ]);
    await writeFile(join(folder, 'mounts'), words(triples));
    await writeFile(
      join(folder, 'env'),
      words(Object.entries(environment).map(([key, value]) => `${key}=${value}`)),
    );
    await writeFile(join(folder, 'command'), words(command));
    return new ContainerRun(settings);
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Signals the container's first process, as its runtime does. */
  signal(signal: NodeJS.Signals): void {
    const first = this.#first();
    if (first !== undefined) kill(first, signal);
  }

  /** SIGKILL, which ends all processes of the container. */
  async kill(): Promise<void> {
    this.#killed = true;
    this.signal('SIGKILL');
    if (this.#child.pid !== undefined && !this.#ended) kill(this.#child.pid, 'SIGKILL');
    await this.exited;
  }

  /** Runs a command in the container, as its user and with its environment. */
  async exec(command: string[], timeoutMs: number, onOutput?: (chunk: Buffer) => void): Promise<ExecResult> {
    const deadline = Date.now() + APPEAR_TIMEOUT_MS;
    while (!this.#isSetUp()) {
      if (this.#ended || Date.now() > deadline) return { code: 126, output: 'the container does not run' };
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const { environment, user, group } = this.#settings;
    const namespaces = ['--mount', '--pid', '--net', '--uts', '--ipc', '--root', '--wd'];
    const who = isAlone() ? [] : ['--setuid', String(user), '--setgid', String(group)];
    const child = spawn(
      NSENTER,
      ['--target', String(this.#first()), ...namespaces, ...who, '--', ...command],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: environment,
        detached: true,
      },
    );
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        output = (output + chunk.toString()).slice(-OUTPUT_MAX);
        onOutput?.(chunk);
      });
    }
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        if (child.pid !== undefined) kill(-child.pid, 'SIGKILL');
        resolve({ code: -1, output: `no end within ${timeoutMs / 1000} s: ${output}` });
      }, timeoutMs);
      child.once('error', (error) => {
        clearTimeout(timer);
        resolve({ code: 126, output: error.message });
      });
      child.once('close', (code, signal) => {
        clearTimeout(timer);
        resolve({ code: code ?? 128 + constants.signals[signal!], output });
      });
    });
  }

  /** The process id, as it is here, of the container's process 1: the one child of unshare. */
  #first(): number | undefined {
    const parent = this.#child.pid;
    if (parent === undefined || this.#ended) return undefined;
    try {
      return (
        Number(readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').split(' ')[0]) || undefined
      );
    } catch {
      return undefined; // it ends in this moment
    }
  }

  /** Whether container.sh is through: its process has become the container's own. */
  #isSetUp(): boolean {
    const first = this.#first();
    if (first === undefined) return false;
    try {
      return !readFileSync(`/proc/${first}/cmdline`, 'utf8').startsWith(`bash\0${SCRIPT}`);
    } catch {
      return false;
    }
  }
}

/** Whether this is a user namespace of one user. */
function isAlone(): boolean {
  return readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/)[2] === '1';
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it is gone
  }
}

function readMessage(file: string): string {
  try {
    return readFileSync(file, 'utf8').slice(-4096);
  } catch {
    return ''; // the container did not come so far
  }
}
