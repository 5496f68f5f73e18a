import { execFile } from 'node:child_process';
import { globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MANIFESTS } from '../../support/manifests.ts';
import { HOME } from '../../support/processes.ts';
import { type PrometheusRule, objectsIn } from './sources.ts';

const run = promisify(execFile);

/** The path of promtool, and why there is none. */
const [promtool, why] = await run(join(HOME, 'test/support/promtool.sh')).then(
  ({ stdout }) => [stdout.trim(), ''],
  ({ stderr = '' }: { stderr?: string }) => ['', ` (${stderr.trim().split('\n').at(-1)})`],
);

const groups = objectsIn(...globSync('components/monitoring/*.yaml', { cwd: MANIFESTS }).sort())
  .filter(({ kind }) => kind === 'PrometheusRule')
  .flatMap((object) => (object as PrometheusRule).spec.groups);
const alerts = new Map(groups.flatMap(({ rules }) => rules).map((rule) => [rule.alert, rule]));

/** Metrics without `quorumbridge_`, in promtool's notation: a value each minute from time 0. */
type Series = Record<string, string>;

interface Case {
  fires: Series;
  /** Minutes. */
  at: number;
  /** What was not yet, a moment before. */
  notAt?: number;
  labels?: Record<string, string>;
  summary: string;
  quiet: Series;
}

const POD = { namespace: 'q', pod: 'p' };
const DAY = 86_400;
const CERTIFICATE = 'webhook_certificate_not_after_timestamp_seconds';
const CA = 'webhook_ca_not_after_timestamp_seconds';

