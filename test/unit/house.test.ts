import { existsSync, globSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAst } from 'rolldown/parseAst';
import { describe, expect, it } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };

const root = fileURLToPath(new URL('../../', import.meta.url));

interface House {
  /** Rooms that this one may import besides itself. */
  readonly rooms: readonly string[];
  /** Packages that it may import. */
  readonly packages: readonly string[];
}

/** Who may import whom. A room without an entry here has no business existing. */
const rooms: Readonly<Record<string, House>> = {
  amqp: { rooms: [], packages: [] },
  proxy: { rooms: ['amqp', 'common'], packages: [] },
  webhook: { rooms: ['common', 'certs'], packages: ['fastify', 'fast-json-patch', 'typebox', 'yaml'] },
  reconciler: { rooms: ['common', 'messaging'], packages: [] },
  messaging: { rooms: ['common'], packages: ['amqplib', 'yaml'] },
  common: { rooms: [], packages: ['close-with-grace', 'pino', 'prom-client', 'yaml'] },
  certs: { rooms: ['common'], packages: ['@peculiar/x509', 'reflect-metadata'] },
  cli: {
    rooms: ['amqp', 'proxy', 'webhook', 'reconciler', 'messaging', 'common', 'certs'],
    packages: ['commander', 'yaml'],
  },
};

/** Single files that may import a package which their room may not. */
const exceptions: Readonly<Record<string, readonly string[]>> = {
  'common/kube/open.ts': ['@kubernetes/client-node'],
};

const product = globSync(`{${Object.keys(rooms).join(',')}}/**/*.{ts,mjs}`, { cwd: root }).sort();
const supporting = globSync(['{test,bench}/**/*.{ts,mjs}', '*.ts'], { cwd: root }).sort();

/** The specifiers of all imports of a file: static, re-exported, dynamic and of types. */
function importsOf(file: string): string[] {
  const found: string[] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    const node = value as { type?: string; source?: { value?: unknown } };
    const imports = /^(?:Import(?:Declaration|Expression)|TSImportType|Export(?:All|Named)Declaration)$/;
    if (node.type !== undefined && imports.test(node.type) && typeof node.source?.value === 'string') {
      found.push(node.source.value);
    }
    for (const child of Object.values(node)) visit(child);
  };
  visit(parseAst(readFileSync(join(root, file), 'utf8'), { lang: file.endsWith('.ts') ? 'ts' : 'js' }).body);
  return found;
}

const imports = new Map([...product, ...supporting].map((file) => [file, importsOf(file)]));

function isBuiltin(specifier: string): boolean {
  return specifier.startsWith('node:');
}

function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

/** Every import of the given files that `allowed` refuses, as `file → specifier`. */
function refused(files: readonly string[], allowed: (file: string, specifier: string) => boolean): string[] {
  return files.flatMap((file) =>
    imports
      .get(file)!
      .filter((specifier) => !allowed(file, specifier))
      .map((specifier) => `${file} → ${specifier}`),
  );
}

describe('the house', () => {
  it('is seen whole: every room has files, and imports of every form are found', () => {
    const seen = new Set(product.map((file) => file.split('/')[0]));
    expect(seen).toEqual(new Set(Object.keys(rooms)));
    expect(imports.get('cli/main.ts')).toContain('./proxy.ts');
    expect(imports.get('cli/proxy.ts')).toEqual(
      expect.arrayContaining(['../proxy/options.ts', '../proxy/main.ts']),
    );
    expect(imports.get('cli/command.ts')).toContain('../common/resolve.ts');
    expect(imports.get('test/unit/house.test.ts')).toContain('rolldown/parseAst');
  });

  it('lets a room import only itself and the rooms it may', () => {
    const allowed = (file: string, specifier: string): boolean => {
      if (!specifier.startsWith('.')) return true;
      const target = normalize(join(dirname(file), specifier));
      if (target === 'package.json') return true;
      const [own, other] = [file, target].map((path) => path.split('/')[0]!);
      return own === other || rooms[own!]!.rooms.includes(other!);
    };
    expect(refused(product, allowed)).toEqual([]);
  });

  it('lets a room import only the packages it may', () => {
    const allowed = (file: string, specifier: string): boolean => {
      if (specifier.startsWith('.') || isBuiltin(specifier)) return true;
      const room = rooms[file.split('/')[0]!]!;
      return [...room.packages, ...(exceptions[file] ?? [])].includes(packageOf(specifier));
    };
    expect(refused(product, allowed)).toEqual([]);
  });

  it('keeps amqp/ free of everything but itself: no I/O, not even of Node', () => {
    const files = product.filter((file) => file.startsWith('amqp/'));
    expect(refused(files, (_, specifier) => specifier.startsWith('./'))).toEqual([]);
  });

  it('keeps what speaks to an API server out of the proxy and the kit', () => {
    const files = product.filter((file) => /^(?:proxy|messaging|certs)\//.test(file));
    const allowed = (file: string, specifier: string): boolean =>
      !specifier.startsWith('.') || !normalize(join(dirname(file), specifier)).startsWith('common/kube/');
    expect(refused(files, allowed)).toEqual([]);
  });

  it('has examples that import of the kit what programs import, and nobody imports them', () => {
    const isExample = (file: string): boolean => file.startsWith('messaging/examples/');
    const examples = product.filter(isExample);
    expect(examples.length).toBeGreaterThan(0);
    const allowed = (_: string, specifier: string): boolean =>
      specifier.startsWith('./') || specifier === '../index.ts' || isBuiltin(specifier);
    expect(refused(examples, allowed)).toEqual([]);
    const isOther = (file: string, specifier: string): boolean =>
      !specifier.startsWith('.') || !isExample(normalize(join(dirname(file), specifier)));
    const others = product.filter((file) => !isExample(file));
    expect(refused(others, isOther)).toEqual([]);
  });

  it('names files with their extension, and files that exist', () => {
    const allowed = (file: string, specifier: string): boolean =>
      !specifier.startsWith('.') || existsSync(join(root, dirname(file), specifier));
    expect(refused([...imports.keys()], allowed)).toEqual([]);
  });

  it('names modules of Node with the prefix node:', () => {
    expect(refused([...imports.keys()], (_, specifier) => !builtinModules.includes(specifier))).toEqual([]);
  });

  it('imports only packages that package.json declares: the product only dependencies', () => {
    const runtime = Object.keys(packageJson.dependencies);
    const all = [...runtime, ...Object.keys(packageJson.devDependencies)];
    const among = (declared: readonly string[]) => (_: string, specifier: string) =>
      specifier.startsWith('.') || isBuiltin(specifier) || declared.includes(packageOf(specifier));
    expect(refused(product, among(runtime))).toEqual([]);
    expect(refused(supporting, among(all))).toEqual([]);
  });

  it('pins every dependency to one exact version', () => {
    const { dependencies, devDependencies, optionalDependencies } = packageJson;
    const versions = Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies });
    expect(versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
  });

  it('has no file of more than 400 lines (tests: 500) besides blank ones and comments', () => {
    const codeLines = (file: string): number =>
      readFileSync(join(root, file), 'utf8')
        .split('\n')
        .filter((line) => !/^\s*(?:$|\/\/|\/\*|\*)/.test(line)).length;
    expect(product.filter((file) => codeLines(file) > 400)).toEqual([]);
    expect(supporting.filter((file) => codeLines(file) > 500)).toEqual([]);
  });
});
