// A backup in a real API server: its limits on Secrets, its conflicts, and what is read back.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Api, connectApi } from '../../common/kube/api.ts';
import { textAt, valueAt } from '../../common/kube/json.ts';
import { type OpenCluster, openCluster } from '../../common/kube/open.ts';
import { CONFIG_MAP, NAMESPACE as NAMESPACES, SECRET } from '../../common/kube/resources.ts';
import { readBackup, readSaved, writeBackup } from '../../reconciler/backup.ts';
import { reportOf } from '../../reconciler/broker/report.ts';
import { translateDefinitions } from '../../reconciler/broker/translate.ts';
import { writeReport } from '../../reconciler/upgrade-report.ts';
import { describeCluster } from '../support/describe-cluster.ts';
import { type Cluster, startCluster } from '../support/kube.ts';
import { NAME, NAMESPACE, contentOf, definitionsOf, recordOf } from '../unit/reconciler/saved.ts';

const signal = AbortSignal.timeout(600_000);
const REF = { namespace: NAMESPACE, name: NAME, uid: 'uid-of-rabbitmq', sequence: 1 };

await describeCluster('a backup', {}, () => {
  let cluster: Cluster;
  let opened: OpenCluster;
  let api: Api;
  beforeAll(async () => {
    cluster = await startCluster({ controllers: false });
    opened = await openCluster({ from: 'kubeconfig', files: [cluster.kubeconfig] });
    api = connectApi(opened);
    const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: NAMESPACE } };
    await api.create(NAMESPACES, namespace, signal);
  });
  afterAll(async () => {
    await opened?.pool.destroy();
    await cluster?.stop();
  });

  it('of 5,000 queues of which each has 1 KiB that cannot be packed is stored, and read back octet by octet', async () => {
    const definitions = definitionsOf(5000, 768);
    const record = await writeBackup(api, contentOf(definitions), signal);
    expect(await readBackup(api, REF, signal)).toEqual({ state: 'complete', record });
    const saved = await readSaved(api, REF, signal);
    expect(JSON.stringify(saved.definitions)).toBe(JSON.stringify(definitions));
    const { items } = await api.list(SECRET, { namespace: NAMESPACE }, signal);
    const parts = items.filter((item) => /-\d$/.test(textAt(item, 'metadata', 'name') ?? ''));
    expect(parts.length).toBeGreaterThan(5);
  });

  it('is written anew beside what was saved before, and then over it', async () => {
    for (const [count, part] of [
      [3, 'b'],
      [4, 'a'],
    ] as const) {
      const definitions = definitionsOf(count);
      await writeBackup(api, contentOf(definitions), signal);
      expect((await readSaved(api, REF, signal)).definitions).toEqual(definitions);
      const index = await api.get(SECRET, NAMESPACE, 'rabbit-upgrade-1', signal);
      const text = Buffer.from(textAt(index, 'data', 'index.json') ?? '', 'base64').toString();
      expect(valueAt(JSON.parse(text), 'chunks')).toEqual([`rabbit-upgrade-1-${part}-0`]);
    }
  });

  it('gives a report that fits into a ConfigMap, however many queues were changed, and that can be written again', async () => {
    const content = contentOf(definitionsOf(20_000));
    const saved = await readSaved(api, REF, signal);
    const target = { major: 4, minor: 0, patch: 5 };
    const definitions = definitionsOf(20_000);
    const report = reportOf(translateDefinitions(definitions, { form: 'quorum', target }).outcomes);
    const { rabbitmq } = content;
    for (const record of [recordOf(), { ...recordOf(), to: '4.3' }]) {
      await writeReport(api, { rabbitmq, record, report, saved }, signal);
    }
    const stored = await api.get(CONFIG_MAP, NAMESPACE, 'rabbit-upgrade-1-report', signal);
    const text = textAt(stored, 'data', 'report.json')!;
    expect(text.length).toBeLessThan(1024 * 1024);
    const written = JSON.parse(text) as Parameters<typeof valueAt>[0];
    expect(valueAt(written, 'to')).toBe('4.3');
    expect(valueAt(written, 'definitions', 'groups', 0, 'count')).toBe(20_000);
    expect(valueAt(written, 'lost', 'messages')).toBe(7);
  });
});
