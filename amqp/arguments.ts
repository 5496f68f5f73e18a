import { METHOD, REPLY } from './constants.ts';
import { WireError } from './error.ts';
import { ARGUMENTS, encodeMethod } from './method.ts';
import { tableEnd } from './table.ts';
import { type FieldTable, type FieldValue, decodeTable, encodeShortstr, encodeTable } from './values.ts';

/** How an argument of a method is written; bits that follow each other share an octet, the first one lowest. */
export type ArgumentType = 'short' | 'long' | 'shortstr' | 'bit' | 'table';

/** An argument; one without a name is reserved and 0. */
interface Argument {
  readonly name: string | undefined;
  readonly type: ArgumentType;
}

const reserved: Argument = { name: undefined, type: 'short' };

function all(type: ArgumentType, ...names: string[]): Argument[] {
  return names.map((name) => ({ name, type }));
}

/** The methods that are rewritten, with their arguments in the order of the wire (AMQP 0-9-1 XML). */
export const ARGUMENTS_OF = {
  'queue.declare': {
    method: METHOD.queueDeclare,
    arguments: [
      reserved,
      ...all('shortstr', 'queue'),
      ...all('bit', 'passive', 'durable', 'exclusive', 'auto_delete', 'no_wait'),
      ...all('table', 'arguments'),
    ],
  },
  'exchange.declare': {
    method: METHOD.exchangeDeclare,
    arguments: [
      reserved,
      ...all('shortstr', 'exchange', 'type'),
      ...all('bit', 'passive', 'durable', 'auto_delete', 'internal', 'no_wait'),
      ...all('table', 'arguments'),
    ],
  },
  'queue.delete': {
    method: METHOD.queueDelete,
    arguments: [reserved, ...all('shortstr', 'queue'), ...all('bit', 'if_unused', 'if_empty', 'no_wait')],
  },
  'basic.qos': {
    method: METHOD.basicQos,
    arguments: [...all('long', 'prefetch_size'), ...all('short', 'prefetch_count'), ...all('bit', 'global')],
  },
  'basic.consume': {
    method: METHOD.basicConsume,
    arguments: [
      reserved,
      ...all('shortstr', 'queue', 'consumer_tag'),
      ...all('bit', 'no_local', 'no_ack', 'exclusive', 'no_wait'),
      ...all('table', 'arguments'),
    ],
  },
} as const satisfies Readonly<Record<string, { method: number; arguments: readonly Argument[] }>>;

export type PlainMethod = keyof typeof ARGUMENTS_OF;

/** What an argument is when it is not given. */
const ABSENT: Readonly<Record<ArgumentType, FieldValue>> = {
  short: 0n,
  long: 0n,
  shortstr: '',
  bit: false,
  table: {},
};

/**
 * A method's frame on channel 1.
 * @param values by name, of the types that {@link decodeArguments} gives; what is not given is 0, '', false or {}
 * @throws RangeError for a name or key of more than 255 octets, and as `encodeField` does
 */
export function encodeArguments(name: PlainMethod, values: FieldTable): Uint8Array {
  const octets: number[] = [];
  let bit = 0;
  for (const { name: key, type } of ARGUMENTS_OF[name].arguments as readonly Argument[]) {
    const value = (key === undefined ? undefined : values[key]) ?? ABSENT[type];
    if (type === 'bit') {
      if (bit === 0) octets.push(0);
      if (value === true) octets[octets.length - 1]! |= 1 << bit;
      bit++;
      continue;
    }
    bit = 0;
    for (const octet of encodeArgument(type, value)) octets.push(octet);
  }
  return encodeMethod(1, ARGUMENTS_OF[name].method, Uint8Array.from(octets));
}

function encodeArgument(type: Exclude<ArgumentType, 'bit'>, value: FieldValue): Uint8Array {
  if (type === 'shortstr') return encodeShortstr(value as string);
  if (type === 'table') return encodeTable(value as FieldTable);
  const octets = new Uint8Array(type === 'short' ? 2 : 4);
  const view = new DataView(octets.buffer);
  if (type === 'short') view.setUint16(0, Number(value));
  else view.setUint32(0, Number(value));
  return octets;
}

/**
 * The arguments of a complete frame of that method, by name: whole numbers as bigint, bits as booleans.
 * @throws WireError 502 when it is malformed or holds a value that `encodeField` doesn't write
 */
export function decodeArguments(name: PlainMethod, frame: Uint8Array): FieldTable {
  const limit = frame.length - 1;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const values: Record<string, FieldValue> = {};
  let at = ARGUMENTS;
  let bit = 0;
  for (const { name: key, type } of ARGUMENTS_OF[name].arguments as readonly Argument[]) {
    if (type !== 'bit' && bit > 0) {
      bit = 0;
      at++;
    }
    const end = type === 'bit' ? at + 1 : argumentEnd(frame, type, at, limit);
    if (end > limit) throw new WireError(REPLY.syntaxError, `${name} cut off`);
    if (key !== undefined) {
      values[key] = type === 'bit' ? (frame[at]! & (1 << bit)) !== 0 : decodeArgument(view, type, at, end);
    }
    if (type === 'bit') bit++;
    else at = end;
  }
  if (at + (bit > 0 ? 1 : 0) !== limit) throw new WireError(REPLY.syntaxError, `${name} of a wrong length`);
  return values;
}

function argumentEnd(
  frame: Uint8Array,
  type: Exclude<ArgumentType, 'bit'>,
  at: number,
  limit: number,
): number {
  if (type === 'table') return tableEnd(frame, at, limit);
  if (type === 'shortstr') return at + 1 + (at < limit ? frame[at]! : 0);
  return at + (type === 'short' ? 2 : 4);
}

function decodeArgument(
  view: DataView,
  type: Exclude<ArgumentType, 'bit'>,
  at: number,
  end: number,
): FieldValue {
  const octets = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  if (type === 'shortstr') return new TextDecoder().decode(octets.subarray(at + 1, end));
  if (type === 'table') return decodeTable(octets, at, end);
  return BigInt(type === 'short' ? view.getUint16(at) : view.getUint32(at));
}
