import { Writable } from 'node:stream';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { runCommandLine } from '../../../cli/run.ts';
import type { JsonObject, KubeObject } from '../../../common/kube/types.ts';
import { reportOf, settledOutcomes } from '../../../reconciler/broker/report.ts';
import { translateDefinitions } from '../../../reconciler/broker/translate.ts';
import type { UpgradeReport } from '../../../reconciler/upgrade-report.ts';
import { type PlayedApiServer, apiPath, playApiServer } from '../../support/api-server.ts';

const RECORD = {
  sequence: 2,
  from: '3.10.8',
  to: '4.0',
  reason: 'VersionUpgrade',
  clusterUid: 'u',
  startedAt: '2026-11-21T12:00:00Z',
  phaseStartedAt: '2026-11-21T12:00:00Z',
};
const FINISHED = {
  ...RECORD,
  backup: { secret: 's', sha256: 'x', takenAt: '2026-11-21T12:01:00Z', messages: 7, queues: 2 },
  importedAt: '2026-11-21T12:09:00Z',
  finishedAt: '2026-11-21T12:10:00Z',
};

/** The report about some definitions, made as the reconciler makes it. */
function reportOfSome(): UpgradeReport {
  const queue = { vhost: '/', durable: true, auto_delete: false, arguments: {} };
  const binding = { vhost: '/', source: 'x', destination_type: 'queue', routing_key: 'k', arguments: {} };
  const shovel = { vhost: '/', component: 'shovel', name: 'away', value: { 'src-uri': 'amqp://u:secret@h' } };
  const saved: JsonObject = {
    users: [{ name: 'alice', password_hash: 'h' }],
    parameters: [shovel],
    policies: [{ vhost: '/', name: 'ha-all', pattern: '', definition: { 'ha-mode': 'all' }, priority: 0 }],
    queues: [
      { ...queue, name: 'orders' },
      { ...queue, name: 'mail, fast', arguments: { 'x-max-priority': 3 } },
      { ...queue, name: 'orders', vhost: 'other' },
      { ...queue, name: 'amq.gen-1' },
    ],
    bindings: [{ ...binding, destination: 'orders' }],
  };
  const target = { major: 4, minor: 0, patch: 5 };
  const { outcomes } = translateDefinitions(saved, { form: 'quorum', target });
  const definition = { kind: 'parameters', object: shovel } as const;
  const refusals = [{ definition, said: 'component shovel not found: amqp://u:secret@h' }];
  return {
    formatVersion: 1,
    sequence: 2,
    from: '3.10.8',
    to: '4.0',
    reason: 'VersionUpgrade',
    definitions: reportOf(settledOutcomes(outcomes, refusals, [{ definition, fields: undefined }])),
    lost: {
      messages: 7,
      queues: 2,
      holding: [
        { vhost: '/', name: 'down', messages: undefined },
        { vhost: '/', name: 'orders', messages: 7 },
      ],
    },
  };
}

let server: PlayedApiServer;
beforeAll(async () => {
  server = await playApiServer();
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(() => server.answers.clear());

function play(status: JsonObject | undefined, report?: string): void {
  if (status !== undefined) {
    const object: KubeObject = {
      apiVersion: 'rabbitmq.openstack.org/v1beta1',
      kind: 'RabbitMq',
      metadata: { name: 'rabbit', namespace: 'openstack' },
      status,
    };
    server.answers.set(apiPath('rabbit'), { object });
  }
  if (report !== undefined) {
    const metadata = { name: 'rabbit-upgrade-2-report', namespace: 'openstack' };
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { 'report.json': report } };
    server.answers.set('/api/v1/namespaces/openstack/configmaps/rabbit-upgrade-2-report', { object });
  }
}

/** Runs `quorumbridge upgrade` against the played API server. */
async function upgrade(...args: string[]) {
  let [out, err] = ['', ''];
  const sink = (take: (text: string) => void): Writable =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        take(chunk.toString());
        done();
      },
    });
  const code = await runCommandLine(
    ['upgrade', ...args],
    { upgrade: () => import('../../../cli/upgrade.ts') },
    {
      stdin: process.stdin,
      stdout: sink((text) => (out += text)),
      stderr: sink((text) => (err += text)),
      env: { KUBECONFIG: server.kubeconfig },
    },
  );
  return { code, out, err };
}

const asked = ['report', 'rabbit', '-n', 'openstack'];

