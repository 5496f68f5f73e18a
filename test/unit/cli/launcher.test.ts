import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import packageJson from '../../../package.json' with { type: 'json' };

const launcher = fileURLToPath(new URL('../../../cli/quorumbridge.mjs', import.meta.url));

/** Makes this Node believe that it is an old one. */
const pretendOld = [
  '--import',
  'data:text/javascript,Object.defineProperty(process,"versions",{value:{...process.versions,node:"20.19.0"}})',
];

/** A Node on the PATH that can't run TypeScript, if this machine has one. */
const oldNode = (process.env['PATH'] ?? '')
  .split(delimiter)
  .map((folder) => join(folder, 'node'))
  .filter((file) => existsSync(file))
  .find(
    (file) => Number(/^v(\d+)/.exec(spawnSync(file, ['--version'], { encoding: 'utf8' }).stdout)?.[1]) < 24,
  );

describe('the launcher', () => {
  it('runs the command line with a Node that is new enough', () => {
    const { status, stdout } = spawnSync(process.execPath, [launcher, '--version'], { encoding: 'utf8' });
    expect({ status, stdout }).toEqual({ status: 0, stdout: `${packageJson.version}\n` });
  });

  it.skipIf(oldNode === undefined)(
    'runs the command line from a Node that is too old, by the one of the package',
    () => {
      const { status, stdout } = spawnSync(oldNode!, [launcher, '--version'], { encoding: 'utf8' });
      expect({ status, stdout }).toEqual({ status: 0, stdout: `${packageJson.version}\n` });
    },
  );

  it('passes the exit code and standard error on', () => {
    const args = [...pretendOld, launcher, 'proxy', '--backend=nowhere'];
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect(status).toBe(2);
    expect(stderr).toContain(
      'quorumbridge proxy: option --backend: "nowhere" is not valid: expected HOST:PORT',
    );
  });
});

describe('the launcher on an old Node', () => {
  let folder: string;
  let copy: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'qb-launcher-'));
    mkdirSync(join(folder, 'cli'));
    copy = join(folder, 'cli', 'quorumbridge.mjs');
    cpSync(launcher, copy);
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function ownNode(script: string): void {
    const file = join(folder, 'node_modules', '.bin', 'node');
    mkdirSync(join(file, '..'), { recursive: true });
    writeFileSync(file, `#!/bin/sh\n${script}\n`);
    chmodSync(file, 0o755);
  }

  it('says what is needed where the package brings no Node', () => {
    const { status, stderr } = spawnSync(process.execPath, [...pretendOld, copy, 'proxy'], {
      encoding: 'utf8',
    });
    expect(stderr).toBe(
      "quorumbridge: Node 20.19.0 is too old, 24.11 or newer is needed: npm ci in the project's folder brings one\n",
    );
    expect(status).toBe(1);
  });

  it('says what is wrong where that Node cannot be run', () => {
    ownNode('');
    chmodSync(join(folder, 'node_modules', '.bin', 'node'), 0o644);
    const { status, stderr } = spawnSync(process.execPath, [...pretendOld, copy], { encoding: 'utf8' });
    expect(stderr).toMatch(
      /^quorumbridge: .*\.bin\/node cannot be run: .*EACCES.*; npm ci brings it again\n$/,
    );
    expect(status).toBe(1);
  });

  it('hands over the arguments as they are', () => {
    ownNode('shift; for one in "$@"; do echo "<$one>"; done; exit 7');
    const args = [...pretendOld, copy, 'inject', '-f', 'a b.yaml', '--image='];
    const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect({ status, stdout }).toEqual({ status: 7, stdout: '<inject>\n<-f>\n<a b.yaml>\n<--image=>\n' });
  });

  it.each(['SIGTERM', 'SIGINT'] as const)('passes %s on and ends as its child does', async (signal) => {
    ownNode(`trap 'echo stopping; exit 5' TERM INT; echo ready; while :; do sleep 0.05; done`);
    const child = spawn(process.execPath, [...pretendOld, copy], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      if (output === '') child.kill(signal);
      output += chunk;
    });
    expect(await once(child, 'close')).toEqual([5, null]);
    expect(output).toBe('ready\nstopping\n');
  });

  it('ends with 128 and the number of the signal that ended its child', () => {
    ownNode('kill -KILL $$');
    expect(spawnSync(process.execPath, [...pretendOld, copy]).status).toBe(137);
  });
});
