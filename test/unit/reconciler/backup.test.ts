import { describe, expect, it } from 'vitest';
import { textAt, valueAt } from '../../../common/kube/json.ts';
import { SECRET } from '../../../common/kube/resources.ts';
import { type BackupContent, readBackup, readSaved, writeBackup } from '../../../reconciler/backup.ts';
import { Crash, MemoryApi } from '../../support/memory-api.ts';
import { NAME, NAMESPACE, contentOf, definitionsOf, rabbitmqOf, recordOf, secretOf } from './saved.ts';

const { signal } = new AbortController();
const REF = { namespace: NAMESPACE, name: NAME, uid: 'uid-of-rabbitmq', sequence: 1 };
/** Three Secrets' worth. */
const LARGE = definitionsOf(1500, 750);

function names(api: MemoryApi): string[] {
  return api
    .all(SECRET)
    .map((secret) => textAt(secret, 'metadata', 'name') ?? '')
    .sort();
}

/** Lets `edit` change a Secret that is stored. */
function tamper(api: MemoryApi, name: string, data: Record<string, string>): void {
  const secret = api.peek(SECRET, NAMESPACE, name)!;
  const encoded = Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString('base64')]);
  api.put(SECRET, { ...secret, data: Object.fromEntries(encoded) });
}

describe('a backup', () => {
  it('is read back whole: definitions, cluster and credentials', async () => {
    const api = new MemoryApi();
    const record = await writeBackup(api, contentOf(LARGE), signal);
    expect(record).toMatchObject({ secret: 'rabbit-upgrade-1', messages: 7, queues: 1 });
    expect(record.takenAt).toBe('2026-11-21T12:01:00.000Z');
    expect(await readBackup(api, REF, signal)).toEqual({ state: 'complete', record });
    const saved = await readSaved(api, REF, signal);
    expect(saved.definitions).toEqual(LARGE);
    expect(saved.defaultUser).toEqual({
      username: 'default_user_x',
      password: 'old password',
      'default_user.conf': 'default_user = default_user_x\ndefault_pass = old password\n',
      port: '5672',
    });
    expect(saved.cluster.metadata).toEqual({
      namespace: NAMESPACE,
      name: NAME,
      uid: 'uid-of-cluster',
      labels: { mine: 'yes' },
    });
    expect(valueAt(saved.cluster, 'spec', 'replicas')).toBe(3);
    expect(saved.holding).toEqual([{ vhost: '/', name: 'orders', messages: 7 }]);
  });

  it('is in Secrets that a cluster takes, which belong to the RabbitMq and say for which upgrade', async () => {
    const api = new MemoryApi();
    await writeBackup(api, contentOf(LARGE), signal);
    expect(names(api)).toEqual([
      'rabbit-default-user-backup',
      'rabbit-upgrade-1',
      'rabbit-upgrade-1-a-0',
      'rabbit-upgrade-1-a-1',
    ]);
    for (const secret of api.all(SECRET)) {
      const size = Object.values(valueAt(secret, 'data') as Record<string, string>)
        .map((text) => Buffer.from(text, 'base64').length)
        .reduce((sum, length) => sum + length);
      expect(size).toBeLessThanOrEqual(1024 * 1024);
      expect(secret.metadata).toMatchObject({
        labels: { 'app.kubernetes.io/managed-by': 'quorumbridge', 'quorumbridge.io/rabbitmq': NAME },
        annotations: { 'quorumbridge.io/upgrade': '1' },
        ownerReferences: [
          { apiVersion: 'rabbitmq.openstack.org/v1beta1', kind: 'RabbitMq', name: NAME, uid: REF.uid },
        ],
      });
    }
  });

  it('is finished by the same call after a crash before or behind any write, also with other definitions', async () => {
    const writes = await countWrites();
    expect(writes).toBe(4);
    for (const when of ['before', 'after'] as const) {
      for (let at = 1; at <= writes; at += 1) {
        const api = new MemoryApi();
        let count = 0;
        api[when] = () => {
          count += 1;
          if (count === at) throw new Crash();
        };
        await expect(writeBackup(api, contentOf(LARGE), signal)).rejects.toThrow(Crash);
        const isWritten = when === 'after' && at === writes;
        expect((await readBackup(api, REF, signal)).state).toBe(isWritten ? 'complete' : 'absent');
        api[when] = () => {};
        const later = definitionsOf(10);
        await writeBackup(api, contentOf(later), signal);
        expect((await readSaved(api, REF, signal)).definitions).toEqual(later);
      }
    }
  });

  it('is written anew beside what the index names, in two sets by turns, and no Secret is listed or deleted', async () => {
    const api = new MemoryApi();
    api.list = () => Promise.reject(new Error('listed'));
    api.remove = () => Promise.reject(new Error('deleted'));
    for (const part of ['a', 'b', 'a', 'b']) {
      const definitions = definitionsOf(part.length + names(api).length);
      const before = (await readBackup(api, REF, signal)).state;
      const states: string[] = [];
      api.after = () => void readBackup(api, REF, signal).then(({ state }) => states.push(state));
      await writeBackup(api, contentOf(definitions), signal);
      api.after = () => {};
      expect(new Set([before, ...states])).toEqual(new Set([before, 'complete']));
      expect((await readSaved(api, REF, signal)).definitions).toEqual(definitions);
      expect(names(api)).toContain(`rabbit-upgrade-1-${part}-0`);
    }
    expect(names(api)).toHaveLength(4);
  });

  async function countWrites(): Promise<number> {
    const api = new MemoryApi();
    let count = 0;
    api.before = () => void (count += 1);
    await writeBackup(api, contentOf(LARGE), signal);
    return count;
  }

  it('has the credentials that were there first, and says so when others come', async () => {
    const api = new MemoryApi();
    await writeBackup(api, contentOf(definitionsOf(1)), signal);
    const other = contentOf(definitionsOf(1), { defaultUser: secretOf('new password') });
    await expect(writeBackup(api, other, signal)).rejects.toThrow(
      'Secret rabbit-default-user-backup was saved for this upgrade with other credentials than Secret rabbit-default-user has: ' +
        'delete the one of them that is wrong',
    );
    expect((await readSaved(api, REF, signal)).defaultUser['password']).toBe('old password');
  });

  it('of the next upgrade, or of another RabbitMq of that name, takes over the credentials', async () => {
    for (const more of [
      { record: recordOf(2) },
      { rabbitmq: rabbitmqOf('uid-of-another') },
    ] satisfies Partial<BackupContent>[]) {
      const api = new MemoryApi();
      await writeBackup(api, contentOf(definitionsOf(1)), signal);
      const content = contentOf(definitionsOf(2), { ...more, defaultUser: secretOf('new password') });
      const ref = {
        ...REF,
        uid: textAt(content.rabbitmq, 'metadata', 'uid')!,
        sequence: content.record.sequence,
      };
      expect(await readBackup(api, ref, signal)).toEqual({ state: 'absent' });
      await writeBackup(api, content, signal);
      expect((await readSaved(api, ref, signal)).defaultUser['password']).toBe('new password');
      expect((await readBackup(api, REF, signal)).state).not.toBe('complete');
    }
  });

  it.each<[string, (api: MemoryApi) => void, string]>([
    [
      'a part is missing',
      (api) => api.drop(SECRET, NAMESPACE, names(api).at(-1)!),
      'Secret rabbit-upgrade-1-a-1 is missing',
    ],
    [
      'a part is another',
      (api) => tamper(api, names(api).at(-1)!, { 'definitions.json.gz': 'x' }),
      'the saved definitions cannot be unpacked',
    ],
    [
      'the index is of other definitions',
      (api) => {
        const index = Buffer.from(
          textAt(api.peek(SECRET, NAMESPACE, 'rabbit-upgrade-1'), 'data', 'index.json')!,
          'base64',
        ).toString();
        const cluster = Buffer.from(
          textAt(api.peek(SECRET, NAMESPACE, 'rabbit-upgrade-1'), 'data', 'cluster.json')!,
          'base64',
        ).toString();
        const wrong = index.replace(/"sha256":"..../, '"sha256":"zzzz');
        tamper(api, 'rabbit-upgrade-1', { 'index.json': wrong, 'cluster.json': cluster });
      },
      'the saved definitions are not those that were exported: their SHA-256 differs',
    ],
    [
      'the index is unreadable',
      (api) => tamper(api, 'rabbit-upgrade-1', { 'index.json': '{' }),
      'index.json of Secret rabbit-upgrade-1 is not valid JSON',
    ],
    [
      'the credentials are gone',
      (api) => api.drop(SECRET, NAMESPACE, 'rabbit-default-user-backup'),
      'Secret rabbit-default-user-backup is missing',
    ],
    [
      'the credentials are empty',
      (api) => tamper(api, 'rabbit-default-user-backup', { username: 'x', password: '' }),
      'Secret rabbit-default-user-backup has no password',
    ],
  ])('is incomplete where %s', async (_, spoil, why) => {
    const api = new MemoryApi();
    await writeBackup(api, contentOf(LARGE), signal);
    spoil(api);
    const found = await readBackup(api, REF, signal);
    expect(found).toEqual({ state: 'incomplete', why });
  });

  it('is not made of another cluster, of half credentials, over others’ Secrets, or where it does not fit', async () => {
    const api = new MemoryApi();
    const content = contentOf(definitionsOf(1));
    const other = { ...content.record, clusterUid: 'uid-of-another' };
    await expect(writeBackup(api, { ...content, record: other }, signal)).rejects.toThrow(
      'the RabbitmqCluster is another one than the upgrade began with: nothing is saved',
    );
    await expect(writeBackup(api, { ...content, defaultUser: secretOf('', 'user') }, signal)).rejects.toThrow(
      'Secret rabbit-default-user has no password',
    );
    const spec = { config: 'x'.repeat(1024 * 1024) };
    await expect(
      writeBackup(api, { ...content, cluster: { ...content.cluster, spec } }, signal),
    ).rejects.toThrow(/^the RabbitmqCluster has \d+ octets, more than the 1 MiB of a Secret$/);
    const huge = contentOf(definitionsOf(48, 1024 * 1024));
    await expect(writeBackup(api, huge, signal)).rejects.toThrow(
      /^the definitions have \d+ octets when packed, which would take 7\d Secrets: 64 is the most; /,
    );
    expect(names(api)).toEqual([]);
    api.put(SECRET, {
      ...secretOf('somebody else’s'),
      metadata: { namespace: NAMESPACE, name: 'rabbit-default-user-backup' },
    });
    await expect(writeBackup(api, content, signal)).rejects.toThrow(
      "Secret rabbit-default-user-backup is not Quorumbridge's: delete or rename it",
    );
    expect(names(api)).toEqual(['rabbit-default-user-backup']);
  });
});
