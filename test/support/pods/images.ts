// What an image's name stands for: RabbitMQ's official images by Debian's packages of the same minor version, and
// Quorumbridge's own as the Dockerfile makes them.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { appendFile, chmod, chown, cp, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { bundle, cacheCode, PROXY_ENVIRONMENT, PROXY_FLAGS } from '../bundle.ts';

/** An image that containers can be made of. */
export interface Image {
  /** A folder with what its root file system begins with, for container.sh. */
  readonly folder: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Who its processes are unless the pod says otherwise. */
  readonly user: number;
  readonly group: number;
  readonly workingDir: string;
}

const RABBITMQ_USER = 999;
const PROXY_USER = 65_532;
/** What Debian's packages have by the side of /usr, and a container may write into. */
const COPIED = ['etc', 'var'];

/** Prepares images in a folder, each when it is first asked for. */
export class Images {
  readonly #folder: string;
  readonly #prepared = new Map<string, Promise<Image>>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The image of that name; rejects, as a kubelet that cannot pull does, with names that are no images here. */
  async get(name: string): Promise<Image> {
    let image = this.#prepared.get(name);
    if (image === undefined) {
      image = this.#prepare(name);
      this.#prepared.set(name, image);
    }
    return image;
  }

  async #prepare(name: string): Promise<Image> {
    const [repository = '', tag = ''] = (
      /^(?:.*\/)?([^/:@]+(?::[^/@]*)?)(?:@.*)?$/.exec(name)?.[1] ?? ''
    ).split(':');
    const version = /^(\d+\.\d+)(?:[.-].*)?$/.exec(tag)?.[1] ?? '';
    const folder = join(this.#folder, name.replaceAll(/[^a-z\d.-]/gi, '_'));
    if (repository === 'rabbitmq') return rabbitMqImage(folder, version, /-management\b/.test(tag));
    if (repository === 'proxy' && /\bquorumbridge\b/.test(name)) return proxyImage(folder);
    throw new Error(
      `image "${name}" is none of those that test pods know: rabbitmq:VERSION, quorumbridge/proxy`,
    );
  }
}

/**
 * As docker-library/rabbitmq makes it: user 999, logs on stdout, guest from everywhere, and without `-management` in its
 * tag no statistics of the management API's own.
 */
async function rabbitMqImage(folder: string, version: string, management: boolean): Promise<Image> {
  const cache = process.env['QUORUMBRIDGE_CACHE'] ?? join(homedir(), '.cache/quorumbridge');
  const root = join(cache, version, 'root');
  if (version === '' || !existsSync(join(cache, version, 'installed')))
    throw new Error(`RabbitMQ ${version} is not in ${cache}: name it to enter.sh`);
  await mkdir(folder, { recursive: true });
  for (const entry of await readdir(root, { withFileTypes: true })) {
    const [from, to] = [join(root, entry.name), join(folder, entry.name)];
    if (entry.isSymbolicLink() || COPIED.includes(entry.name))
      await cp(from, to, { recursive: true, verbatimSymlinks: true });
    else if (entry.name === 'usr') await symlink(from, to);
  }
  await appendFile(
    join(folder, 'etc/passwd'),
    `rabbitmq:x:${RABBITMQ_USER}:${RABBITMQ_USER}::/var/lib/rabbitmq:/bin/bash\n`,
  );
  await appendFile(join(folder, 'etc/group'), `rabbitmq:x:${RABBITMQ_USER}:\n`);
  const conf = ['loopback_users.guest = false', 'log.console = true', 'disk_free_limit.absolute = 50MB'];
  if (!management) conf.push('management_agent.disable_metrics_collector = true');
  // Debian permits what upstream does not.
  if (version === '4.3') conf.push('deprecated_features.permit.transient_nonexcl_queues = false');
  await mkdir(join(folder, 'etc/rabbitmq/conf.d'), { recursive: true });
  await writeFile(join(folder, 'etc/rabbitmq/conf.d/10-defaults.conf'), `${conf.join('\n')}\n`);
  for (const path of ['etc/rabbitmq', 'etc/rabbitmq/conf.d', 'var/lib/rabbitmq', 'var/log/rabbitmq']) {
    await mkdir(join(folder, path), { recursive: true });
    await chmod(join(folder, path), 0o1777);
  }
  await owned(join(folder, 'var/lib/rabbitmq'), RABBITMQ_USER);
  const [server] = await readdir(join(root, 'usr/lib/rabbitmq/lib'));
  return {
    folder,
    entrypoint: [],
    command: ['rabbitmq-server'],
    env: {
      PATH: `/usr/lib/rabbitmq/lib/${server}/sbin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      HOME: '/var/lib/rabbitmq',
      LANG: 'C.UTF-8',
      LC_ALL: 'C.UTF-8',
      RABBITMQ_LOGS: '-',
      // As docker-entrypoint.sh has it: the server is the container's first process, and gets SIGTERM itself.
      RUNNING_UNDER_SYSTEMD: 'true',
      // Some nodes share the machine's cores with all else: nobody may wait for work by spinning.
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+sbwt none +sbwtdcpu none +sbwtdio none',
    },
    user: RABBITMQ_USER,
    group: RABBITMQ_USER,
    workingDir: '/',
  };
}

/** As the Dockerfile's target `proxy`: Node with its libraries, one bundled file and its code cache, no shell. */
async function proxyImage(folder: string): Promise<Image> {
  const { file } = await bundle('proxy', join(folder, 'app'));
  await cacheCode(file);
  const node = join(folder, 'usr/local/bin/node');
  const files = [
    [process.execPath, node],
    ...[...execFileSync('ldd', [process.execPath], { encoding: 'utf8' }).matchAll(/\/\S+/g)].map(
      ([library]) => [library, join(folder, library)],
    ),
  ] as [string, string][];
  for (const [from, to] of files) {
    await mkdir(dirname(to), { recursive: true });
    await cp(from, to, { dereference: true });
    await chmod(to, 0o755);
  }
  await mkdir(join(folder, 'etc'));
  await writeFile(
    join(folder, 'etc/passwd'),
    `nonroot:x:${PROXY_USER}:${PROXY_USER}:nonroot:/:/sbin/nologin\n`,
  );
  await writeFile(join(folder, 'etc/group'), `nonroot:x:${PROXY_USER}:\n`);
  await writeFile(join(folder, 'etc/nsswitch.conf'), 'hosts: files dns\n');
  return {
    folder,
    entrypoint: ['/usr/local/bin/node', ...PROXY_FLAGS, '/app/proxy.cjs', 'proxy'],
    command: [],
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...PROXY_ENVIRONMENT },
    user: PROXY_USER,
    group: PROXY_USER,
    workingDir: '/app',
  };
}

/** Gives a folder to a user, where there are others than the one of a user namespace. */
export async function owned(path: string, user: number, group = user): Promise<void> {
  await chown(path, user, group).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
  });
}
