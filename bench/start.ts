import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { bundle, cacheCode, PROXY_ENVIRONMENT, PROXY_FLAGS } from '../test/support/bundle.ts';
import { HOME } from '../test/support/processes.ts';
import { makeCertificate, temporaryFolder } from './certificate.ts';
import { Client, LOGIN } from './client.ts';
import { median, out, runToEnd } from './peers.ts';
import { cpuOf, rssOf } from './proc.ts';
import { Remote } from './remote.ts';
import type { SinkFunctions } from './sink-process.ts';

// What the proxy takes to start, and how much memory it has then and with 1,000 clients that say nothing: as its image
// runs it, made or run in other ways, and with each of Node's flags and of the C library's settings that could help.
// Run on Linux: node bench/start.ts [ROUNDS [VARIANT…]], default 3 rounds of all. Loopback only, 5 s for each variant and round.

const CLIENTS = 1000;
const AT_ONCE = 50;
/** How long the memory is given to settle, in milliseconds. */
const SETTLE = 2500;

interface Variant {
  readonly name: string;
  /** The program as {@link programs} names it. */
  readonly program: keyof typeof programs;
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly options?: readonly string[];
  /** Without V8's code cache. */
  readonly uncached?: boolean;
}

interface Figures {
  /** From the start of the process to the line that says that it listens, in milliseconds. */
  readonly ms: number;
  /** CPU until then, in milliseconds. */
  readonly cpu: number;
  /** Resident memory in MiB: of the idle process, and with the clients. */
  readonly idle: number;
  readonly clients: number;
}

const programs = {
  source: undefined,
  'as written': { format: 'esm', minify: false },
  esm: { format: 'esm', minify: true },
  cjs: { format: 'cjs', minify: true },
} as const;

const image = { program: 'cjs', flags: PROXY_FLAGS, env: PROXY_ENVIRONMENT } as const;

/** The image with more flags; a code cache of its own, where they take one. */
const withFlags = (...flags: string[]): Variant => ({
  ...image,
  name: flags.join(' '),
  flags: [...PROXY_FLAGS, ...flags],
});
const withSetting = (name: string, value: string): Variant => ({
  ...image,
  name: `${name}=${value}`,
  env: { ...PROXY_ENVIRONMENT, [name]: value },
});

function variants(tls: readonly string[]): Variant[] {
  const semiSpace = '--max-semi-space-size=';
  const rest = PROXY_FLAGS.filter((flag) => !flag.startsWith(semiSpace));
  return [
    { name: 'source', program: 'source', uncached: true },
    { name: 'as written', program: 'as written', uncached: true },
    { name: 'minified', program: 'esm', uncached: true },
    { name: 'CommonJS', program: 'cjs', uncached: true },
    { name: 'code cache', program: 'cjs' },
    { ...image, name: 'image' },
    { ...image, name: 'image, pool', options: ['--mode=pool'] },
    { ...image, name: 'image, TLS', options: tls },
    { ...image, name: 'image, uncached', uncached: true },
    { ...image, name: 'no --expose-gc', flags: PROXY_FLAGS.filter((flag) => flag !== '--expose-gc') },
    { ...image, name: 'default arenas', env: {} },
    {
      ...image,
      name: 'concurrent compilers',
      flags: PROXY_FLAGS.filter((flag) => flag !== '--no-concurrent-recompilation'),
    },
    withFlags('--no-maglev'),
    { ...image, name: 'default semi-space', flags: rest },
    ...[1, 4, 8].map((size) => ({
      ...image,
      name: `${semiSpace}${size}`,
      flags: [...rest, `${semiSpace}${size}`],
    })),
    withFlags('--max-old-space-size=96'),
    withFlags('--v8-pool-size=0'),
    withFlags('--single-threaded'),
    withFlags('--optimize-for-size'),
    withFlags('--lite-mode'),
    withFlags('--jitless'),
    withSetting('UV_THREADPOOL_SIZE', '1'),
    withSetting('MALLOC_TRIM_THRESHOLD_', '131072'),
    withSetting('MALLOC_MMAP_THRESHOLD_', '32768'),
  ];
}