const cases: Record<string, Case> = {
  QuorumbridgeWebhookDown: {
    fires: {},
    at: 6,
    notAt: 4,
    labels: {},
    summary: 'No replica of the Quorumbridge webhook can be scraped.',
    quiet: { [CERTIFICATE]: `${90 * DAY}x60` },
  },
  QuorumbridgeCertificateExpires: {
    fires: { [CERTIFICATE]: `${6 * DAY}x120` },
    at: 61,
    notAt: 59,
    summary: 'The certificate of p ends within a week and was not renewed.',
    quiet: { [CERTIFICATE]: `${8 * DAY}x120` },
  },
  QuorumbridgeCaExpires: {
    fires: { [CA]: `${13 * DAY}x120` },
    at: 61,
    notAt: 59,
    summary: 'The CA of the certificate of p ends within two weeks.',
    // 0 where the webhook knows none.
    quiet: { [CA]: '0x120', [`${CA}{of="another"}`]: `${15 * DAY}x120` },
  },
  QuorumbridgeCaBundleNotWritten: {
    fires: { webhook_ca_bundle_failures_total: '0+1x60' },
    at: 25,
    notAt: 10,
    summary: 'p cannot keep its Secret or the caBundle of the webhook configurations.',
    quiet: { webhook_ca_bundle_failures_total: '0x10 3x50' },
  },
  QuorumbridgeCertificateNotReloaded: {
    fires: { webhook_certificate_reload_failures_total: '0+1x60' },
    at: 25,
    notAt: 10,
    summary: 'p cannot read its certificate and keeps the old one.',
    quiet: { webhook_certificate_reload_failures_total: '0x10 3x50' },
  },
  QuorumbridgeInternalErrors: {
    fires: { webhook_internal_errors_total: '0x10 1x50' },
    at: 12,
    summary: 'p answered an admission with HTTP 500.',
    quiet: { webhook_internal_errors_total: '1x60' },
  },
  QuorumbridgeRequestsRefused: {
    fires: { 'webhook_bad_requests_total{reason="UnknownKind"}': '0+1x60' },
    at: 20,
    notAt: 10,
    labels: { ...POD, reason: 'UnknownKind' },
    summary: 'p refuses requests (UnknownKind).',
    quiet: { 'webhook_bad_requests_total{reason="UnknownKind"}': '0x10 1x10 1x40' },
  },
  QuorumbridgeOwnersUnknown: {
    fires: { 'webhook_owner_lookups_total{result="unknown",source="live"}': '0+1x60' },
    at: 20,
    notAt: 10,
    summary: 'p cannot read RabbitMqs.',
    quiet: { 'webhook_owner_lookups_total{result="found",source="live"}': '0+1x60' },
  },
  QuorumbridgeAdmissionsSlow: {
    fires: {
      'webhook_admission_seconds_total{kind="a"}': '0+3x60',
      'webhook_admission_seconds_total{kind="b"}': '0+3x60',
      'webhook_admissions_total{kind="a"}': '0+1x60',
      'webhook_admissions_total{kind="b"}': '0+2x60',
    },
    at: 20,
    notAt: 8,
    summary: 'Admissions take 2s on average at p.',
    quiet: { webhook_admission_seconds_total: '0+1x60', webhook_admissions_total: '0+2x60' },
  },
  QuorumbridgeReconcilerWithoutLeader: {
    fires: { reconciler_leader: '0x60' },
    at: 6,
    notAt: 4,
    labels: {},
    summary: 'No replica of the Quorumbridge reconciler works.',
    quiet: { reconciler_leader: '1x60' },
  },
  QuorumbridgeUpgradeStuck: {
    fires: { 'reconciler_phase_age_seconds{name="rabbit",phase="WaitingForPods"}': '3540+60x60' },
    at: 5,
    notAt: 1,
    labels: { ...POD, name: 'rabbit', phase: 'WaitingForPods' },
    summary: 'The upgrade of rabbit has been in WaitingForPods for 1h 4m 0s.',
    quiet: { 'reconciler_phase_age_seconds{name="rabbit",phase="WaitingForPods"}': '0+60x58' },
  },
  QuorumbridgeReconcilesFail: {
    fires: { 'reconciler_reconciles_total{result="failed"}': '0+1x60' },
    at: 30,
    notAt: 10,
    summary: 'p fails again and again to reconcile.',
    quiet: {
      'reconciler_reconciles_total{result="failed"}': '0x10 4x50',
      'reconciler_reconciles_total{result="done"}': '0+9x60',
    },
  },
  QuorumbridgeReconcilerNotWatching: {
    fires: { 'reconciler_watching{resource="rabbitmqs"}': '0x60' },
    at: 16,
    notAt: 14,
    labels: { ...POD, resource: 'rabbitmqs' },
    summary: 'p does not see changes of rabbitmqs.',
    quiet: { 'reconciler_watching{resource="rabbitmqs"}': '1x60' },
  },
  QuorumbridgeRabbitMqDegraded: {
    fires: { 'reconciler_condition{name="rabbit",type="Degraded"}': '1x60' },
    at: 16,
    notAt: 14,
    labels: { ...POD, name: 'rabbit', type: 'Degraded' },
    summary: 'RabbitMq rabbit is degraded.',
    quiet: {
      'reconciler_condition{name="rabbit",type="Degraded"}': '0x60',
      'reconciler_condition{name="rabbit",type="Ready"}': '1x60',
    },
  },
  QuorumbridgeTopologyNotApplied: {
    fires: { 'reconciler_condition{name="rabbit",type="TopologyApplied"}': '0x60' },
    at: 16,
    notAt: 14,
    labels: { ...POD, name: 'rabbit', type: 'TopologyApplied' },
    summary: 'The messaging topology of RabbitMq rabbit is not declared.',
    quiet: {
      'reconciler_condition{name="rabbit",type="TopologyApplied"}': '-1x60',
      'reconciler_condition{name="other",type="TopologyApplied"}': '1x60',
    },
  },
  QuorumbridgeProxyBackendUnreachable: {
    fires: {
      'proxy_errors_total{code="BACKEND_UNREACHABLE"}': '0+1x60',
      'proxy_errors_total{code="BACKEND_CONNECT_TIMEOUT"}': '0x60',
    },
    at: 12,
    notAt: 4,
    summary: 'p refuses clients, since RabbitMQ cannot be reached.',
    quiet: {
      'proxy_errors_total{code="BACKEND_UNREACHABLE"}': '0x10 3x50',
      'proxy_errors_total{code="CLIENT_LOST"}': '0+1x60',
    },
  },
  QuorumbridgeProxyBreakerOpen: {
    fires: {
      'proxy_breaker_state{state="open"}': '1x60',
      'proxy_breaker_state{state="closed"}': '0x60',
    },
    at: 3,
    notAt: 1,
    summary: 'The circuit breaker of p is open.',
    quiet: {
      'proxy_breaker_state{state="open"}': '0x10 1 0x50',
      'proxy_breaker_state{state="closed"}': '1x60',
    },
  },
  QuorumbridgeProxyInternalErrors: {
    fires: { 'proxy_errors_total{code="INTERNAL"}': '0x10 1x50' },
    at: 12,
    labels: { ...POD, code: 'INTERNAL' },
    summary: 'p ended a connection because of a bug of its own.',
    quiet: { 'proxy_errors_total{code="INTERNAL"}': '1x60' },
  },
  QuorumbridgeProxyFull: {
    fires: { 'proxy_errors_total{code="CONNECTION_LIMIT"}': '0+1x60' },
    at: 12,
    notAt: 4,
    labels: { ...POD, code: 'CONNECTION_LIMIT' },
    summary: 'p refuses clients, since a limit of connections is reached.',
    quiet: { 'proxy_errors_total{code="CONNECTION_LIMIT"}': '0x10 5x50' },
  },
  QuorumbridgeProxySlow: {
    fires: {
      'proxy_latency_seconds_bucket{direction="client_to_broker",le="0.025"}': '0+1x60',
      'proxy_latency_seconds_bucket{direction="client_to_broker",le="0.1"}': '0+2x60',
      'proxy_latency_seconds_bucket{direction="client_to_broker",le="+Inf"}': '0+2x60',
    },
    at: 14,
    notAt: 8,
    summary: 'p takes 98.5ms to pass octets on, in one of a hundred cases.',
    quiet: {
      'proxy_latency_seconds_bucket{direction="client_to_broker",le="0.025"}': '0+199x60',
      'proxy_latency_seconds_bucket{direction="client_to_broker",le="0.1"}': '0+200x60',
      'proxy_latency_seconds_bucket{direction="client_to_broker",le="+Inf"}': '0+200x60',
    },
  },
  QuorumbridgeProxyCertificateExpires: {
    fires: { proxy_certificate_expiry_timestamp_seconds: `${6 * DAY}x120` },
    at: 61,
    notAt: 59,
    summary: "The certificate of p's TLS listeners ends within a week.",
    // 0 where there is none.
    quiet: { proxy_certificate_expiry_timestamp_seconds: '0x120' },
  },
  QuorumbridgeProxyAuditLinesDropped: {
    fires: { 'proxy_audit_lines_total{result="dropped"}': '0x10 1x50' },
    at: 12,
    labels: { ...POD, result: 'dropped' },
    summary: 'p has lost lines of its audit log.',
    quiet: { 'proxy_audit_lines_total{result="written"}': '0+1x60' },
  },
  QuorumbridgeProxyReloadFailed: {
    fires: { proxy_config_last_reload_successful: '1x10 0x50' },
    at: 17,
    notAt: 14,
    summary: 'p keeps an older configuration, since the new one is not valid.',
    quiet: { proxy_config_last_reload_successful: '1x60' },
  },
  QuorumbridgePoolExhausted: {
    fires: { proxy_pool_wait_timeouts_total: '0x10 1x50' },
    at: 14,
    notAt: 12,
    summary: 'Clients of p get no channel to RabbitMQ.',
    quiet: { proxy_pool_wait_timeouts_total: '7x60' },
  },
  QuorumbridgePoolUpstreamLost: {
    fires: {
      'proxy_pool_connections_lost_total{reason="silent"}': '0+1x60',
      'proxy_pool_connections_lost_total{reason="closed"}': '0x60',
    },
    at: 15,
    notAt: 6,
    summary: 'p loses its connections to RabbitMQ again and again.',
    quiet: { 'proxy_pool_connections_lost_total{reason="lost"}': '0x10 2x50' },
  },
};

