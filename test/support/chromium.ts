import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { HOME } from './processes.ts';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'chromium-headless-shell'];

/**
 * Finds a browser: one that is installed, else one that is fetched into the cache.
 * @returns its program, and why there is none: empty where there is one
 */
export async function findChromium(): Promise<{ program: string; why: string }> {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const installed = folders.flatMap((folder) => NAMES.map((name) => join(folder, name))).find(existsSync);
  if (installed !== undefined) return { program: installed, why: '' };
  return promisify(execFile)(join(HOME, 'test/support/chromium.sh')).then(
    ({ stdout }) => ({ program: stdout.trim(), why: '' }),
    ({ stderr = '' }: { stderr?: string }) => ({ program: '', why: stderr.trim().split('\n').at(-1)! }),
  );
}

interface Reply {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

/** One page in a headless Chromium, by the DevTools protocol. */
export class Browser implements AsyncDisposable {
  /** What the page complained of: exceptions, and what its policy refused. */
  readonly complaints: string[] = [];
  readonly #process: ChildProcess;
  readonly #folder: string;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  #last = 0;

  private constructor(process: ChildProcess, folder: string, socket: WebSocket) {
    this.#process = process;
    this.#folder = folder;
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#heard(JSON.parse(String(data)) as Reply));
  }

  /** @param program of {@link findChromium} */
  static async start(program: string): Promise<Browser> {
    const folder = mkdtempSync(join(tmpdir(), 'chromium-'));
    const child = spawn(
      program,
      [
        '--headless=new',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-dev-shm-usage',
        '--no-first-run',
        '--hide-scrollbars',
        '--disable-background-networking',
        '--remote-debugging-port=0',
        `--user-data-dir=${folder}`,
        'about:blank',
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const deadline = Date.now() + 30_000;
    let port: string | undefined;
    while (port === undefined) {
      if (Date.now() > deadline || child.exitCode !== null)
        throw new Error(`Chromium does not start: ${said}`);
      port = /DevTools listening on ws:\/\/127\.0\.0\.1:(\d+)/.exec(said)?.[1];
      await delay(50);
    }
    const targets = (await (await fetch(`http://127.0.0.1:${port}/json`)).json()) as {
      type: string;
      webSocketDebuggerUrl: string;
    }[];
    const socket = new WebSocket(targets.find(({ type }) => type === 'page')!.webSocketDebuggerUrl);
    await once(socket, 'open');
    const browser = new Browser(child, folder, socket);
    await browser.send('Page.enable');
    await browser.send('Runtime.enable');
    await browser.send('Log.enable');
    return browser;
  }

  #heard({ id, method, params, ...reply }: Reply): void {
    if (id !== undefined) {
      this.#waiting.get(id)?.(reply);
      this.#waiting.delete(id);
    } else if (method === 'Runtime.exceptionThrown' || method === 'Log.entryAdded') {
      this.complaints.push(JSON.stringify(params));
    } else if (method === 'Page.javascriptDialogOpening') {
      void this.send('Page.handleJavaScriptDialog', { accept: true });
    }
  }

  /** One command of the DevTools protocol. */
  async send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = ++this.#last;
    const reply = new Promise<Reply>((resolve) => this.#waiting.set(id, resolve));
    this.#socket.send(JSON.stringify({ id, method, params }));
    const { result, error } = await reply;
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
    return result!;
  }

  async open(url: string): Promise<void> {
    await this.send('Page.navigate', { url });
    await this.until(`location.href === '${url}' && document.readyState === 'complete'`);
  }

  /** The value of an expression in the page. */
  async value<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression,
      returnByValue: true,
      awaitPromise: true,
    });
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return (result as { value: T }).value;
  }

  /** Waits until an expression in the page is true. */
  async until(expression: string, milliseconds = 30_000): Promise<void> {
    const deadline = Date.now() + milliseconds;
    while (!(await this.value<boolean>(`Boolean(${expression})`))) {
      if (Date.now() > deadline) {
        const text = await this.value<string>('document.body.innerText');
        throw new Error(
          `${expression}: not within ${milliseconds} ms; ${this.complaints.join('; ')}\n${text}`,
        );
      }
      await delay(50);
    }
  }

  /** Gives the page a width and a scheme of colours. */
  async look(width: number, height: number, scheme: 'dark' | 'light'): Promise<void> {
    const mobile = width < 700;
    await this.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile });
    await this.send('Emulation.setEmulatedMedia', {
      features: [{ name: 'prefers-color-scheme', value: scheme }],
    });
  }

  /** All of the page as PNG. */
  async screenshot(): Promise<Buffer> {
    const { data } = await this.send('Page.captureScreenshot', {
      format: 'png',
      captureBeyondViewport: true,
    });
    return Buffer.from(data as string, 'base64');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await ended;
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }
}