describe('quorumbridge upgrade report', () => {
  it('tells what was kept, changed, dropped, refused and lost, and when', async () => {
    play({ lastUpgrade: FINISHED }, JSON.stringify(reportOfSome()));
    const { code, out } = await upgrade(...asked);
    const type =
      'arguments.x-queue-type: none to "quorum" (the replicated type that RabbitMQ 4 has in the place of mirrored queues)';
    expect(out).toBe(
      [
        'Upgrade 2 of RabbitMq openstack/rabbit from 3.10.8 to 4.0 (VersionUpgrade), finished',
        '',
        '  2026-11-21T12:00:00Z  began',
        '  2026-11-21T12:01:00Z  credentials, cluster and definitions were saved',
        '  2026-11-21T12:09:00Z  the definitions were brought back',
        '  2026-11-21T12:10:00Z  finished',
        '',
        '7 messages in 2 queues: lost with the old storage.',
        '  down in /: nobody knows how many',
        '  orders in /: 7',
        '',
        'Definitions: 2 kept, 3 changed, 2 dropped, 1 refused',
        '  users: 1 kept',
        '  parameters: 1 refused',
        '  policies: 1 dropped',
        '  queues: 3 changed, 1 dropped',
        '  bindings: 1 kept',
        '',
        'REFUSED: 1 of parameters: the broker refuses it',
        '    in virtual host /: "shovel away"',
        '',
        'DROPPED: 1 of policies: it only mirrors queues, which RabbitMQ 4 does not',
        '    in virtual host /: ha-all',
        '',
        'CHANGED: 2 of queues',
        `  ${type}`,
        '    in virtual host /: orders',
        '    in virtual host other: orders',
        '',
        'CHANGED: 1 of queues',
        '  arguments.x-max-priority: 3 to none (quorum queues refuse it)',
        `  ${type}`,
        '    in virtual host /: "mail, fast"',
        '',
        'DROPPED: 1 of queues: the broker named it, for a client that gets another one when it comes back',
        '    in virtual host /: amq.gen-1',
        '',
      ].join('\n'),
    );
    expect(code).toBe(0);
  });

  it('is Markdown for a ticket, in which names stay text', async () => {
    const report = JSON.stringify(reportOfSome()).replaceAll('ha-all', '<b>@all|`x`');
    play({ lastUpgrade: FINISHED }, report);
    const { out } = await upgrade(...asked, '-o', 'markdown');
    expect(out).toContain(
      '# Upgrade 2 of RabbitMq openstack/rabbit from 3.10.8 to 4.0 (VersionUpgrade), finished\n',
    );
    expect(out).toContain('## Definitions: 2 kept, 3 changed, 2 dropped, 1 refused\n');
    expect(out).toContain(
      '| 1 of policies dropped | in virtual host /: &lt;b&gt;&#64;all\\|\\`x\\` | it only mirrors queues, which RabbitMQ 4 does not |\n',
    );
  });

  it('is JSON for programs', async () => {
    const report = reportOfSome();
    play({ lastUpgrade: FINISHED }, JSON.stringify(report));
    const { out } = await upgrade(...asked, '--output=json');
    expect(JSON.parse(out)).toEqual({
      namespace: 'openstack',
      name: 'rabbit',
      sequence: 2,
      from: '3.10.8',
      to: '4.0',
      reason: 'VersionUpgrade',
      phase: '',
      why: null,
      timeline: [
        { at: '2026-11-21T12:00:00Z', what: 'began' },
        { at: '2026-11-21T12:01:00Z', what: 'credentials, cluster and definitions were saved' },
        { at: '2026-11-21T12:09:00Z', what: 'the definitions were brought back' },
        { at: '2026-11-21T12:10:00Z', what: 'finished' },
      ],
      report: JSON.parse(JSON.stringify(report)) as unknown,
    });
  });

  it('is about the upgrade under way rather than the last one, and says when the rest comes', async () => {
    const before = { ...FINISHED, sequence: 1 };
    play({ upgrade: RECORD, upgradePhase: 'WaitingForPods', lastUpgrade: before });
    const { code, out } = await upgrade(...asked);
    expect(out).toBe(
      [
        'Upgrade 2 of RabbitMq openstack/rabbit from 3.10.8 to 4.0 (VersionUpgrade), in phase WaitingForPods',
        '',
        '  2026-11-21T12:00:00Z  began',
        '',
        'There is no report: it comes when the definitions are brought back.',
        '',
      ].join('\n'),
    );
    expect(code).toBe(0);
  });

  it.each([
    [undefined, 'ConfigMap openstack/rabbit-upgrade-2-report is not there'],
    ['{', 'ConfigMap openstack/rabbit-upgrade-2-report has no report that can be read'],
    ['{"formatVersion":2}', 'ConfigMap openstack/rabbit-upgrade-2-report has no report that can be read'],
  ])('says where the report should be: %s', async (report, why) => {
    play({ lastUpgrade: FINISHED }, report);
    expect((await upgrade(...asked)).out).toContain(`There is no report: ${why}.\n`);
  });

  it.each<[string, string[], JsonObject | undefined, string]>([
    [
      'no RabbitMq',
      asked,
      undefined,
      'there is no RabbitMq openstack/rabbit: name another, or another --namespace',
    ],
    ['no upgrade', asked, { currentVersion: '4.0' }, 'RabbitMq openstack/rabbit has had no upgrade'],
    [
      'another action',
      ['begin', 'rabbit'],
      {},
      'option --action: "begin" is not valid: expected one of report',
    ],
  ])('says what is wrong: %s', async (_, args, status, says) => {
    play(status);
    const { code, err, out } = await upgrade(...args);
    expect(err).toBe(`quorumbridge upgrade: ${says}\nSee 'quorumbridge upgrade --help'.\n`);
    expect({ code, out }).toEqual({ code: 2, out: '' });
  });
});