/** `a{b="c"}` with the labels that the Prometheus operator adds. */
function inputSeries(series: Series): { series: string; values: string }[] {
  return Object.entries(series).map(([name, values]) => {
    const [metric, labels = ''] = name.replace(/\}$/, '').split('{');
    const target = 'namespace="q", pod="p"';
    return {
      series: `quorumbridge_${metric}{${target}${labels === '' ? '' : `, ${labels}`}}`,
      values,
    };
  });
}

it('are tried by Prometheus each', () => {
  expect(Object.keys(cases).sort()).toEqual([...alerts.keys()].sort());
});

describe.skipIf(why !== '')(`the alerts, as Prometheus evaluates them${why}`, () => {
  let folder: string;
  const path = (name: string): string => join(folder, name);

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'quorumbridge-alerts-'));
    writeFileSync(path('rules.json'), JSON.stringify({ groups }));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('are rules that Prometheus takes', async () => {
    const { stdout } = await run(promtool!, ['check', 'rules', path('rules.json')]);
    expect(stdout).toContain(`SUCCESS: ${alerts.size} rules found`);
  });

  it.each(Object.entries(cases))('%s fires when it has to, and only then', async (alertname, one) => {
    const { labels, annotations } = alerts.get(alertname)!;
    const firing = {
      exp_labels: { ...(one.labels ?? POD), severity: labels.severity },
      exp_annotations: { ...annotations, summary: one.summary },
    };
    const expected = (minutes: number, exp_alerts: unknown[]) => ({
      eval_time: `${minutes}m`,
      alertname,
      exp_alerts,
    });
    const early = one.notAt === undefined ? [] : [expected(one.notAt, [])];
    const tests = [
      {
        interval: '1m',
        input_series: inputSeries(one.fires),
        alert_rule_test: [...early, expected(one.at, [firing])],
      },
      {
        interval: '1m',
        input_series: inputSeries(one.quiet),
        alert_rule_test: [5, 15, 25, 35, 45, 59].map((minutes) => expected(minutes, [])),
      },
    ];
    const file = path(`${alertname}.json`);
    writeFileSync(file, JSON.stringify({ rule_files: ['rules.json'], evaluation_interval: '1m', tests }));
    const said = await run(promtool!, ['test', 'rules', file]).then(
      ({ stdout }) => stdout,
      ({ stdout, stderr }: { stdout: string; stderr: string }) => `${stdout}${stderr}`,
    );
    expect(said).toContain('SUCCESS');
  });
});
