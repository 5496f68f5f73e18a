import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  globSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };
import { type Bundle, bundle, cacheCode, PROXY_ENVIRONMENT, PROXY_FLAGS } from '../support/bundle.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'qb-bundle-'));
const folders = { proxy: join(folder, 'proxy'), control: join(folder, 'control') };
let proxy: Bundle;
let control: Bundle;

beforeAll(async () => {
  proxy = await bundle('proxy', folders.proxy);
  await cacheCode(proxy.file);
  control = await bundle('control', folders.control);
}, 120_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(program: Bundle, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [program.file, ...args], { cwd: folder, env: {}, encoding: 'utf8' });
}

/** What the proxy's bundle may hold of node_modules: a new name here is a decision about the sidecar's size. */
const proxyPackages = [
  '@opentelemetry/api',
  '@pinojs/redact',
  'atomic-sleep',
  'bintrees',
  'close-with-grace',
  'commander',
  'on-exit-leak-free',
  'pino',
  'pino-std-serializers',
  'prom-client',
  'quick-format-unescaped',
  'safe-stable-stringify',
  'sonic-boom',
  'tdigest',
  'thread-stream',
  'yaml',
];

describe("the proxy's bundle", () => {
  it('is one file of less than 640 KiB, with its code cache and the licences of what is in it', () => {
    expect(readdirSync(folders.proxy).sort()).toEqual(['cache', 'proxy.cjs', 'proxy.licenses.txt']);
    expect(readFileSync(proxy.file, 'latin1')).not.toMatch(/[\u0080-\u00ff]/);
    expect(proxy.bytes).toBeLessThan(640 * 1024);
    const licences = readFileSync(join(folders.proxy, 'proxy.licenses.txt'), 'utf8');
    for (const name of proxy.packages) expect(licences).toContain(`${name} `);
  });

  it('holds only the packages and the rooms that the sidecar needs', () => {
    expect(proxy.packages.filter((name) => !proxyPackages.includes(name))).toEqual([]);
    const rooms = new Set(
      proxy.sources.filter((file) => file.includes('/')).map((file) => file.split('/')[0]),
    );
    expect([...rooms]).toEqual(['amqp', 'cli', 'common', 'proxy']);
    expect(proxy.sources).toContain('proxy/main.ts');
  });

  it('runs where there is nothing else', () => {
    expect(run(proxy, '--version')).toMatchObject({
      status: 0,
      stdout: `${packageJson.version}\n`,
      stderr: '',
    });
    const help = run(proxy, 'proxy', '--help');
    expect(help).toMatchObject({ status: 0, stderr: '' });
    expect(help.stdout).toContain('--backend-proxy-protocol');
    const missing = run(proxy, 'proxy');
    expect(missing.status).toBe(2);
    expect(missing.stderr).toContain('option --backend is required');
    expect(run(proxy, 'webhook').stderr).toContain("unknown command 'webhook'");
    const explained = run(proxy, 'rewrite', '--explain={"queue":"q"}', '--preset=openstack');
    expect(explained.stdout).toContain('"x-queue-type":"quorum"');
  });

  it('serves, is alive, and ends in good order on SIGTERM, with no more of Node than a plain proxy needs', async () => {
    const tell = join(folder, 'tell.cjs');
    writeFileSync(tell, "process.on('exit', () => console.log(process.moduleLoadList.join('\\n')));");
    const args = [
      'proxy',
      '--backend=127.0.0.1:1',
      '--listen=amqp://127.0.0.1:0',
      '--admin-listen=127.0.0.1:0',
    ];
    const child = spawn(process.execPath, ['--require', tell, ...PROXY_FLAGS, proxy.file, ...args], {
      cwd: folder,
      env: { ...PROXY_ENVIRONMENT, NODE_COMPILE_CACHE: join(folders.proxy, 'cache') },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      let output = '';
      const admin = await new Promise<string>((resolve, reject) => {
        child.once('exit', () => reject(new Error(`the proxy ended: ${output}`)));
        child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
          output += chunk;
          const address = /"admin":"([^"]+)"/.exec(output)?.[1];
          if (address !== undefined) resolve(address);
        });
      });
      const alive = await fetch(`http://${admin}/livez`);
      expect([alive.status, await alive.text()]).toEqual([200, 'ok\n']);
      expect((await fetch(`http://${admin}/readyz`)).status).toBe(503);
      const exited = once(child, 'close');
      child.kill('SIGTERM');
      expect(await exited).toEqual([0, null]);
      expect(output).toContain('shutdown complete');
      const loaded = [...output.matchAll(/^NativeModule (.*)$/gm)].map(([, name]) => name!);
      expect(loaded).toContain('net');
      const heavy = ['tls', 'https', 'http2', 'zlib', 'inspector', 'internal/deps/undici/undici'];
      expect(loaded.filter((name) => heavy.includes(name))).toEqual([]);
    } finally {
      child.kill('SIGKILL');
    }
  });
});

