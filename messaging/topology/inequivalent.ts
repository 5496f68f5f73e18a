import type { ArgumentValue } from '../config/kinds.ts';

/** What RabbitMQ says in a 406 about what is declared otherwise than it is. */
export interface Inequivalent {
  readonly field: string;
  /** undefined: none. */
  readonly received: ArgumentValue | undefined;
  readonly current: ArgumentValue | undefined;
}

/** Of 3.10, 4.0 and 4.3 alike. It names one field only: the first that it finds. */
const text =
  /inequivalent arg '(?<field>[^']*)' for (?:queue|exchange) '.*' in vhost '.*': received (?<received>none|the value '.*' of type '\w+'|'.*') but current is (?<current>none|the value '.*' of type '\w+'|'.*?')"?$/s;

/** Reads such a text; undefined for every other one. */
export function parseInequivalent(message: string): Inequivalent | undefined {
  const { field, received, current } = text.exec(message)?.groups ?? {};
  if (field === undefined || received === undefined || current === undefined) return undefined;
  return { field, received: valueOf(field, received), current: valueOf(field, current) };
}

/** Properties are written as words, arguments as what they are in Erlang. */
const FLAGS = new Set(['durable', 'auto_delete', 'exclusive', 'internal', 'x-single-active-consumer']);

const NUMBERS = new Set([
  'x-consumer-timeout',
  'x-delivery-limit',
  'x-expires',
  'x-max-length',
  'x-max-length-bytes',
  'x-max-priority',
  'x-message-ttl',
  'x-quorum-initial-group-size',
]);

function valueOf(field: string, said: string): ArgumentValue | undefined {
  if (said === 'none') return undefined;
  const typed = /^the value '(?<value>.*)' of type '\w+'$/s.exec(said);
  const value = typed?.groups?.['value'] ?? said.slice(1, -1);
  if (FLAGS.has(field) && /^(?:true|false)$/.test(value)) return value === 'true';
  return NUMBERS.has(field) && /^-?\d{1,15}$/.test(value) ? Number(value) : value;
}
