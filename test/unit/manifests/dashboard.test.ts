// The dashboard for Grafana: what it asks for is what the proxy tells.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { Ledger } from '../../../proxy/ledger.ts';
import { PROXY_ERRORS } from '../../../proxy/errors.ts';
import { createProxyMetrics } from '../../../proxy/metrics.ts';
import { Stats } from '../../../proxy/stats.ts';
import { Account } from '../../../proxy/telemetry/account.ts';
import { DEFAULT_RESOURCES, renderSidecar } from '../../../webhook/sidecar.ts';
import { NOBODY } from '../../../amqp/handshake.ts';
import { MANIFESTS } from '../../support/manifests.ts';
import { HOME } from '../../support/processes.ts';
import type { KubeObject } from '../../support/kube-api.ts';
import { objectsIn, type PrometheusRule } from './sources.ts';

const run = promisify(execFile);

interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  fieldConfig?: { defaults: { unit: string } };
  targets?: { expr: string; legendFormat?: string }[];
}

interface Dashboard {
  uid: string;
  schemaVersion: number;
  templating: { list: { name: string; type: string; query: string | { query: string } }[] };
  panels: Panel[];
}

const text = readFileSync(join(MANIFESTS, 'components/monitoring/dashboard.json'), 'utf8');
const dashboard = JSON.parse(text) as Dashboard;
const graphs = dashboard.panels.filter(({ type }) => type !== 'row');
const queries = graphs.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr, legendFormat = '' }) => ({ title, expr, legendFormat })),
);

/** What Prometheus adds, by the ServiceMonitor or PodMonitor. */
const TARGET_LABELS = ['namespace', 'pod'];