describe("the proxy's code cache", () => {
  const moved = mkdtempSync(join(tmpdir(), 'qb-moved-'));
  const used = 'was accepted';

  /** Starts the program where it was moved to, as a user that may not write there, and answers what Node says about its cache. */
  function start(flags: readonly string[], environment: Readonly<Record<string, string>> = {}): string {
    const env = {
      ...PROXY_ENVIRONMENT,
      NODE_COMPILE_CACHE: join(moved, 'cache'),
      NODE_DEBUG_NATIVE: 'COMPILE_CACHE',
      ...environment,
    };
    const user = process.getuid?.() === 0 ? { uid: 65_532, gid: 65_532 } : {};
    const args = [...flags, join(moved, 'proxy.cjs'), '--version'];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { env, encoding: 'utf8', ...user });
    expect([status, stdout.split('\n').includes(packageJson.version)]).toEqual([0, true]);
    return stdout + stderr;
  }

  const foldersOf = (): string[] => [moved, join(moved, 'cache'), ...globSync(join(moved, 'cache/*'))];

  beforeAll(() => {
    cpSync(folders.proxy, moved, { recursive: true });
    for (const path of foldersOf()) chmodSync(path, 0o555);
  });

  afterAll(() => {
    for (const path of foldersOf()) chmodSync(path, 0o755);
    rmSync(moved, { recursive: true });
  });

  it('is used at another path, by a user that may only read it', () => {
    expect(start(PROXY_FLAGS)).toContain(used);
  });

  it('is used with the heap limit that docs/tuning.md lets one set', () => {
    expect(start(PROXY_FLAGS, { NODE_OPTIONS: '--max-old-space-size=128' })).toContain(used);
  });

  it('is done without where it was made for other flags', () => {
    const said = start([...PROXY_FLAGS, '--no-opt']);
    expect(said).not.toContain(used);
    expect(said).toContain('Cannot create cache directory');
  });

  it('is done without where the program is another one', () => {
    const program = join(moved, 'proxy.cjs');
    const code = readFileSync(program);
    writeFileSync(program, `${code.toString()} `);
    const said = start(PROXY_FLAGS);
    writeFileSync(program, code);
    expect(said).not.toContain(used);
  });
});

describe('the control bundle', () => {
  it('is one file that runs where there is nothing else', () => {
    expect(readdirSync(folders.control).sort()).toEqual(['control.licenses.txt', 'control.mjs']);
    expect(run(control, '--version')).toMatchObject({
      status: 0,
      stdout: `${packageJson.version}\n`,
      stderr: '',
    });
  });

  it.each([
    ['webhook', '--self-signed'],
    ['reconciler', '--wipe-policy'],
  ])('has the command %s', (command, option) => {
    const help = run(control, command, '--help');
    expect(help).toMatchObject({ status: 0, stderr: '' });
    expect(help.stdout).toContain(option);
  });

  it('holds nothing of the data plane, and of the kit what declares and publishes, with its licence', () => {
    expect(control.sources.filter((file) => /^(?:amqp|proxy|test)\//.test(file))).toEqual([]);
    const rest = /^messaging\/(?:consumer|dlq|examples)\//;
    expect(control.sources.filter((file) => rest.test(file))).toEqual([]);
    const licences = readFileSync(join(folders.control, 'control.licenses.txt'), 'utf8');
    for (const name of control.packages) expect(licences).toContain(`${name} `);
    expect(control.packages).toEqual(expect.arrayContaining(['amqplib', 'fastify']));
  });
});

describe('the Dockerfile', () => {
  const instructions = readFileSync(join(root, 'Dockerfile'), 'utf8')
    .replaceAll(/^\s*#.*\n/gm, '')
    .replaceAll(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(/\s+/));
  const fromContext = instructions
    .filter(([verb, first]) => verb === 'COPY' && first?.startsWith('--from') === false)
    .flatMap((words) => words.slice(1, -1));

  it('copies only what exists and what .dockerignore lets through', () => {
    expect(fromContext.length).toBeGreaterThan(8);
    expect(fromContext.filter((path) => !existsSync(join(root, path)))).toEqual([]);
    const ignore = readFileSync(join(root, '.dockerignore'), 'utf8').split('\n');
    expect(ignore).toContain('*');
    expect(fromContext.filter((path) => !ignore.includes(`!${path}`))).toEqual([]);
  });

  it('copies every file that its bundles are made of', () => {
    const copied = (file: string): boolean =>
      fromContext.some((path) => file === path || file.startsWith(`${path}/`));
    const needed = [...new Set([...proxy.sources, ...control.sources])];
    expect(needed.length).toBeGreaterThan(30);
    expect(needed.filter((file) => !copied(file))).toEqual([]);
  });

  it('takes from the build stage only what the bundles leave there', () => {
    const built = instructions
      .filter(([verb, first]) => verb === 'COPY' && first === '--from=build')
      .flatMap((words) => words.slice(2, -1));
    const made = globSync('*/*', { cwd: folder }).map((path) => `/src/dist/${path.split('/')[1]}`);
    expect(built.sort()).toEqual(made.sort());
  });

  it('ends in two targets that run as a numeric user, without a shell, from nothing', () => {
    const stages = instructions.filter(([verb]) => verb === 'FROM').map(([, from, , name]) => [name, from]);
    expect(stages.slice(-3)).toEqual([
      ['base', 'scratch'],
      ['proxy', 'base'],
      ['control', 'base'],
    ]);
    expect(instructions.filter(([verb]) => verb === 'USER')).toEqual([['USER', '65532:65532']]);
    const entry = instructions
      .filter(([verb]) => verb === 'ENTRYPOINT')
      .map((words) => words.slice(1).join(' '));
    expect(entry.map((text) => JSON.parse(text) as unknown)).toEqual([
      ['/usr/local/bin/node', ...PROXY_FLAGS, '/app/proxy.cjs', 'proxy'],
      ['/usr/local/bin/node', '/app/control.mjs'],
    ]);
    const environment = instructions
      .filter(([verb]) => verb === 'ENV')
      .flatMap(([, ...pairs]) => pairs.map((pair) => pair.split('=')));
    expect(Object.fromEntries(environment)).toEqual(PROXY_ENVIRONMENT);
    expect(instructions.some(([verb]) => verb === 'CMD' || verb === 'SHELL' || verb === 'HEALTHCHECK')).toBe(
      false,
    );
  });
});
