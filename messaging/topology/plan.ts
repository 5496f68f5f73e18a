// A file held against a broker.
import type { Version } from '../../common/version.ts';
import type { ArgumentValue, Arguments } from '../config/kinds.ts';
import {
  type BindingDeclaration,
  type Declaration,
  type ExchangeDeclaration,
  NO_DELIVERY_LIMIT,
  type QueueDeclaration,
  identity,
} from './declarations.ts';
import { formatDuration } from '../config/duration.ts';
import {
  type Observed,
  type ObservedExchange,
  type ObservedQueue,
  isBuiltIn,
  isPassing,
} from './observed.ts';

/** One property or argument in which what is there differs. */
export interface Difference {
  /** As AMQP calls it: `type`, `durable`, `x-message-ttl`. */
  readonly field: string;
  /** undefined: not at all. */
  readonly want: ArgumentValue | undefined;
  readonly have: ArgumentValue | undefined;
  /** What to do so that file and broker agree. */
  readonly wayOut: string;
}

/**
 * What becomes of a declaration: it is `created`; it is there as declared (`same`); it is there but otherwise (`conflict`); it has
 * to be there and isn't (`missing`); or AMQP has no way to ask (`unknown`, of bindings).
 */
export type Status = 'create' | 'same' | 'conflict' | 'missing' | 'unknown';

export interface PlanItem {
  readonly declaration: Declaration;
  readonly status: Status;
  /** Of a conflict: at least one. */
  readonly differences: readonly Difference[];
}

/** What the broker has and the file has not. */
export interface Extras {
  readonly exchanges: readonly ObservedExchange[];
  readonly queues: readonly ObservedQueue[];
  readonly bindings: readonly BindingDeclaration[];
}

/** What stands between a file and a broker. */
export interface Plan {
  readonly version: Version;
  readonly items: readonly PlanItem[];
  /** Why the management API was not asked, where it wasn't: bindings and what only the broker has are not known then. */
  readonly note: string | undefined;
  /** What the broker has and the file has not; undefined where that is not known. */
  readonly extras: Extras | undefined;
}

export interface Applied {
  readonly plan: Plan;
  /** What was taken off the broker first, for people. */
  readonly deleted: readonly string[];
  /** False where a conflict or something missing was in the way: then nothing was changed. */
  readonly isDone: boolean;
}

/** Holds declarations against what a broker has, in their order. */
export function compare(declarations: readonly Declaration[], observed: Observed): readonly PlanItem[] {
  const bound = new Set(observed.bindings.map(identity));
  return declarations.map((declaration): PlanItem => {
    if (declaration.kind === 'binding') {
      const status = bound.has(identity(declaration)) ? 'same' : 'create';
      return { declaration, status, differences: [] };
    }
    const differences =
      declaration.kind === 'queue'
        ? queueDifferences(declaration, observed.queues.get(declaration.name))
        : exchangeDifferences(declaration, observed.exchanges.get(declaration.name));
    if (differences === undefined)
      return { declaration, status: declaration.declare ? 'create' : 'missing', differences: [] };
    // Of what somebody else declares only that it is there matters.
    if (differences.length === 0 || !declaration.declare)
      return { declaration, status: 'same', differences: [] };
    return { declaration, status: 'conflict', differences };
  });
}

/**
 * What a broker has that no declaration has: without what RabbitMQ makes by itself and what clients make for themselves
 * (exclusive and auto-delete queues).
 */
export function extrasOf(declarations: readonly Declaration[], observed: Observed): Extras {
  const known = new Set(declarations.map(identity));
  const isKnown = (kind: 'exchange' | 'queue', name: string): boolean =>
    known.has(JSON.stringify([kind, name]));
  return {
    exchanges: [...observed.exchanges.values()].filter(
      ({ name, autoDelete }) => !isBuiltIn(name) && !autoDelete && !isKnown('exchange', name),
    ),
    queues: [...observed.queues.values()].filter(
      (queue) => !isPassing(queue) && !isKnown('queue', queue.name),
    ),
    bindings: [...observed.bindings, ...observed.exchangeBindings].filter((binding) => {
      const queue = observed.queues.get(binding.destination);
      return !known.has(identity(binding)) && !(queue !== undefined && isPassing(queue));
    }),
  };
}

/** In what a queue is not as declared; undefined where there is none of that name. */
export function queueDifferences(
  want: QueueDeclaration,
  have: ObservedQueue | undefined,
): Difference[] | undefined {
  if (have === undefined) return undefined;
  const properties: [string, ArgumentValue, ArgumentValue][] = [
    ['durable', true, have.durable],
    ['auto_delete', false, have.autoDelete],
    ['exclusive', false, have.exclusive],
    ['x-queue-type', want.arguments['x-queue-type'] ?? 'classic', have.type],
  ];
  return differencesOf(
    want,
    properties,
    argumentsWithoutType(want.arguments),
    argumentsWithoutType(have.arguments),
  );
}

