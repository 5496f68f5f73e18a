import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { objectsAt, textAt, valueAt } from '../../../common/kube/json.ts';
import { wipeContainer } from '../../../reconciler/wipe.ts';

const SETTINGS = { version: '4.2', sequence: 1, image: 'rabbitmq:4.2', isNonRoot: true };
const MARKER = '.operator-wipe-4.2-1';

/** Names that shells, rm and patterns are known to stumble over. */
const NAMES = [
  'rabbit@mq-0',
  'two words',
  'line\nbreak',
  '-rf',
  '--',
  '*',
  '[!.]*',
  '$HOME',
  '`id`',
  "quote's",
  '"',
  '\\',
  '.hidden',
  '..x',
  '...',
  '.-',
  '..\n',
  '.operator-wipe-4.1-1',
  '.operator-wipe-4.2',
];

function commandOf(settings: Partial<typeof SETTINGS> = {}): string[] {
  return wipeContainer({ ...SETTINGS, ...settings })['command'] as string[];
}

/** Runs the container's own command on `folder`; resolves to what it printed. */
async function wipe(folder: string, settings: Partial<typeof SETTINGS> = {}): Promise<string> {
  const [program, ...args] = commandOf(settings);
  const env = { PATH: process.env['PATH'], WIPE_DIR: folder };
  return (await promisify(execFile)(program!, args, { env, cwd: folder })).stdout;
}

function fill(folder: string): void {
  for (const name of NAMES) {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, 'data'), 'x');
  }
  writeFileSync(join(folder, 'file'), 'x');
}

describe('the container that wipes', () => {
  it('empties the folder of names of every kind, and leaves its marker', async () => {
    await using parent = await mkdtempDisposable(join(tmpdir(), 'quorumbridge-wipe-'));
    const folder = join(parent.path, 'with space');
    mkdirSync(folder);
    fill(folder);
    expect(await wipe(folder)).toContain('wiped\n');
    expect(readdirSync(folder)).toEqual([MARKER]);
  });

  it('wipes nothing a second time, and everything in another upgrade, also to the same version', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'quorumbridge-wipe-'));
    await wipe(folder.path);
    writeFileSync(join(folder.path, 'new'), 'x');
    expect(await wipe(folder.path)).toMatch(/is there: nothing is wiped\n$/);
    expect(readdirSync(folder.path).sort()).toEqual([MARKER, 'new']);
    await wipe(folder.path, { sequence: 2 });
    expect(readdirSync(folder.path)).toEqual(['.operator-wipe-4.2-2']);
    await wipe(folder.path, { version: '4.3.1', sequence: 3 });
    expect(readdirSync(folder.path)).toEqual(['.operator-wipe-4.3.1-3']);
  });

  it('leaves what links point to, and lost+found, which is not RabbitMQ’s', async () => {
    await using parent = await mkdtempDisposable(join(tmpdir(), 'quorumbridge-wipe-'));
    const [folder, outside] = ['in', 'out'].map((name) => join(parent.path, name)) as [string, string];
    for (const each of [folder, outside, join(folder, 'lost+found')]) mkdirSync(each);
    writeFileSync(join(outside, 'kept'), 'x');
    symlinkSync(outside, join(folder, 'link'));
    symlinkSync(join(parent.path, 'nowhere'), join(folder, 'dangling'));
    symlinkSync('..', join(folder, '..up'));
    chmodSync(join(folder, 'lost+found'), 0);
    await wipe(folder);
    expect(readdirSync(folder).sort()).toEqual([MARKER, 'lost+found']);
    expect(readdirSync(parent.path).sort()).toEqual(['in', 'out']);
    expect(readdirSync(outside)).toEqual(['kept']);
  });

  it('writes the marker last: what was cut off is done again from the start', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'quorumbridge-wipe-'));
    for (let index = 0; index < 4000; index++) {
      mkdirSync(join(folder.path, `${index % 40}`, `queue-${index}`), { recursive: true });
    }
    // SIGKILL at any time, as a node that goes down does. Meanwhile there is data without a marker, or a marker alone.
    for (const delay of [0, 2, 5, 10, 20, 40]) {
      const [program, ...args] = commandOf();
      const child = spawn(program!, args, {
        env: { ...process.env, WIPE_DIR: folder.path },
        stdio: 'ignore',
      });
      setTimeout(() => child.kill('SIGKILL'), delay);
      await once(child, 'exit');
      const left = readdirSync(folder.path);
      expect(left.includes(MARKER) && left.length > 1).toBe(false);
    }
    await wipe(folder.path);
    expect(readdirSync(folder.path)).toEqual([MARKER]);
  });

  it('fails, and leaves no marker, when something can not be removed or no folder is named', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'quorumbridge-wipe-'));
    mkdirSync(join(folder.path, 'data'));
    const tools = join(folder.path, 'data', 'tools');
    mkdirSync(tools);
    // An rm that fails stands for files of somebody else: root, as which tests may run, can remove them all.
    writeFileSync(join(tools, 'rm'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    const [program, ...args] = commandOf();
    const run = (env: NodeJS.ProcessEnv) => promisify(execFile)(program!, args, { env });
    await expect(run({ PATH: tools, WIPE_DIR: folder.path })).rejects.toThrow('Command failed');
    expect(existsSync(join(folder.path, MARKER))).toBe(false);
    await expect(run({ PATH: process.env['PATH'], WIPE_DIR: '' })).rejects.toThrow(/WIPE_DIR/);
  });

  it.each(['', '4', '4.2;id', '4.2\n', '$(id)', '4.2.1.1', '../4.2'])(
    'is not made for the version %j, which would become part of a script',
    (version) => {
      expect(() => commandOf({ version })).toThrow(/is no version$/);
    },
  );

  it.each([0, -1, 1.5, Number.NaN])('is not made for the sequence %s', (sequence) => {
    expect(() => commandOf({ sequence })).toThrow('is no number of an upgrade');
  });

  it('mounts the volume of the data, may do nothing else, and does not change the pod’s QoS class', () => {
    const container = wipeContainer(SETTINGS);
    expect(container).toMatchObject({
      name: 'wipe-data',
      image: 'rabbitmq:4.2',
      workingDir: '/var/lib/rabbitmq',
    });
    expect(commandOf().slice(0, 2)).toEqual(['/bin/sh', '-c']);
    expect(textAt(container, 'command', 2)).toContain('.operator-wipe-4.2-1');
    expect(objectsAt(container, 'volumeMounts')).toEqual([
      { name: 'persistence', mountPath: '/var/lib/rabbitmq' },
    ]);
    expect(container['env']).toEqual([{ name: 'WIPE_DIR', value: '/var/lib/rabbitmq' }]);
    expect(valueAt(container, 'resources', 'limits')).toEqual(valueAt(container, 'resources', 'requests'));
    expect(container['securityContext']).toEqual({
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    const asRoot = wipeContainer({ ...SETTINGS, isNonRoot: false });
    expect(asRoot['securityContext']).not.toHaveProperty('runAsNonRoot');
  });
});