async function connect(port: number): Promise<Client[]> {
  const clients: Client[] = [];
  let left = CLIENTS;
  const work = async (): Promise<void> => {
    while (left-- > 0) {
      const client = new Client({ port, secure: undefined });
      clients.push(client);
      await client.play(LOGIN);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return clients;
}

/** The port of the first listener, once the process listens. */
async function listening(child: ChildProcess): Promise<number> {
  let log = '';
  const listens = new Promise<string>((resolve) => {
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      log += text;
      const port = /"listen":\["amqp:\/\/127\.0\.0\.1:(\d+)"/.exec(log)?.[1];
      if (port !== undefined) resolve(port);
    });
  });
  const port = await Promise.race([listens, once(child, 'exit').then(() => undefined)]);
  if (port === undefined) throw new Error(`the proxy ended: ${log}`);
  return Number(port);
}

async function measure(
  { flags = [], env = {}, options = [], uncached = false }: Variant,
  program: string,
  upstream: number,
): Promise<Figures> {
  const addresses = [
    `--backend=127.0.0.1:${upstream}`,
    '--listen=amqp://127.0.0.1:0',
    '--admin-listen=127.0.0.1:0',
  ];
  const cache = {
    NODE_COMPILE_CACHE: uncached ? '' : join(program, '../cache'),
    NODE_COMPILE_CACHE_PORTABLE: '1',
  };
  const began = performance.now();
  const child = spawn(process.execPath, [...flags, program, 'proxy', ...addresses, ...options], {
    env: { ...env, ...cache },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  try {
    const port = await listening(child);
    const ms = performance.now() - began;
    const cpu = cpuOf(child.pid!) / 1000;
    await sleep(SETTLE);
    const idle = rssOf(child.pid!) / 2 ** 20;
    const clients = await connect(port);
    await sleep(SETTLE);
    const crowded = rssOf(child.pid!) / 2 ** 20;
    for (const { socket } of clients) socket.destroy();
    return { ms, cpu, idle, clients: crowded };
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
}

async function run(cleanup: AsyncDisposableStack): Promise<void> {
  const [rounds = '3', ...wanted] = process.argv.slice(2);
  const folder = temporaryFolder(cleanup);
  const { cert, key } = await makeCertificate(folder);
  const tls = ['--listen=amqps://127.0.0.1:0', `--tls-cert=${cert}`, `--tls-key=${key}`];
  const chosen = variants(tls).filter(({ name }) => wanted.length === 0 || wanted.includes(name));
  const sink = cleanup.use(new Remote<SinkFunctions>('sink-process.ts'));
  const upstream = await sink.call('start');
  const places: string[] = [];
  for (const [index, { program, flags, uncached = false }] of chosen.entries()) {
    const settings = programs[program];
    if (settings === undefined) {
      places.push(join(HOME, 'cli/proxy-main.ts'));
      continue;
    }
    const made = join(folder, program);
    const { file } = await bundle('proxy', made, settings);
    const place = join(folder, String(index));
    mkdirSync(place);
    const copy = join(place, file.slice(made.length + 1));
    copyFileSync(file, copy);
    if (!uncached) await cacheCode(copy, flags ?? []);
    places.push(copy);
  }
  const results = chosen.map((): Figures[] => []);
  for (let round = 0; round < Number(rounds); round++) {
    for (const [index, variant] of chosen.entries())
      results[index]!.push(await measure(variant, places[index]!, upstream));
  }
  const row = (cells: readonly string[]): void =>
    out(cells.map((cell, index) => (index === 0 ? cell.padEnd(34) : cell.padStart(16))).join(''));
  row(['', 'start ms', 'start CPU ms', 'idle MiB', `${CLIENTS} clients MiB`]);
  for (const [index, { name }] of chosen.entries()) {
    const of = (field: keyof Figures): number => median(results[index]!.map((one) => one[field]));
    row([name, of('ms').toFixed(0), of('cpu').toFixed(0), of('idle').toFixed(1), of('clients').toFixed(1)]);
  }
}

await runToEnd(run);
