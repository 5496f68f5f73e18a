import { messageOf } from '../../common/errors.ts';
import { flag, integer, oneOf } from '../../common/options.ts';
import type { YamlNode } from '../../common/yaml.ts';
import { LONGEST_MS, formatDuration, parseDuration } from './duration.ts';
import { expand } from './expand.ts';
import type { Kind, Reading } from './keys.ts';

/** Arguments of a queue, an exchange or a binding: what AMQP's tables and JSON both have. */
export type Arguments = Readonly<Record<string, ArgumentValue>>;
export type ArgumentValue =
  | string
  | number
  | boolean
  | readonly ArgumentValue[]
  | { readonly [key: string]: ArgumentValue };

/** What binds a queue to its exchange. */
export interface Binding {
  readonly routingKey: string;
  /** Headers to be matched, and x-match. */
  readonly arguments: Arguments;
}

/** Any text, as written: `0755` and `4.0` keep their form. */
export const text: Kind<string> = {
  label: 'text',
  schema: { type: ['string', 'number'] },
  parse: (value) => value,
};

export const trueOrFalse: Kind<boolean> = {
  label: 'true or false',
  schema: { type: 'boolean' },
  parse: flag(),
};

export function wholeNumber(bounds: { min: number; max: number }): Kind<number> {
  return {
    label: 'whole number',
    schema: { type: 'integer', minimum: bounds.min, maximum: bounds.max },
    parse: integer(bounds),
  };
}

export function choice<const T extends string>(...words: readonly T[]): Kind<T> {
  return { label: words.join(', '), schema: { enum: words }, parse: oneOf(...words) };
}

const PLAIN_DURATION = '^(0|[0-9]+(\\.[0-9]{1,3})?(ms|s|m|h|d))$';

/** In milliseconds. */
export function duration({ min, max = LONGEST_MS }: { min: number; max?: number }): Kind<number> {
  return {
    label: 'duration',
    schema: { anyOf: [{ type: 'string', pattern: PLAIN_DURATION }, { const: 0 }] },
    write: formatDuration,
    parse(value) {
      const milliseconds = parseDuration(value);
      if (milliseconds === undefined || milliseconds < min || milliseconds > max) {
        throw new Error(
          `expected a duration with its unit from ${formatDuration(min)} to ${formatDuration(max)}, such as 500ms, 30s, 5m, 24h or 7d`,
        );
      }
      return milliseconds;
    },
  };
}

/** The word `none` as well: no bound at all. */
export function orNone<T>({ label, ...kind }: Kind<T>): Kind<T | 'none'> {
  return {
    label: `${label} or none`,
    schema: { anyOf: [{ const: 'none' }, kind.schema] },
    parse(value) {
      if (value === 'none') return value;
      try {
        return kind.parse!(value);
      } catch (error) {
        // Its own parser made this error, a moment ago: it only learns one word more.
        if (error instanceof Error) error.message += ', or none';
        throw error;
      }
    },
  };
}

/** Of an exchange or a queue. AMQP has 255 octets for it. */
export function name({ takesEmpty = false } = {}): Kind<string> {
  return {
    label: 'name',
    takesEmpty,
    schema: { type: ['string', 'number'], minLength: takesEmpty ? 0 : 1, maxLength: 255 },
    parse(value) {
      if (Buffer.byteLength(value) > 255) throw new Error('expected a name of at most 255 octets');
      return value;
    },
  };
}

/** Steps of a ladder. */
export const RETRIES_MAX = 16;

const WAIT = duration({ min: 1 });

/** `true` (one delay of a minute), one delay, or a ladder of them; in milliseconds. */
export const retry: Kind<readonly number[]> = {
  label: 'true or false, duration, list of durations',
  schema: {
    anyOf: [
      { type: 'boolean' },
      WAIT.schema,
      { type: 'array', minItems: 1, maxItems: RETRIES_MAX, items: WAIT.schema },
    ],
  },
  parse(value) {
    if (value === 'true') return [60_000];
    return value === 'false' ? [] : [WAIT.parse!(value)];
  },
  read(node, reading) {
    if (node.kind !== 'list' || node.items.length === 0 || node.items.length > RETRIES_MAX) {
      reading.problem(node.at, `expected true, a duration or a list of 1 to ${RETRIES_MAX} durations`);
      return [];
    }
    const delays = node.items.map((item) => textIn(item, reading, (value) => WAIT.parse!(value)) ?? 0);
    if (delays.some((delay, index) => index > 0 && delay <= delays[index - 1]!))
      reading.problem(node.at, 'expected a ladder: each delay longer than the one before it');
    return delays;
  },
};

/** Routing keys; with arguments where headers are matched. */
export const bindings: Kind<readonly Binding[]> = {
  label: 'list of routing keys, or of mappings with routing_key and arguments',
  schema: {
    type: 'array',
    items: {
      anyOf: [
        { type: ['string', 'number'], maxLength: 255 },
        {
          type: 'object',
          properties: {
            routing_key: { type: ['string', 'number'], maxLength: 255 },
            arguments: { type: 'object' },
          },
          additionalProperties: false,
        },
      ],
    },
  },
  read(node, reading) {
    if (node.kind !== 'list') {
      reading.problem(node.at, 'expected a list of routing keys');
      return [];
    }
    return node.items.map((item) => binding(item, reading));
  },
};

function binding(node: YamlNode, reading: Reading): Binding {
  const routingKey = (value: YamlNode): string =>
    textIn(value, reading, (written) => name({ takesEmpty: true }).parse!(written)) ?? '';
  if (node.kind !== 'map') return { routingKey: routingKey(node), arguments: {} };
  const result = { routingKey: '', arguments: {} as Arguments };
  for (const { key, at, value } of node.entries) {
    if (key === 'routing_key') result.routingKey = routingKey(value);
    else if (key === 'arguments') result.arguments = argumentTable.read!(value, reading);
    else reading.problem(at, `unknown key ${JSON.stringify(key)}: known keys are routing_key, arguments`);
  }
  return result;
}

/** Arguments as the broker gets them. */
export const argumentTable: Kind<Arguments> = {
  label: 'mapping',
  schema: { type: 'object' },
  read(node, reading) {
    const value = argument(node, reading);
    if (typeof value === 'object' && !Array.isArray(value)) return value as Arguments;
    reading.problem(node.at, 'expected a mapping from arguments to values');
    return {};
  },
};

function argument(node: YamlNode, reading: Reading): ArgumentValue {
  if (node.kind === 'list') return node.items.map((item) => argument(item, reading));
  if (node.kind === 'map')
    return Object.fromEntries(node.entries.map(({ key, value }) => [key, argument(value, reading)]));
  const { value } = node;
  if (typeof value === 'string') return textIn(node, reading, (expanded) => expanded) ?? '';
  if (typeof value === 'bigint' && Number.isSafeInteger(Number(value))) return Number(value);
  if (typeof value === 'number' || typeof value === 'boolean') return value;
  reading.problem(node.at, `${node.text === '' ? 'nothing' : node.text} is no value of an argument`);
  return '';
}

/** A plain value below a list or a mapping; undefined where a problem was noted. */
function textIn<T>(node: YamlNode, reading: Reading, parse: (text: string) => T): T | undefined {
  if (node.kind !== 'scalar' || node.value === null) {
    reading.problem(node.at, 'expected a plain value');
    return undefined;
  }
  try {
    return parse(expand(node, reading.env).text);
  } catch (error) {
    reading.problem(node.at, `${JSON.stringify(node.text)} is not valid: ${messageOf(error)}`);
    return undefined;
  }
}
