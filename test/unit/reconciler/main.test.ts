import { mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type ReconcilerValues, startReconciler } from '../../../reconciler/main.ts';
import { reconcilerOptions } from '../../../reconciler/options.ts';
import { UsageError } from '../../../common/errors.ts';
import { resolveOptions } from '../../../common/resolve.ts';
import { type PlayedApiServer, playApiServer } from '../../support/api-server.ts';
import { readableLog } from '../webhook/harness.ts';

const RABBITMQS = '/apis/rabbitmq.openstack.org/v1beta1/rabbitmqs';
const LISTS = {
  RabbitMq: RABBITMQS,
  RabbitmqCluster: '/apis/rabbitmq.com/v1beta1/rabbitmqclusters',
  StatefulSet: '/apis/apps/v1/statefulsets',
  Pod: '/api/v1/pods',
  PersistentVolumeClaim: '/api/v1/persistentvolumeclaims',
};

let server: PlayedApiServer;

function values(flags: Record<string, string[]> = {}): ReconcilerValues {
  const given = { kubeconfig: [server.kubeconfig], adminListen: ['127.0.0.1:0'], ...flags };
  return resolveOptions(reconcilerOptions, { flags: given, env: {}, file: undefined }).values;
}

beforeEach(async () => {
  server = await playApiServer();
  for (const [kind, path] of Object.entries(LISTS)) {
    const metadata = { resourceVersion: '1' };
    server.answers.set(path, { object: { kind: `${kind}List`, apiVersion: 'v1', metadata, items: [] } });
  }
});
afterEach(() => server[Symbol.asyncDispose]());

describe('the reconciler', () => {
  it('is ready once it sees everything, and works without a Lease if told so', async () => {
    const { log, lines } = readableLog();
    server.answers.set(LISTS.Pod, 'hang');
    const running = await startReconciler(values({ noLeaderElection: ['true'] }), log);
    const url = `http://127.0.0.1:${running.adminAddress.port}`;
    const ask = async (path: string): Promise<[number, string]> => {
      const response = await fetch(`${url}${path}`);
      return [response.status, await response.text()];
    };
    expect(await ask('/livez')).toEqual([200, 'ok\n']);
    await vi.waitFor(() => expect(server.watches).toHaveLength(4));
    expect(await ask('/readyz')).toEqual([
      503,
      'not ok\nnot all that is watched was seen yet\npods: not seen yet\n',
    ]);
    expect((await ask('/metrics'))[1]).toContain('\nquorumbridge_reconciler_leader 1\n');
    expect(server.requests.filter(({ path }) => path.includes('/leases'))).toEqual([]);
    await running.close();
    await expect(ask('/livez')).rejects.toThrow('fetch failed');
    expect(lines.map(({ msg }) => msg)).toContain('reconciler started');
    expect(server.watches).toEqual([]);
  });

  it('does not start with a configuration for upgrade events that is wrong, and says where it is', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'quorumbridge-events-'));
    const file = join(folder.path, 'messaging.yaml');
    const start = () => startReconciler(values({ eventsConfig: [file] }), readableLog().log);
    await expect(start()).rejects.toThrow(`file ${file} cannot be read`);
    await writeFile(file, 'url: amqp://events:secret@127.0.0.1/\nhots: h');
    const refused = await start().catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(UsageError);
    expect(String(refused)).toContain('messaging.yaml:2:1: unknown key "hots": did you mean "host"?');
    expect(String(refused)).not.toContain('secret');
  });

  it('waits for its Lease, and is ready all the same', async () => {
    const { log, lines } = readableLog();
    const lease = '/apis/coordination.k8s.io/v1/namespaces/ours/leases/mine';
    const spec = { holderIdentity: 'another', leaseDurationSeconds: 15 };
    const metadata = { namespace: 'ours', name: 'mine', resourceVersion: '5' };
    server.answers.set(lease, {
      object: { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata, spec },
    });
    const running = await startReconciler(values({ lease: ['ours/mine'] }), log);
    const url = `http://127.0.0.1:${running.adminAddress.port}/readyz`;
    await vi.waitFor(async () => {
      expect(await (await fetch(url)).text()).toBe('ok\nanother holds the Lease\n');
    });
    await running.close();
    expect(lines.map(({ msg }) => msg)).not.toContain('leading');
  });

  it('says which option is wrong when there is no cluster to be had', async () => {
    const { log } = readableLog();
    const wrong = values({ kubeconfig: [`${tmpdir()}/there-is-none`] });
    await expect(startReconciler(wrong, log)).rejects.toThrow(
      /option --kubeconfig: .*there-is-none cannot be read: name the kubeconfig of the cluster/,
    );
  });

  it('leaves nothing open when it can not listen', async () => {
    const { log } = readableLog();
    const first = await startReconciler(values({ noLeaderElection: ['true'] }), log);
    const taken = `127.0.0.1:${first.adminAddress.port}`;
    await expect(startReconciler(values({ adminListen: [taken] }), log)).rejects.toThrow(/cannot listen on/);
    await first.close();
    expect(server.watches).toEqual([]);
  });
});

describe('the options of the reconciler', () => {
  it.each([
    ['defaultVersion', '4'],
    ['defaultVersion', 'v4.2'],
    ['namespace', 'Upper'],
    ['namespace', 'a/b'],
    ['wipePolicy', 'maybe'],
    ['workers', '0'],
    ['lease', 'name-alone'],
    ['leaseDuration', '1s'],
    ['readyTimeout', '2d'],
  ] as const)('refuse %s %s', (option, text) => {
    expect(() => values({ [option]: [text] })).toThrow(/expected/);
  });

  it('take what people write', () => {
    const given = values({
      namespace: ['openstack', 'two'],
      readyTimeout: ['45m'],
      defaultVersion: ['4.2.1'],
    });
    expect(given).toMatchObject({
      namespace: ['openstack', 'two'],
      readyTimeout: 2700,
      defaultVersion: '4.2.1',
      wipePolicy: 'refuse',
      requireApproval: false,
      lease: { namespace: 'quorumbridge-system', name: 'quorumbridge-reconciler' },
    });
  });
});
