import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Plugin, rolldown } from 'rolldown';

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * What goes into an image, by the name of its target in the Dockerfile. The proxy is CommonJS, because an import of one of
 * Node's modules reads all that it exports, and so loads much else, the HTTP client above all: 5 MiB.
 */
const entries = {
  proxy: { input: 'cli/proxy-main.ts', format: 'cjs' },
  control: { input: 'cli/control-main.ts', format: 'esm' },
} as const;

export type BundleName = keyof typeof entries;

/**
 * Node's flags in the proxy's image; docs/tuning.md has what each is for. The code cache holds for the flags that it was
 * made with.
 */
export const PROXY_FLAGS: readonly string[] = [
  '--expose-gc',
  '--max-semi-space-size=2',
  '--no-concurrent-recompilation',
];

/** What the proxy's image has in its environment besides; the paths are those in the image. */
export const PROXY_ENVIRONMENT = {
  MALLOC_ARENA_MAX: '1',
  NODE_COMPILE_CACHE: '/app/cache',
  NODE_COMPILE_CACHE_PORTABLE: '1',
  NODE_ENV: 'production',
} as const;

/** Packages' files that nothing here calls, and that would load more of Node: HTTPS with all of TLS, and zlib. */
const leftOut: Plugin = {
  name: 'left-out',
  resolveId: (id, importer) =>
    id === './lib/pushgateway' && importer?.includes('/prom-client/') === true ? '\0left-out' : null,
  load: (id) => (id === '\0left-out' ? 'module.exports = undefined;' : null),
};

export interface Bundle {
  /** The program: `NAME.cjs` or `NAME.mjs` in the folder that was asked for. */
  readonly file: string;
  readonly bytes: number;
  /** Packages from node_modules that are in it. */
  readonly packages: readonly string[];
  /** Files of this repository that are in it, relative to its root. */
  readonly sources: readonly string[];
}

interface PackageFacts {
  readonly version: string;
  /** SPDX identifier. */
  readonly license: string;
}

const packageFolder = /^.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/;

/** The licences of the packages in a bundle: minifying drops their comments, and they ask to be passed on. */
function notices(folders: ReadonlyMap<string, string>): string {
  const texts = [...folders].map(([name, folder]) => {
    const { version, license } = JSON.parse(
      readFileSync(join(folder, 'package.json'), 'utf8'),
    ) as PackageFacts;
    const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
    const text = file === undefined ? '' : `\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
    return `${name} ${version} (${license})\n${text}`;
  });
  return texts.join(`\n${'-'.repeat(80)}\n\n`);
}

/** Text in which V8 needs one octet for each character and not two: what isn't ASCII stands in literals only. */
function toAscii(code: string): string {
  return code.replaceAll(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** How a bundle is made where it isn't as an image has it: for benchmarks. */
export interface BundleSettings {
  readonly format?: 'cjs' | 'esm';
  readonly minify?: boolean;
}

/**
 * Bundles one image's program into one minified file, which needs nothing but Node to run, and writes the licences of
 * what is in it beside it (`NAME.licenses.txt`).
 */
export async function bundle(
  name: BundleName,
  folder: string,
  { format = entries[name].format, minify = true }: BundleSettings = {},
): Promise<Bundle> {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${name}.${format === 'cjs' ? 'cjs' : 'mjs'}`);
  const build = await rolldown({
    input: join(root, entries[name].input),
    platform: 'node',
    logLevel: 'warn',
    plugins: [leftOut],
  });
  const { output } = await build.generate({ file, format, minify, codeSplitting: false });
  await build.close();
  const [chunk, ...others] = output;
  if (others.length > 0)
    throw new Error(`${others.map(({ fileName }) => fileName).join()} would be beside ${file}`);
  const code = toAscii(chunk.code);
  writeFileSync(file, code);
  const folders = new Map<string, string>();
  const sources: string[] = [];
  for (const id of chunk.moduleIds) {
    const found = packageFolder.exec(id);
    if (found !== null) folders.set(found[1]!, found[0]);
    else if (id.startsWith(root)) sources.push(relative(root, id));
  }
  const sorted = new Map([...folders].sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(join(folder, `${name}.licenses.txt`), notices(sorted));
  return {
    file,
    bytes: Buffer.byteLength(code),
    packages: [...sorted.keys()],
    sources: sources.sort(),
  };
}

/** How long the proxy may take to start where its code is cached, in milliseconds. */
const WARM_UP = 60_000;

/**
 * Writes the folder `cache` beside the proxy's program: what V8 has compiled of it by the time that it listens. Node
 * starts without it where it doesn't fit: with other flags, on another processor, in another version.
 */
export async function cacheCode(program: string, flags = PROXY_FLAGS): Promise<void> {
  const cache = join(program, '../cache');
  rmSync(cache, { recursive: true, force: true });
  const addresses = ['--backend=127.0.0.1:1', '--listen=127.0.0.1:0', '--admin-listen=127.0.0.1:0'];
  const child = spawn(process.execPath, [...flags, program, 'proxy', ...addresses], {
    env: { ...PROXY_ENVIRONMENT, NODE_COMPILE_CACHE: cache },
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: WARM_UP,
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  let log = '';
  const started = new Promise<string>((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      log += text;
      const admin = /"admin":"([^"]+)"/.exec(log)?.[1];
      if (admin !== undefined) resolve(admin);
    });
  });
  const admin = await Promise.race([started, closed.then(() => undefined)]);
  // What answers has started as a whole, and so ends in good order: only then is anything written.
  if (admin !== undefined) await fetch(`http://${admin}/livez`);
  child.kill('SIGTERM');
  const [code] = await closed;
  const [folder] = code === 0 ? readdirSync(cache) : [];
  if (folder === undefined) throw new Error(`no code was cached (exit code ${code}): ${log}`);
  // Node lets nobody else read what it writes there.
  for (const file of readdirSync(join(cache, folder))) chmodSync(join(cache, folder, file), 0o644);
}

// `node bundle.ts FOLDER [NAME…]` is what the Dockerfile's build stage runs.
if (import.meta.main) {
  const [folder = 'dist', ...names] = process.argv.slice(2);
  for (const name of Object.keys(entries) as BundleName[]) {
    if (names.length > 0 && !names.includes(name)) continue;
    const { file, bytes } = await bundle(name, folder);
    process.stdout.write(`${file}: ${bytes} bytes\n`);
    if (name === 'proxy') await cacheCode(file);
  }
}
