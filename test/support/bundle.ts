import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** What goes into an image, by the name of its target in the Dockerfile. */
const entries = { proxy: 'cli/proxy-main.ts', control: 'cli/control-main.ts' } as const;

export type BundleName = keyof typeof entries;

export interface Bundle {
  /** The program: `NAME.mjs` in the folder that was asked for. */
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

/**
 * Bundles one image's program into one minified file of ESM, which needs nothing but Node to run, and writes the
 * licences of what is in it beside it (`NAME.licenses.txt`).
 */
export async function bundle(name: BundleName, folder: string): Promise<Bundle> {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${name}.mjs`);
  const build = await rolldown({ input: join(root, entries[name]), platform: 'node', logLevel: 'warn' });
  const { output } = await build.write({ file, format: 'esm', minify: true, codeSplitting: false });
  await build.close();
  const [chunk, ...others] = output;
  if (others.length > 0)
    throw new Error(`${others.map(({ fileName }) => fileName).join()} was written beside ${file}`);
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
    bytes: Buffer.byteLength(chunk.code),
    packages: [...sorted.keys()],
    sources: sources.sort(),
  };
}

// `node bundle.ts FOLDER [NAME…]` is what the Dockerfile's build stage runs.
if (import.meta.main) {
  const [folder = 'dist', ...names] = process.argv.slice(2);
  for (const name of Object.keys(entries) as BundleName[]) {
    if (names.length > 0 && !names.includes(name)) continue;
    const { file, bytes } = await bundle(name, folder);
    process.stdout.write(`${file}: ${bytes} bytes\n`);
  }
}
