// Plans and differences for people.
import type { ArgumentValue, Arguments } from '../config/kinds.ts';
import type { ConnectionConfig } from '../config/types.ts';
import { describeBroker } from '../connection.ts';
import type { Declaration } from './declarations.ts';
import type { Applied, Extras, Plan, PlanItem } from './plan.ts';

/** `queue "user.created"`, `binding of queue "a" to exchange "b" by "c"`. */
export function describeDeclaration(declaration: Declaration): string {
  if (declaration.kind !== 'binding') return `${declaration.kind} ${JSON.stringify(declaration.name)}`;
  const { source, destination, routingKey, arguments: table } = declaration;
  const headers = Object.keys(table).length === 0 ? '' : ` with ${argumentsText(table)}`;
  return `binding of ${JSON.stringify(destination)} to exchange ${JSON.stringify(source)} by ${JSON.stringify(routingKey)}${headers}`;
}

/** Which broker it is about, and how much could be asked. */
export function headText({ version, note }: Plan, connection: ConnectionConfig): string {
  const { major, minor, patch } = version;
  const head = `${describeBroker(connection)}, version ${major}.${minor}.${patch ?? 0}\n`;
  return note === undefined ? head : `${head}note: ${note}\n`;
}

/** As JSON, for programs. */
export function documentOf(plan: Plan & Partial<Pick<Applied, 'deleted' | 'isDone'>>): string {
  const { major, minor, patch } = plan.version;
  return `${JSON.stringify({ ...plan, version: `${major}.${minor}.${patch ?? 0}` }, null, 2)}\n`;
}

/** What was done, or what is in the way. */
export function appliedText({ plan, deleted, isDone }: Applied): string {
  if (!isDone) return `${planText(plan.items)}Nothing is changed.\n`;
  const created = plan.items.filter(({ status }) => status === 'create' || status === 'conflict');
  const lines = [
    ...deleted.map((what) => `- ${what}`),
    ...created.map(({ declaration }) => `+ ${describeDeclaration(declaration)}`),
  ];
  const same = plan.items.filter(({ status }) => status === 'same').length;
  return [...lines, `Everything is declared; ${same} of ${plan.items.length} were there already.`]
    .map((line) => `${line}\n`)
    .join('');
}

const MARKS = { create: '+', same: '=', conflict: '!', missing: '?', unknown: '~' } as const;

/** What is not as the file has it, thing by thing, and a last line that counts; with `extras` what only the broker has as well. */
export function planText(items: readonly PlanItem[], extras?: Extras): string {
  const lines = items
    .filter(({ status }) => status !== 'same')
    .flatMap(({ declaration, status, differences }) => [
      `${MARKS[status]} ${describeDeclaration(declaration)}${remark(declaration, status)}`,
      ...differences.flatMap(({ field, want, have, wayOut }) => [
        `    ${differenceText(field, want, have)}`,
        `      way out: ${wayOut}`,
      ]),
    ]);
  const count = (status: PlanItem['status']): number => items.filter((item) => item.status === status).length;
  const parts = [
    `${count('create')} to create`,
    `${count('same')} as the file has them`,
    ...(count('conflict') === 0 ? [] : [`${count('conflict')} in conflict`]),
    ...(count('missing') === 0
      ? []
      : [`${count('missing')} that others have to declare and that are not there`]),
    ...(count('unknown') === 0
      ? []
      : [`${count('unknown')} bindings that only the management API could tell of`]),
  ];
  const others = extras === undefined ? [] : extrasLines(extras);
  if (extras !== undefined) parts.push(`${others.length} only on the broker`);
  return [...lines, ...others, `${parts.join(', ')}.`].map((line) => `${line}\n`).join('');
}

/** What is in the way of a plan, one line for each thing: what exists otherwise, field by field, and what is not there. */
export function obstaclesOf(items: readonly PlanItem[]): string[] {
  return items.flatMap(({ declaration, status, differences }) => {
    const what = describeDeclaration(declaration);
    if (status === 'missing') return [`${what}${remark(declaration, status)}`];
    if (status !== 'conflict') return [];
    const fields = differences.map(
      ({ field, want, have, wayOut }) =>
        `${field}: the file has ${valueText(want)}, the broker has ${valueText(have)} (${wayOut})`,
    );
    return [`${what}: ${fields.join(', ')}`];
  });
}

/** `x-max-length: the file has 9, the broker has none`. */
export function differenceText(
  field: string,
  want: ArgumentValue | undefined,
  have: ArgumentValue | undefined,
): string {
  return `${field}: the file has ${valueText(want)}, the broker has ${valueText(have)}`;
}

function remark(declaration: Declaration, status: PlanItem['status']): string {
  if (status === 'missing') return ': is not there, and the file does not declare it';
  if (status === 'unknown') return ': not known';
  if (status !== 'create' || declaration.kind === 'binding') return '';
  const type = declaration.kind === 'exchange' ? `, ${declaration.type}` : '';
  const table =
    Object.keys(declaration.arguments).length === 0 ? '' : `, ${argumentsText(declaration.arguments)}`;
  const note =
    declaration.kind === 'queue' && declaration.note !== undefined ? `\n    ${declaration.note}` : '';
  return `${type}${table}${note}`;
}

function extrasLines({ exchanges, queues, bindings }: Extras): string[] {
  return [
    ...exchanges.map(({ name, type }) => `exchange ${JSON.stringify(name)}, ${type}`),
    ...queues.map(({ name, type }) => `queue ${JSON.stringify(name)}, ${type}`),
    ...bindings.map(describeDeclaration),
  ].map((what) => `- ${what}: only on the broker`);
}

function argumentsText(table: Arguments): string {
  return Object.entries(table)
    .map(([name, value]) => `${name}=${valueText(value)}`)
    .join(' ');
}

function valueText(value: ArgumentValue | undefined): string {
  if (value === undefined) return 'none';
  return typeof value === 'string' && value !== '' && !/\s/.test(value) ? value : JSON.stringify(value);
}