/** undefined where there is no such exchange. */
function exchangeDifferences(
  want: ExchangeDeclaration,
  have: ObservedExchange | undefined,
): Difference[] | undefined {
  if (have === undefined) return undefined;
  const properties: [string, ArgumentValue, ArgumentValue][] = [
    ['type', want.type, have.type],
    ['durable', want.durable, have.durable],
    ['auto_delete', false, have.autoDelete],
    ['internal', false, have.internal],
  ];
  return differencesOf(want, properties, want.arguments, have.arguments);
}

/** The type stands in a property of its own: a queue may have been declared without naming it. */
function argumentsWithoutType(table: Arguments): Arguments {
  const { 'x-queue-type': _, ...others } = table;
  return others;
}

function differencesOf(
  declaration: QueueDeclaration | ExchangeDeclaration,
  properties: readonly [string, ArgumentValue, ArgumentValue][],
  want: Arguments,
  have: Arguments,
): Difference[] {
  const names = [...new Set([...Object.keys(want), ...Object.keys(have)])];
  return [...properties, ...names.map((name) => [name, want[name], have[name]] as const)]
    .filter(([, one, other]) => !isSame(one, other))
    .map(([field, one, other]) => ({
      field,
      want: one,
      have: other,
      wayOut: wayOut(declaration, field, other),
    }));
}

/** Whether two arguments are the same value; the order of a table's keys is no part of it. */
export function isSame(a: ArgumentValue | undefined, b: ArgumentValue | undefined): boolean {
  if (typeof a !== 'object' || typeof b !== 'object') return a === b;
  const keys = Object.keys(a);
  const of = (table: object, key: string) => (table as Record<string, ArgumentValue>)[key];
  return (
    Array.isArray(a) === Array.isArray(b) &&
    keys.length === Object.keys(b).length &&
    keys.every((key) => isSame(of(a, key), of(b, key)))
  );
}

/** Keys of the file that make an argument, and how they write its value. */
const KEYS: Readonly<Record<string, { readonly key: string; readonly write?: (value: number) => string }>> = {
  'x-queue-type': { key: 'queue_type' },
  'x-delivery-limit': {
    key: 'delivery_limit',
    write: (value) => (value === NO_DELIVERY_LIMIT ? 'none' : String(value)),
  },
  'x-max-priority': { key: 'max_priority' },
  'x-message-ttl': { key: 'message_ttl', write: formatDuration },
  'x-max-length': { key: 'max_length' },
  'x-dead-letter-exchange': { key: 'dlx_name' },
};

/** Left out, these make an argument all the same. */
const HAVE_DEFAULTS = new Set(['queue_type', 'delivery_limit', 'dlx_name']);

const DEAD_LETTER_KEYS: typeof KEYS = {
  'x-message-ttl': { key: 'dlq_message_ttl', write: formatDuration },
  'x-max-length': { key: 'dlq_max_length' },
};

/** What to do about a field that is otherwise on the broker. */
export function wayOut(
  declaration: Pick<ExchangeDeclaration, 'kind'> | Pick<QueueDeclaration, 'kind' | 'role'>,
  field: string,
  have: ArgumentValue | undefined,
): string {
  if (declaration.kind === 'exchange') {
    const key = { type: 'kind', durable: 'durable' }[field];
    const keep = key === undefined ? 'give it the same arguments' : `say ${key}: ${JSON.stringify(have)}`;
    return `${keep} in the file, or let apply --delete make the exchange anew`;
  }
  const anew = 'let apply --delete make the queue anew once it is empty and nobody consumes';
  if (declaration.role === 'retries') return anew;
  const isDeadLetters = declaration.role === 'dead letters';
  const { key, write } = (isDeadLetters ? DEAD_LETTER_KEYS : KEYS)[field] ?? {};
  const value = typeof have === 'number' ? (write?.(have) ?? have) : have;
  if (key !== undefined && typeof value !== 'object') {
    if (value !== undefined) return `say ${key}: ${String(value)} in the file, or ${anew}`;
    if (isDeadLetters) return `say ${key}: none in the file, or ${anew}`;
    if (!HAVE_DEFAULTS.has(key)) return `take ${key} out of the file, or ${anew}`;
  }
  const keep = isDeadLetters
    ? 'say declare_dlq: false in the file, which leaves it as it is'
    : 'give its arguments in the file as the broker has them';
  return `${keep}, or ${anew}`;
}
