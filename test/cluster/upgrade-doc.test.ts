// The commands of docs/upgrade.md that get a backup out, and an old cluster back by it, as an operator types them.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ANNOTATION, PAUSE_LABEL } from '../../common/contract.ts';
import { RABBITMQ_CRD } from '../../common/crd.ts';
import { connectApi } from '../../common/kube/api.ts';
import { textAt, valueAt } from '../../common/kube/json.ts';
import { type OpenCluster, openCluster } from '../../common/kube/open.ts';
import { CLUSTER, RABBITMQ, SECRET } from '../../common/kube/resources.ts';
import type { JsonObject, KubeObject } from '../../common/kube/types.ts';
import { writeBackup } from '../../reconciler/backup.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import { eventually } from '../support/kube-api.ts';
import { type Cluster, startCluster } from '../support/kube.ts';
import { contentOf, definitionsOf, recordOf } from '../unit/reconciler/saved.ts';

const NAMESPACE = 'openstack';
const NAME = 'rabbitmq';
const signal = AbortSignal.timeout(600_000);
const doc = readFileSync(new URL('../../docs/upgrade.md', import.meta.url), 'utf8');

/** The shell commands below a heading, one text for each block. */
function commands(heading: string): string[] {
  const section = doc.split(/^#+ /m).find((part) => part.startsWith(`${heading}\n`)) ?? '';
  return [...section.matchAll(/^( *)```sh\n([^]*?)^ *```$/gm)].map(([, indent, text]) =>
    text!.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  );
}

await describeCluster('the commands of docs/upgrade.md', { operator: true, since: 'fieldValidation' }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'upgrade-doc-'));
  const definitions = definitionsOf(3000, 400);
  let cluster: Cluster;
  let opened: OpenCluster;
  let old: { cluster: KubeObject; defaultUser: KubeObject };

  beforeAll(async () => {
    cluster = await startCluster({ operator: true });
    opened = await openCluster({ from: 'kubeconfig', files: [cluster.kubeconfig] });
    const api = connectApi(opened);
    await cluster.createNamespace(NAMESPACE);
    await cluster.api.create(RABBITMQ_CRD);
    const metadata = { namespace: NAMESPACE, name: NAME };
    const upgrading = { annotations: { [ANNOTATION.targetVersion]: '4.2' }, ...metadata };
    const rabbitmq = await eventually('the RabbitMq', () =>
      cluster.api.create({
        apiVersion: 'rabbitmq.openstack.org/v1beta1',
        kind: RABBITMQ.kind,
        metadata: upgrading,
        spec: { targetVersion: '4.2' },
      }),
    );
    await api.patch(
      RABBITMQ,
      metadata,
      {
        status: {
          currentVersion: '4.2',
          upgradePhase: 'WaitingForCluster',
          upgrade: { ...recordOf() } as unknown as JsonObject,
        },
      },
      { subresource: 'status' },
      signal,
    );
    await cluster.api.create({
      apiVersion: 'rabbitmq.com/v1beta1',
      kind: CLUSTER.kind,
      metadata,
      spec: { image: 'rabbitmq:3.10.8-management', replicas: 1, terminationGracePeriodSeconds: 60 },
    });
    old = await eventually('the cluster', async () => {
      const [stored, secret] = [
        await api.get(CLUSTER, NAMESPACE, NAME, signal),
        await api.get(SECRET, NAMESPACE, `${NAME}-default-user`, signal),
      ];
      return stored !== undefined && secret !== undefined && { cluster: stored, defaultUser: secret };
    });
    const record = { ...recordOf(), clusterUid: textAt(old.cluster, 'metadata', 'uid') ?? '' };
    await writeBackup(api, contentOf(definitions, { ...old, rabbitmq, record }), signal);
  });
  afterAll(async () => {
    await opened?.pool.destroy();
    await cluster?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Runs them as an interactive shell would: a command that fails ends nothing. */
  async function run(script: string): Promise<string> {
    const { stdout } = await promisify(execFile)('/bin/sh', ['-c', `${script}\ntrue`], {
      cwd: folder,
      maxBuffer: 2 ** 26,
      env: {
        PATH: `${cluster.tools.controlPlane.folder}:${process.env['PATH']}`,
        KUBECONFIG: cluster.kubeconfig,
        KUBECACHEDIR: join(cluster.folder, 'kubectl'),
        NAMESPACE,
        NAME,
      },
    });
    return stdout;
  }

  it('get everything that was saved, octet by octet', async () => {
    const [files] = commands('What is saved, and where');
    const printed = await run(files!);
    const text = JSON.stringify(definitions);
    expect(readFileSync(join(folder, 'definitions.json'), 'utf8')).toBe(text);
    const sum = createHash('sha256').update(text).digest('hex');
    const username = Buffer.from(textAt(old.defaultUser, 'data', 'username') ?? '', 'base64').toString();
    expect(printed).toBe(`${sum}  definitions.json\n${username}`);
    const saved = JSON.parse(readFileSync(join(folder, 'cluster.json'), 'utf8')) as KubeObject;
    expect(saved['spec']).toEqual(old.cluster['spec']);
  });

  it('make the old cluster again with its credentials, and the reconciler begin anew', async () => {
    const pause = /kubectl -n openstack label [^`\n]+/.exec(doc)![0];
    const [remove, make, begin] = commands('Back to the old version');
    const api = connectApi(opened);
    await run(pause);
    const paused = await api.get(RABBITMQ, NAMESPACE, NAME, signal);
    expect(textAt(paused, 'metadata', 'labels', PAUSE_LABEL)).toBe('true');
    // The cluster-operator makes one again that is deleted while it is reconciled, as this one may be still.
    await eventually('the cluster is gone', async () => {
      await run(remove!);
      return (await api.get(CLUSTER, NAMESPACE, NAME, signal)) === undefined;
    });
    await eventually('the Secret is collected', async () => {
      return (await api.get(SECRET, NAMESPACE, `${NAME}-default-user`, signal)) === undefined;
    });
    await run(make!);
    const made = await eventually('the operator has seen the cluster', async () => {
      const stored = await api.get(CLUSTER, NAMESPACE, NAME, signal);
      return valueAt(stored, 'status') !== undefined && stored;
    });
    expect(made['spec']).toEqual(old.cluster['spec']);
    expect(textAt(made, 'metadata', 'uid')).not.toBe(textAt(old.cluster, 'metadata', 'uid'));
    const secret = await api.get(SECRET, NAMESPACE, `${NAME}-default-user`, signal);
    for (const key of ['username', 'password', 'default_user.conf'])
      expect(textAt(secret, 'data', key)).toBe(textAt(old.defaultUser, 'data', key));
    await run(begin!);
    const rabbitmq = await api.get(RABBITMQ, NAMESPACE, NAME, signal);
    expect(rabbitmq!['status']).toEqual({
      currentVersion: '',
      upgradePhase: '',
      wipeReason: '',
      proxyRequired: false,
    });
    expect(rabbitmq!['spec']).toEqual({});
    expect(textAt(rabbitmq, 'metadata', 'annotations', ANNOTATION.targetVersion)).toBeUndefined();
    expect(textAt(rabbitmq, 'metadata', 'labels', PAUSE_LABEL)).toBeUndefined();
  });
});
