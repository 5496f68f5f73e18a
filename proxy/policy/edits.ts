import { type FieldValue, encodeField, isInteger64 } from '../../amqp/values.ts';
import type { YamlEntry, YamlNode, YamlScalar } from '../../common/yaml.ts';
import type { QueueTreatment } from './policy.ts';
import type { Reader } from './reader.ts';

/** What a rule does to the arguments of a queue. */
export type ArgumentEdits = Pick<QueueTreatment, 'set' | 'remove'>;

/** The actions that arguments go with. */
export type EditingAction = Exclude<QueueTreatment['action'], 'leave'>;

/** What RabbitMQ takes as an argument's value. */
interface Known {
  readonly expected: string;
  takes(value: YamlScalar['value']): boolean;
}

function integer(min: bigint, max?: bigint): Known {
  return {
    expected:
      max === undefined ? `a whole number of at least ${min}` : `a whole number from ${min} to ${max}`,
    takes: (value) =>
      typeof value === 'bigint' && value >= min && (max === undefined ? isInteger64(value) : value <= max),
  };
}

function oneOf(...texts: string[]): Known {
  return {
    expected: `one of ${texts.join(', ')}`,
    takes: (value) => typeof value === 'string' && texts.includes(value),
  };
}

const count = integer(0n);
const text: Known = { expected: 'a text', takes: (value) => typeof value === 'string' };
const boolean: Known = { expected: 'true or false', takes: (value) => typeof value === 'boolean' };

/** Arguments whose values RabbitMQ checks; others are sent as they are. */
const KNOWN: Readonly<Record<string, Known>> = {
  'x-message-ttl': count,
  'x-max-length': count,
  'x-max-length-bytes': count,
  'x-max-in-memory-length': count,
  'x-max-in-memory-bytes': count,
  'x-consumer-timeout': count,
  'x-delivery-limit': integer(-1n),
  'x-quorum-initial-group-size': integer(1n),
  'x-max-priority': integer(1n, 255n),
  'x-single-active-consumer': boolean,
  'x-dead-letter-exchange': text,
  'x-dead-letter-routing-key': text,
  'x-dead-letter-strategy': oneOf('at-most-once', 'at-least-once'),
  'x-overflow': oneOf('drop-head', 'reject-publish', 'reject-publish-dlx'),
  'x-queue-leader-locator': oneOf('client-local', 'balanced', 'random'),
  'x-queue-mode': oneOf('default', 'lazy'),
};

const TYPE_REFUSED = 'the type is what "action" decides';

/** What can't be set, and why: on any queue, or on those of an action. */
const REFUSED: Readonly<Record<string, string>> = {
  'x-queue-type': TYPE_REFUSED,
  'x-expires': 'an expiry is what "expires" sets',
  'x-queue-master-locator': 'RabbitMQ 4.3 refuses it; x-queue-leader-locator has its place',
  'x-queue-version': 'RabbitMQ 4.3 refuses it',
};
const REFUSED_BY: Readonly<Record<EditingAction, Readonly<Record<string, string>>>> = {
  quorum: {
    'x-max-priority': 'quorum queues refuse it; "action: classic-durable" keeps priorities',
    'x-queue-mode': 'quorum queues refuse it: they keep messages on disk anyway',
  },
  'classic-durable': {
    'x-delivery-limit': 'classic queues refuse it: they requeue for ever',
    'x-quorum-initial-group-size': 'classic queues refuse it',
    'x-max-in-memory-length': 'classic queues refuse it',
    'x-max-in-memory-bytes': 'classic queues refuse it',
  },
};

/** Reads the key `arguments` of a rule for queues. */
export function readEdits(reader: Reader, node: YamlNode, action: EditingAction): ArgumentEdits {
  const keys = reader.keys(node, 'arguments', ['set', 'remove']);
  const set = keys?.get('set')?.value;
  const remove = keys?.get('remove')?.value;
  const edits: ArgumentEdits = {
    set: set === undefined ? [] : readSet(reader, set, action),
    remove: remove === undefined ? [] : reader.oneOrMore(remove, 'the name of an argument', parseRemoved),
  };
  for (const [key] of edits.set) {
    if (edits.remove.includes(key))
      reader.problem(node.at, `${JSON.stringify(key)} is both set and removed: one of them`);
  }
  return edits;
}

function parseRemoved(key: string): string {
  const problem = key === 'x-queue-type' ? TYPE_REFUSED : keyProblem(key);
  if (problem !== undefined) throw new Error(problem);
  return key;
}

function readSet(reader: Reader, node: YamlNode, action: EditingAction): [string, Uint8Array][] {
  if (node.kind !== 'map') {
    reader.problem(node.at, 'expected a mapping from arguments to values');
    return [];
  }
  return node.entries.flatMap((entry): [string, Uint8Array][] => {
    const value = readValue(reader, entry, action);
    return value === undefined ? [] : [[entry.key, encodeField(value)]];
  });
}

function readValue(
  reader: Reader,
  { key, at, value }: YamlEntry,
  action: EditingAction,
): FieldValue | undefined {
  const refused = keyProblem(key) ?? own(REFUSED, key) ?? own(REFUSED_BY[action], key);
  if (refused !== undefined) return reader.problem(at, `${JSON.stringify(key)} can't be set: ${refused}`);
  const known = own(KNOWN, key);
  if (known !== undefined) return readKnown(reader, value, key, known, action);
  return readPlain(reader, value);
}

function readKnown(
  reader: Reader,
  node: YamlNode,
  key: string,
  known: Known,
  action: EditingAction,
): FieldValue | undefined {
  const scalar = reader.scalar(node, known.expected);
  if (scalar === undefined) return undefined;
  if (!known.takes(scalar.value)) {
    return reader.problem(
      scalar.at,
      `${JSON.stringify(scalar.text)} is not valid for ${key}: expected ${known.expected}`,
    );
  }
  if (key === 'x-overflow' && scalar.value === 'reject-publish-dlx' && action === 'quorum') {
    return reader.problem(
      scalar.at,
      'quorum queues take reject-publish-dlx for drop-head and lose messages: reject-publish, or "action: classic-durable"',
    );
  }
  return scalar.value;
}

/** A value of an argument that RabbitMQ doesn't check, or that this doesn't know. */
function readPlain(reader: Reader, node: YamlNode): FieldValue | undefined {
  if (node.kind === 'list') {
    return node.items.flatMap((item) => readPlain(reader, item) ?? []);
  }
  if (node.kind === 'map') {
    const entries = node.entries.map(({ key, at, value }) => {
      const problem = keyProblem(key);
      if (problem !== undefined) reader.problem(at, `${JSON.stringify(key)}: ${problem}`);
      return [key, readPlain(reader, value)] as const;
    });
    return Object.fromEntries(entries.filter((entry) => entry[1] !== undefined)) as FieldValue;
  }
  const scalar = reader.scalar(node, 'a value');
  if (scalar === undefined) return undefined;
  const { value, at } = scalar;
  if (typeof value === 'bigint' && !isInteger64(value))
    return reader.problem(at, `${value} doesn't fit in 64 bits`);
  if (typeof value === 'number' && !Number.isFinite(value))
    return reader.problem(at, `${scalar.text} is no number that RabbitMQ knows`);
  return value;
}

function keyProblem(key: string): string | undefined {
  return /^[\x20-\x7e]{1,255}$/.test(key)
    ? undefined
    : 'expected the name of an argument: 1 to 255 characters of ASCII';
}

function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}
