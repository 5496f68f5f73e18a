/**
 * AMQP 0-9-1 octets written and read from the specification (sections 4.2.3 and 4.2.5) and RabbitMQ's errata, for tests:
 * nothing here calls the code under test, and nothing there calls this.
 */

/** Tags whose value is one number, by how Buffer writes and reads it. */
const NUMBERS = {
  b: { size: 1, write: 'writeInt8', read: 'readInt8' },
  B: { size: 1, write: 'writeUInt8', read: 'readUInt8' },
  s: { size: 2, write: 'writeInt16BE', read: 'readInt16BE' },
  u: { size: 2, write: 'writeUInt16BE', read: 'readUInt16BE' },
  I: { size: 4, write: 'writeInt32BE', read: 'readInt32BE' },
  i: { size: 4, write: 'writeUInt32BE', read: 'readUInt32BE' },
  f: { size: 4, write: 'writeFloatBE', read: 'readFloatBE' },
  d: { size: 8, write: 'writeDoubleBE', read: 'readDoubleBE' },
} as const;

const BIG_NUMBERS = {
  l: { write: 'writeBigInt64BE', read: 'readBigInt64BE' },
  L: { write: 'writeBigUInt64BE', read: 'readBigUInt64BE' },
  T: { write: 'writeBigUInt64BE', read: 'readBigUInt64BE' },
} as const;

/** All of RabbitMQ's type tags. */
export const TAGS = 'tbBsuIilLfdDSxAFTV';

/** A value with its tag. `t` is an octet, as on the wire: 0 is false and all others are true. */
export type Field =
  | { tag: 't'; value: number }
  | { tag: keyof typeof NUMBERS; value: number }
  | { tag: keyof typeof BIG_NUMBERS; value: bigint }
  | { tag: 'D'; scale: number; value: number }
  | { tag: 'S' | 'x'; value: Buffer }
  | { tag: 'A'; value: Field[] }
  | { tag: 'F'; value: Entry[] }
  | { tag: 'V' };

/** One entry of a table; keys are octets and may come twice. */
export interface Entry {
  key: Buffer;
  field: Field;
}

/** A frame of any type with any payload. */
export function frame(type: number, channel: number, payload: Uint8Array, end = 0xce): Buffer {
  const head = Buffer.alloc(7);
  head.writeUInt8(type, 0);
  head.writeUInt16BE(channel, 1);
  head.writeUInt32BE(payload.length, 3);
  return Buffer.concat([head, payload, Buffer.of(end)]);
}

/** A method frame; `args` are its encoded arguments. */
export function method(
  channel: number,
  classId: number,
  methodId: number,
  args: Uint8Array = Buffer.alloc(0),
): Buffer {
  const ids = Buffer.alloc(4);
  ids.writeUInt16BE(classId, 0);
  ids.writeUInt16BE(methodId, 2);
  return frame(1, channel, Buffer.concat([ids, args]));
}

/** A short string: its length in one octet, then its octets. */
export function shortstr(text: string | Buffer): Buffer {
  const octets = Buffer.from(text);
  return Buffer.concat([Buffer.of(octets.length), octets]);
}

/** What goes before its length in 4 octets. */
function sized(octets: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(octets.length);
  return Buffer.concat([length, octets]);
}

/** The value behind its tag. */
function encodeValue(field: Field): Buffer {
  switch (field.tag) {
    case 't':
      return Buffer.of(field.value);
    case 'D': {
      const octets = Buffer.alloc(5);
      octets.writeUInt8(field.scale, 0);
      octets.writeUInt32BE(field.value, 1);
      return octets;
    }
    case 'S':
    case 'x':
      return sized(field.value);
    case 'A':
      return sized(Buffer.concat(field.value.map(encodeField)));
    case 'F':
      return encodeTable(field.value);
    case 'V':
      return Buffer.alloc(0);
    case 'l':
    case 'L':
    case 'T': {
      const octets = Buffer.alloc(8);
      octets[BIG_NUMBERS[field.tag].write](field.value);
      return octets;
    }
    default: {
      const { size, write } = NUMBERS[field.tag];
      const octets = Buffer.alloc(size);
      octets[write](field.value, 0);
      return octets;
    }
  }
}

/** A value with its tag before it, as it stands in tables and arrays. */
export function encodeField(field: Field): Buffer {
  return Buffer.concat([Buffer.from(field.tag, 'latin1'), encodeValue(field)]);
}

export function encodeEntry({ key, field }: Entry): Buffer {
  return Buffer.concat([shortstr(key), encodeField(field)]);
}

/** A table with its length before it. */
export function encodeTable(entries: readonly Entry[]): Buffer {
  return sized(Buffer.concat(entries.map(encodeEntry)));
}

/** Reads values one behind the other; throws RangeError beyond the end. */
class Reader {
  readonly octets: Buffer;
  at = 0;

