import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { runCommandLine } from '../../cli/run.ts';

/** Makes certificates by `quorumbridge certs generate FOLDER ARGS`; their texts by file name. */
export async function generateCerts(folder: string, ...args: string[]): Promise<Record<string, string>> {
  const sink = new PassThrough().resume();
  const io = { stdin: Readable.from([]), stdout: sink, stderr: sink, env: {} };
  const loaders = { certs: () => import('../../cli/certs.ts') };
  const code = await runCommandLine(['certs', 'generate', folder, ...args], loaders, io);
  if (code !== 0) throw new Error(`certs generate ended with ${code}`);
  const names = await readdir(folder);
  const texts = names.map(async (name) => [name, await readFile(join(folder, name), 'utf8')]);
  return Object.fromEntries(await Promise.all(texts)) as Record<string, string>;
}
