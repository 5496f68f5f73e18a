import { lstat, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UsageError } from '../../common/errors.ts';

export interface OutputFile {
  /** Without its folder. */
  readonly name: string;
  readonly text: string;
  /** Whether none but its owner may read it. */
  readonly secret: boolean;
}

type Place = 'free' | 'same' | 'file' | 'other';

async function placeOf(path: string, text: string): Promise<Place> {
  let stats;
  try {
    stats = await lstat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'free';
    throw error;
  }
  if (stats.isSymbolicLink()) return 'file';
  if (!stats.isFile()) return 'other';
  return (await readFile(path, 'utf8').catch(() => undefined)) === text ? 'same' : 'file';
}

/**
 * Writes files into a folder, which is made where it is missing: all or, where one is in the way, none. Each appears
 * whole. What has the text already is left as it is.
 * @throws UsageError naming what is in the way, unless `force` replaces it. Errors of the file system go through.
 */
export async function writeFiles(
  folder: string,
  files: readonly OutputFile[],
  force: boolean,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const places = await Promise.all(
    files.map(async (file) => ({ file, place: await placeOf(join(folder, file.name), file.text) })),
  );
  const named = (...kinds: Place[]): string =>
    places
      .filter(({ place }) => kinds.includes(place))
      .map(({ file }) => join(folder, file.name))
      .join(', ');
  if (named('other') !== '')
    throw new UsageError(`option --dir: not a file: ${named('other')}: move it away, or name another folder`);
  if (!force && named('file') !== '') {
    throw new UsageError(
      `option --dir: there already: ${named('file')}: nothing was written; give --force to replace what is there, or name another folder`,
    );
  }
  const stage = await mkdtemp(join(folder, '.certs-'));
  try {
    const news = places.filter(({ place }) => place !== 'same').map(({ file }) => file);
    for (const { name, text, secret } of news)
      await writeFile(join(stage, name), text, { mode: secret ? 0o600 : 0o644 });
    for (const { name } of news) await rename(join(stage, name), join(folder, name));
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}