  constructor(octets: Buffer) {
    this.octets = octets;
  }

  get done(): boolean {
    return this.at === this.octets.length;
  }

  take(length: number): Buffer {
    if (this.at + length > this.octets.length) throw new RangeError('beyond the end');
    this.at += length;
    return this.octets.subarray(this.at - length, this.at);
  }

  sized(): Buffer {
    return this.take(this.take(4).readUInt32BE());
  }

  field(): Field {
    const tag = this.take(1).toString('latin1') as Field['tag'];
    switch (tag) {
      case 't':
        return { tag, value: this.take(1).readUInt8() };
      case 'D':
        return { tag, scale: this.take(1).readUInt8(), value: this.take(4).readUInt32BE() };
      case 'S':
      case 'x':
        return { tag, value: this.sized() };
      case 'A': {
        const inner = new Reader(this.sized());
        const value: Field[] = [];
        while (!inner.done) value.push(inner.field());
        return { tag, value };
      }
      case 'F':
        return { tag, value: new Reader(this.sized()).entries() };
      case 'V':
        return { tag };
      case 'l':
      case 'L':
      case 'T':
        return { tag, value: this.take(8)[BIG_NUMBERS[tag].read]() };
      default: {
        const number = NUMBERS[tag];
        if (number === undefined) throw new RangeError(`no such tag: ${JSON.stringify(tag)}`);
        return { tag, value: this.take(number.size)[number.read]() };
      }
    }
  }

  entries(): Entry[] {
    const found: Entry[] = [];
    while (!this.done) {
      const key = this.take(this.take(1).readUInt8());
      found.push({ key, field: this.field() });
    }
    return found;
  }
}

/** The entries of a table given with its length. */
export function decodeTable(octets: Uint8Array): Entry[] {
  const reader = new Reader(Buffer.from(octets));
  const entries = new Reader(reader.sized()).entries();
  if (!reader.done) throw new RangeError('octets behind the table');
  return entries;
}

/** An entry whose key is text. */
export function entry(key: string, field: Field): Entry {
  return { key: Buffer.from(key), field };
}

/** An S value of text. */
export function longstr(text: string): Field {
  return { tag: 'S', value: Buffer.from(text) };
}

interface Declare {
  readonly channel?: number;
  readonly name?: string | Buffer;
  readonly flags?: number;
  readonly entries?: readonly Entry[];
}

/** queue.declare; `flags`: passive 1, durable 2, exclusive 4, auto-delete 8, no-wait 16. */
export function queueDeclare({ channel = 1, name = 'q', flags = 0, entries = [] }: Declare): Buffer {
  const args = [Buffer.alloc(2), shortstr(name), Buffer.of(flags), encodeTable(entries)];
  return method(channel, 50, 10, Buffer.concat(args));
}

/** exchange.declare; `flags`: passive 1, durable 2, auto-delete 4, internal 8, no-wait 16. */
export function exchangeDeclare(declare: Declare & { readonly type?: string }): Buffer {
  const { channel = 1, name = 'x', type = 'topic', flags = 0, entries = [] } = declare;
  const args = [Buffer.alloc(2), shortstr(name), shortstr(type), Buffer.of(flags), encodeTable(entries)];
  return method(channel, 40, 10, Buffer.concat(args));
}

/** basic.consume; `flags`: no-local 1, no-ack 2, exclusive 4, no-wait 8. */
export function basicConsume(consume: Declare & { readonly tag?: string }): Buffer {
  const { channel = 1, name = 'q', tag = '', flags = 0, entries = [] } = consume;
  const args = [Buffer.alloc(2), shortstr(name), shortstr(tag), Buffer.of(flags), encodeTable(entries)];
  return method(channel, 60, 20, Buffer.concat(args));
}

/** basic.qos; `flags`: global 1. */
export function basicQos(size: number, count: number, flags: number): Buffer {
  const args = Buffer.alloc(7);
  args.writeUInt32BE(size, 0);
  args.writeUInt16BE(count, 4);
  args.writeUInt8(flags, 6);
  return method(1, 60, 10, args);
}

/** Name, flags and arguments of a queue.declare frame, whose lengths must all be right. */
export function readQueueDeclare(octets: Uint8Array): { name: Buffer; flags: number; entries: Entry[] } {
  const payload = new Reader(payloadOf(octets));
  payload.take(6);
  const name = payload.take(payload.take(1).readUInt8());
  const flags = payload.take(1).readUInt8();
  return { name, flags, entries: decodeTable(payload.take(payload.octets.length - payload.at)) };
}

/** The payload of a frame, whose size and end octet must be right. */
function payloadOf(octets: Uint8Array): Buffer {
  const reader = new Reader(Buffer.from(octets));
  reader.take(3);
  const payload = reader.sized();
  if (reader.take(1)[0] !== 0xce || !reader.done) throw new RangeError('not one whole frame');
  return payload;
}