/** The proxy's metrics as they are served, each with its type and the labels of its samples. */
async function served(): Promise<Map<string, { type: string; labels: Set<string> }>> {
  const stats = new Stats();
  const endpoints = { sourceAddress: '1', sourcePort: 1, destinationAddress: '2', destinationPort: 2 };
  const told = {
    identity: { ...NOBODY, user: 'nova' },
    brokerUser: undefined,
    virtualHost: '/',
    rewrites: {},
    changes: {},
    closeSeen: true,
  };
  // Counters by labels that come up with what happens have no samples before.
  const account = new Account({ id: 1, endpoints, stats: stats.telemetry, audit: undefined });
  account.opened(told, {});
  account.ends('CLIENT_FRAME', 501);
  account.ended(told);
  const metrics = createProxyMetrics(stats, new Ledger({ mode: 'transparent', limit: 1 }));
  const found = new Map<string, { type: string; labels: Set<string> }>();
  let type = '';
  for (const line of (await metrics.text()).split('\n')) {
    type = /^# TYPE \w+ (\w+)$/.exec(line)?.[1] ?? type;
    const sample = /^(\w+)(?:\{(.*)\})? \S+$/.exec(line);
    if (sample === null) continue;
    const known = found.get(sample[1]!) ?? { type, labels: new Set<string>() };
    for (const [, label] of (sample[2] ?? '').matchAll(/(\w+)="/g)) known.labels.add(label!);
    found.set(sample[1]!, known);
  }
  return found;
}

const metrics = await served();

/** Names of metrics in a query. */
function namesIn(expr: string): string[] {
  return [...expr.matchAll(/\b(?:quorumbridge|nodejs|process)_\w+/g)].map(([name]) => name);
}

const [promtool, why] = await run(join(HOME, 'test/support/promtool.sh')).then(
  ({ stdout }) => [stdout.trim(), ''],
  ({ stderr = '' }: { stderr?: string }) => ['', ` (${stderr.trim().split('\n').at(-1)})`],
);

describe('the dashboard', () => {
  it('has panels, each with an id, a title, a place of its own and a unit', () => {
    expect(graphs.length).toBeGreaterThan(20);
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
    expect(new Set(graphs.map(({ title }) => title)).size).toBe(graphs.length);
    const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, at) => `${x + (at % w)} ${y + Math.floor(at / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    expect(dashboard.panels.filter(({ gridPos: { x, w } }) => x + w > 24)).toEqual([]);
    for (const panel of graphs) {
      expect(panel).toMatchObject({
        description: expect.stringMatching(/\.$/) as string,
        fieldConfig: { defaults: { unit: expect.stringMatching(/\w/) as string } },
      });
      expect(panel.targets).not.toEqual([]);
    }
  });

  it.each(queries)('$title: $expr is about metrics that exist', ({ expr }) => {
    const names = namesIn(expr);
    expect(names).not.toEqual([]);
    expect(names.filter((name) => !metrics.has(name))).toEqual([]);
  });

  it.each(queries)(
    '$title: $expr groups, selects and shows by labels that exist',
    ({ expr, legendFormat }) => {
      const labels = namesIn(expr).flatMap((name) => [...metrics.get(name)!.labels]);
      const known = new Set([...TARGET_LABELS, ...labels]);
      const grouped = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list]) => list!.split(/, */));
      const selected = [...expr.matchAll(/\b(\w+)(?:=~?|!=|!~)"/g)].map(([, label]) => label!);
      expect([...grouped, ...selected].filter((label) => !known.has(label))).toEqual([]);
      const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label!);
      const kept = grouped.length > 0 ? grouped : [...known];
      expect(shown.filter((label) => !kept.includes(label))).toEqual([]);
    },
  );

  it('takes rates of counters and quantiles of histograms only, and counters by their rate', () => {
    const rated = queries.flatMap(({ expr }) =>
      [...expr.matchAll(/\b(?:rate|increase)\((\w+)/g)].map(([, name]) => name!),
    );
    expect(rated.length).toBeGreaterThan(15);
    expect(rated.filter((name) => !['counter', 'histogram'].includes(metrics.get(name)!.type))).toEqual([]);
    const bare = queries.flatMap(({ expr }) =>
      namesIn(expr).filter(
        (name) =>
          metrics.get(name)!.type !== 'gauge' &&
          !expr.includes(`rate(${name}`) &&
          !expr.includes(`increase(${name}`),
      ),
    );
    expect(bare).toEqual([]);
    const quantiles = queries.filter(({ expr }) => expr.includes('histogram_quantile'));
    expect(quantiles.length).toBeGreaterThan(2);
    expect(quantiles).toEqual(queries.filter(({ expr }) => expr.includes('_bucket')));
  });

  it('selects the pods that are chosen in every query, by variables that are there', () => {
    const variables = dashboard.templating.list.map(({ name }) => name);
    expect(variables).toEqual(['datasource', 'namespace', 'pod']);
    for (const { expr } of queries) {
      for (const name of namesIn(expr)) expect(expr).toContain(`${name}{namespace=~"$namespace",pod=~"$pod"`);
      const used = [...expr.matchAll(/\$(\w+)/g)].map(([, name]) => name!);
      expect(used.filter((name) => ![...variables, '__rate_interval'].includes(name))).toEqual([]);
    }
    for (const { query } of dashboard.templating.list.slice(1)) {
      const asked = (query as { query: string }).query;
      expect(namesIn(asked).filter((name) => !metrics.has(name))).toEqual([]);
    }
  });

  it('shows all of the proxy’s metrics but those that are named here', () => {
    const shown = new Set(
      queries.flatMap(({ expr }) => namesIn(expr).map((name) => name.replace(/_bucket$/, ''))),
    );
    const own = [...metrics.keys()].filter((name) => name.startsWith('quorumbridge_'));
    const hidden = own.filter((name) => !shown.has(name.replace(/_(?:bucket|sum|count)$/, '')));
    expect(hidden.map((name) => name.replace('quorumbridge_proxy_', ''))).toEqual([
      'connections_total',
      'queues_deleted_total',
      'clients_evicted_total',
      'certificate_reloads_total',
      'certificate_reload_failures_total',
      'breaker_opened_total',
      'pool_connections_opened_total',
      'pool_channels_opened_total',
      'pool_channels_reused_total',
      'pool_restored_total',
      'pool_resumed_total',
      'pool_quarantined',
      'pool_publishes_nacked_total',
      'config_loaded_timestamp_seconds',
      'workers',
      'worker_restarts_total',
    ]);
  });

  it.skipIf(why !== '')(`asks what Prometheus understands${why}`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'quorumbridge-dashboard-'));
    try {
      const rules = queries.map(({ expr }, at) => ({
        record: `panel:${at}`,
        expr: expr.replaceAll('$__rate_interval', '5m').replaceAll(/\$(?:namespace|pod)/g, '.*'),
      }));
      const file = join(folder, 'rules.json');
      writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
      const { stdout } = await run(promtool!, ['check', 'rules', file]);
      expect(stdout).toContain(`SUCCESS: ${queries.length} rules found`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('the monitoring of injected proxies', () => {
  const [monitor, rules] = objectsIn('components/monitoring/proxy.yaml') as [
    KubeObject & { spec: { podMetricsEndpoints: { port: string; path: string }[] } },
    PrometheusRule,
  ];
  const alerts = rules.spec.groups.flatMap((group) => group.rules);

  it('scrapes the port that the sidecar has', () => {
    const sidecar = renderSidecar({
      image: 'x',
      form: 'plain',
      host: '127.0.0.1',
      proxyProtocol: true,
      backendTls: undefined,
      tls: undefined,
      tlsOnAmqpPort: false,
      logLevel: 'info',
      mode: undefined,
      preset: undefined,
      rules: false,
      resources: DEFAULT_RESOURCES,
      extraArgs: [],
    });
    const ports = (sidecar['ports'] as { name: string }[]).map(({ name }) => name);
    const [endpoint] = monitor.spec.podMetricsEndpoints;
    expect(endpoint).toMatchObject({ port: 'proxy-admin', path: '/metrics' });
    expect(ports).toContain(endpoint!.port);
  });

  it.each(alerts)('$alert is about metrics and labels that exist', ({ expr, annotations }) => {
    const names = namesIn(expr);
    expect(names).not.toEqual([]);
    expect(names.filter((name) => !metrics.has(name))).toEqual([]);
    const labels = names.flatMap((name) => [...metrics.get(name)!.labels]);
    const known = new Set([...TARGET_LABELS, ...labels]);
    const used = [...expr.matchAll(/\b(\w+)(?:=~?|!=|!~)"/g)].map(([, label]) => label!);
    const grouped = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list]) => list!.split(/, */));
    const shown = [...annotations.summary.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label!);
    expect([...used, ...grouped, ...shown].filter((label) => !known.has(label))).toEqual([]);
  });

  it('names error codes that exist', () => {
    const codes = alerts.flatMap(({ expr }) =>
      [...expr.matchAll(/code=~?"([^"]+)"/g)].flatMap(([, list]) => list!.split('|')),
    );
    expect(codes.length).toBeGreaterThan(3);
    expect(codes.filter((code) => !Object.hasOwn(PROXY_ERRORS, code))).toEqual([]);
  });
});
