import { type ArgumentType, ARGUMENTS_OF, type PlainMethod } from '../amqp/arguments.ts';
import { type FieldTable, type FieldValue, plainTable } from '../amqp/values.ts';

/** A method that a client sends, as people write it down. */
export interface Declare {
  readonly method: PlainMethod;
  /** Its arguments by name, as `encodeArguments` takes them; what is not given is not there. */
  readonly values: FieldTable;
}

const METHODS = Object.keys(ARGUMENTS_OF) as PlainMethod[];

/**
 * Reads a method from JSON: its arguments by name, and `method`, which is queue.declare where it is not given.
 * @throws Error whose message names the key and says what is expected
 */
export function readDeclare(text: string): Declare {
  const given = parseObject(text);
  const { method: name = 'queue.declare', ...values } = given;
  const method = METHODS.find((known) => known === name);
  if (method === undefined)
    throw new Error(
      `key "method": no rule concerns ${JSON.stringify(name)}; known are ${METHODS.join(', ')}`,
    );
  const types = argumentTypes(method);
  const read = Object.entries(values).map(([key, value]) => {
    const type = types.get(key);
    if (type === undefined) {
      const known = ['method', ...types.keys()].join(', ');
      throw new Error(`key ${JSON.stringify(key)}: ${method} has no such argument; known are ${known}`);
    }
    return [key, readArgument(key, type, value)] as const;
  });
  return { method, values: Object.fromEntries(read) };
}

/** The object whose JSON {@link readDeclare} reads. */
export function plainDeclare({ method, values }: Declare): object {
  return { method, ...plainTable(values) };
}

function parseObject(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error('it is no JSON', { cause: error });
  }
  if (!isObject(value))
    throw new Error('expected a JSON object such as {"queue": "reply_1", "durable": false}');
  return value;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function argumentTypes(method: PlainMethod): Map<string, ArgumentType> {
  const found = new Map<string, ArgumentType>();
  for (const { name, type } of ARGUMENTS_OF[method].arguments) if (name !== undefined) found.set(name, type);
  return found;
}

const EXPECTED: Readonly<Record<ArgumentType, string>> = {
  short: 'a whole number from 0 to 65535',
  long: 'a whole number from 0 to 4294967295',
  shortstr: 'a text of at most 255 octets',
  bit: 'true or false',
  table: 'an object',
};

function readArgument(key: string, type: ArgumentType, value: unknown): FieldValue {
  const isTaken = {
    short: isUnsigned(value, 0xffff),
    long: isUnsigned(value, 0xffff_ffff),
    shortstr: typeof value === 'string' && Buffer.byteLength(value) <= 255,
    bit: typeof value === 'boolean',
    table: isObject(value),
  };
  if (!isTaken[type])
    throw new Error(`key ${JSON.stringify(key)}: expected ${EXPECTED[type]}, not ${JSON.stringify(value)}`);
  return readField(key, value);
}

function isUnsigned(value: unknown, max: number): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= max;
}

/** @param path the keys that lead to it */
function readField(path: string, value: unknown): FieldValue {
  if (Array.isArray(value)) return value.map((item, index) => readField(`${path}[${index}]`, item));
  if (isObject(value)) {
    const entries = Object.entries(value).map(([key, inner]) => {
      if (Buffer.byteLength(key) > 255)
        throw new Error(`key ${JSON.stringify(`${path}.${key}`)}: a name has at most 255 octets`);
      return [key, readField(`${path}.${key}`, inner)] as const;
    });
    return Object.fromEntries(entries);
  }
  if (typeof value !== 'number' || !Number.isInteger(value)) return value as FieldValue;
  if (!Number.isSafeInteger(value))
    throw new Error(`key ${JSON.stringify(path)}: ${value} is too large to be exact in JSON`);
  return BigInt(value);
}
