import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HOME } from '../support/processes.ts';

const SCRIPT = join(HOME, 'test/support/kube-install.sh');
/** What the script needs to find out what is possible. */
const TOOLS = ['awk', 'bash', 'cat', 'cksum', 'dirname', 'env', 'find', 'grep', 'mktemp', 'rm', 'sed'];

describe('kube-install.sh', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'quorumbridge-kube-install-'));
    mkdirSync(join(folder, 'bin'));
    for (const tool of TOOLS) {
      const found = (process.env['PATH'] ?? '').split(delimiter).map((path) => join(path, tool));
      const path = found.find((one) => spawnSync('test', ['-x', one]).status === 0);
      if (path === undefined) throw new Error(`there is no ${tool}`);
      symlinkSync(path, join(folder, 'bin', tool));
    }
    // An API server that can say its version, as far as the script asks.
    mkdirSync(join(folder, 'assets'));
    for (const tool of ['etcd', 'kube-apiserver', 'kubectl']) {
      writeFileSync(join(folder, 'assets', tool), '#!/bin/sh\necho Kubernetes v1.33.1\n');
      chmodSync(join(folder, 'assets', tool), 0o755);
    }
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** On a machine that has those tools alone, and nothing in the cache. */
  const run = (args: string[], env: Record<string, string> = {}) => {
    const cache = join(folder, 'cache');
    const own = { PATH: join(folder, 'bin'), QUORUMBRIDGE_CACHE: cache, ...env };
    const { status, stdout, stderr } = spawnSync(SCRIPT, args, { env: own, encoding: 'utf8' });
    return { status, stdout, stderr };
  };

  it.each(['check', 'install'])('names the reason of each way where none is possible: %s', (command) => {
    const { status, stderr } = run([command, 'control-plane']);
    expect(stderr).toBe(
      "kube-install.sh: control-plane cannot be had here, not from Go modules: the command 'go' is missing; " +
        "not from Debian: the command 'apt-get' is missing; and KUBEBUILDER_ASSETS is not set\n",
    );
    expect(status).toBe(3);
  });

  it.each([
    ['modules', /^kube-install\.sh: control-plane .*'go' is missing; not from Debian: .* is modules\n$/],
    ['debian', /^kube-install\.sh: control-plane .* is debian; not from Debian: .*'apt-get' is missing\n$/],
  ])('tries no other way than %s when told so, not even the assets', (way, reason) => {
    const env = { QUORUMBRIDGE_KUBERNETES: way, KUBEBUILDER_ASSETS: join(folder, 'assets') };
    const { status, stderr } = run(['check', 'control-plane'], env);
    expect(stderr).toMatch(reason);
    expect(status).toBe(3);
  });

  it('has no cluster operator beside the Kubernetes of Debian', () => {
    const { status, stderr } = run(['install', 'operator'], { QUORUMBRIDGE_KUBERNETES: 'debian' });
    expect(stderr).toBe(
      'kube-install.sh: operator cannot be had here, not from Go modules: QUORUMBRIDGE_KUBERNETES is debian\n',
    );
    expect(status).toBe(3);
  });

  it('takes the assets before anything else, and says what they lack', () => {
    const assets = join(folder, 'assets');
    expect(run(['install', 'control-plane'], { KUBEBUILDER_ASSETS: assets })).toEqual({
      status: 0,
      stdout: `control-plane v1.33.1 ${assets}\n`,
      stderr: '',
    });
    const { status, stderr } = run(['check', 'control-plane'], { KUBEBUILDER_ASSETS: folder });
    expect(stderr).toBe(`kube-install.sh: KUBEBUILDER_ASSETS is '${folder}', and there is no etcd\n`);
    expect(status).toBe(1);
  });

  it('refuses a way that it does not know', () => {
    const { status, stderr } = run(['check', 'control-plane'], { QUORUMBRIDGE_KUBERNETES: 'docker' });
    expect(stderr).toContain("QUORUMBRIDGE_KUBERNETES is 'docker', want modules or debian");
    expect(status).toBe(2);
  });
});
