import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MANIFESTS, objectsOf } from '../manifests.ts';
import { code, table } from './table.ts';

export interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string; readonly runbook: string };
}

/** The alerts of the component `monitoring`, by the program that they are about. */
export function alertsByProgram(): Map<string, Alert[]> {
  const objects = globSync('components/monitoring/*.yaml', { cwd: MANIFESTS })
    .sort()
    .flatMap((file) => objectsOf(readFileSync(join(MANIFESTS, file), 'utf8')))
    .filter(({ kind }) => kind === 'PrometheusRule');
  return new Map(
    objects.map((object) => {
      const { groups } = object['spec'] as { groups: { rules: Alert[] }[] };
      return [object.metadata.name!.replace('quorumbridge-', ''), groups.flatMap(({ rules }) => rules)];
    }),
  );
}

/** What an alert says, with the labels of its series as they are called. */
function meaning({ annotations }: Alert): string {
  return annotations.summary
    .replaceAll(/\{\{ \$labels\.(\w+) \}\}/g, (_, label: string) => label.toUpperCase())
    .replaceAll(/\{\{ \$value[^}]*\}\}/g, 'VALUE');
}

/** The alerts of each program, each with a link to its runbook. */
export function alertTables(): [name: string, table: string][] {
  return [...alertsByProgram()].map(([program, alerts]) => [
    `alerts of ${program}`,
    table(
      ['alert', 'severity', 'after', 'says'],
      alerts.map((one) => [
        `[${code(one.alert)}](#${one.alert.toLowerCase()})`,
        one.labels.severity,
        one.for ?? 'at once',
        meaning(one),
      ]),
    ),
  ]);
}
