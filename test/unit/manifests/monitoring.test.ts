import { describe, expect, it } from 'vitest';
import { createMetrics } from '../../../common/metrics.ts';
import { ReconcilerStats, registerMetrics as registerReconciler } from '../../../reconciler/metrics.ts';
import { WebhookStats, registerMetrics as registerWebhook } from '../../../webhook/metrics.ts';
import type { KubeObject } from '../../support/kube-api.ts';
import { type PrometheusRule, objectsIn } from './sources.ts';

const monitoring = objectsIn(
  'components/monitoring/service-monitor.yaml',
  'components/monitoring/prometheus-rule.yaml',
  'components/monitoring/reconciler.yaml',
);
const rules = monitoring.filter(({ kind }) => kind === 'PrometheusRule') as PrometheusRule[];
const monitors = monitoring.filter(({ kind }) => kind === 'ServiceMonitor');
const alerts = rules.flatMap(({ spec }) => spec.groups.flatMap((group) => group.rules));

/** All metrics with the names of their labels, as the code registers them. */
function registered(): Map<string, readonly string[]> {
  const metrics = new Map<string, readonly string[]>();
  const note = (name: string, _help: string, _read: unknown, labels: readonly string[] = []): void =>
    void metrics.set(name, labels);
  const registry = { ...createMetrics(), counter: note, gauge: note };
  registerWebhook(registry, new WebhookStats());
  registerReconciler(registry, new ReconcilerStats());
  return metrics;
}

/** What the Prometheus operator adds to whatever a ServiceMonitor finds. */
const TARGET_LABELS = ['namespace', 'pod'];

const metrics = registered();

function metricsIn(expr: string): string[] {
  return [...expr.matchAll(/\bquorumbridge_\w+/g)].map(([name]) => name);
}

describe('the alerts', () => {
  it('are there, each under a name of its own', () => {
    expect(alerts.length).toBeGreaterThan(4);
    expect(new Set(alerts.map(({ alert }) => alert)).size).toBe(alerts.length);
  });

  it.each(alerts)('$alert is about metrics that exist', ({ expr }) => {
    const names = metricsIn(expr);
    expect(names).not.toEqual([]);
    expect(names.filter((name) => !metrics.has(name))).toEqual([]);
  });

  it.each(alerts)('$alert groups and selects by labels that exist', ({ expr, annotations }) => {
    const of = metricsIn(expr).map((name) => [...TARGET_LABELS, ...metrics.get(name)!]);
    const known = of.reduce((common, labels) => common.filter((label) => labels.includes(label)));
    const grouped = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list]) => list!.split(/, */));
    const selected = [...expr.matchAll(/\b(\w+)(?:=~?|!=|!~)"/g)].map(([, label]) => label!);
    expect([...grouped, ...selected].filter((label) => !known.includes(label))).toEqual([]);
    const texts = `${annotations.summary} ${annotations.description}`;
    const shown = [...texts.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label!);
    // What is grouped away can't be shown, nor what absent() never had.
    const kept = expr.startsWith('absent(') ? [] : grouped.length > 0 ? grouped : known;
    expect(shown.filter((label) => !kept.includes(label))).toEqual([]);
  });

  it.each(alerts)('$alert has balanced parentheses, a severity and two sentences', (alert) => {
    const count = (text: string): number => alert.expr.split(text).length - 1;
    expect([count('('), count('{')]).toEqual([count(')'), count('}')]);
    expect(['critical', 'warning']).toContain(alert.labels.severity);
    expect(alert.annotations.summary).toMatch(/\.$/);
    expect(alert.annotations.description).toMatch(/\.$/);
  });

  it('take increase and rate of counters only', () => {
    const counted = alerts.flatMap(({ expr }) =>
      [...expr.matchAll(/\b(?:rate|increase)\((\w+)/g)].map(([, name]) => name!),
    );
    expect(counted.length).toBeGreaterThan(3);
    expect(counted.filter((name) => !name.endsWith('_total'))).toEqual([]);
  });
});

describe('the ServiceMonitors', () => {
  it.each([
    ['base/service.yaml', monitors[0]!],
    ['base/reconciler/service.yaml', monitors[1]!],
  ])('scrape the admin port of %s', (file, monitor) => {
    const [service] = objectsIn(file) as [KubeObject & { spec: { ports: { name: string }[] } }];
    expect(monitor['spec']).toMatchObject({
      selector: {
        matchLabels: { 'app.kubernetes.io/name': service.metadata.labels!['app.kubernetes.io/name'] },
      },
      endpoints: [{ port: 'admin', path: '/metrics' }],
    });
    expect(service.spec.ports.map(({ name }) => name)).toContain('admin');
  });
});
