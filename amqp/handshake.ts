import { WireError } from './error.ts';
import { ARGUMENTS } from './method.ts';
import { findEntry, readUint32, tableEnd } from './table.ts';

/**
 * Who speaks, as connection.start and connection.start-ok tell (AMQP 0-9-1 sections 1.4.2.1 and 1.4.2.2). Nothing here
 * is needed to pass the frames on: what can't be read is undefined, and texts are cut to {@link TEXT_MAX} octets.
 */

/** Octets that are kept of a text that a peer says of itself. */
export const TEXT_MAX = 255;

export interface ServerIdentity {
  readonly product: string | undefined;
  readonly version: string | undefined;
}

export interface ClientIdentity {
  readonly product: string | undefined;
  readonly version: string | undefined;
  readonly platform: string | undefined;
  readonly connectionName: string | undefined;
  /** The SASL mechanism, such as PLAIN. */
  readonly mechanism: string | undefined;
  /** The name that the client logs in with; its password is never read. */
  readonly user: string | undefined;
}

/** A client of which nothing is known. */
export const NOBODY: ClientIdentity = {
  product: undefined,
  version: undefined,
  platform: undefined,
  connectionName: undefined,
  mechanism: undefined,
  user: undefined,
};

const utf8 = new TextDecoder('utf-8', { fatal: false });

/** Product and version in the server properties of a complete connection.start frame. */
export function readServerIdentity(start: Uint8Array): ServerIdentity {
  return lenient({ product: undefined, version: undefined }, () => {
    const text = propertyReader(start, ARGUMENTS + 2);
    return { product: text('product'), version: text('version') };
  });
}

/** What a complete connection.start-ok frame says of the client. */
export function readClientIdentity(startOk: Uint8Array): ClientIdentity {
  return lenient(NOBODY, () => {
    const limit = startOk.length - 1;
    const text = propertyReader(startOk, ARGUMENTS);
    const mechanismAt = tableEnd(startOk, ARGUMENTS, limit);
    const responseAt = mechanismAt + 1 + startOk[mechanismAt]!;
    const mechanism = utf8.decode(startOk.subarray(mechanismAt + 1, responseAt));
    return {
      product: text('product'),
      version: text('version') ?? text('product_version'), // py-amqp's name for it
      platform: text('platform'),
      connectionName: text('connection_name'),
      mechanism,
      user: readUser(startOk, mechanism, responseAt, limit),
    };
  });
}

/** The user in a SASL response: PLAIN (RFC 4616) or AMQPLAIN (a table without its length, as RabbitMQ reads it). */
function readUser(frame: Uint8Array, mechanism: string, at: number, limit: number): string | undefined {
  const end = tableEnd(frame, at, limit); // a longstr has its length where a table has it
  if (mechanism === 'AMQPLAIN') return propertyReader(frame, at)('LOGIN');
  if (mechanism !== 'PLAIN') return undefined;
  const start = frame.indexOf(0, at + 4) + 1;
  const stop = frame.indexOf(0, start);
  return start > 0 && stop >= start && stop < end ? cut(frame, start, stop) : undefined;
}

function propertyReader(frame: Uint8Array, tableStart: number): (key: string) => string | undefined {
  return (key) => {
    const entry = findEntry(frame, tableStart, frame.length - 1, key);
    if (entry === undefined || entry.tag !== 0x53) return undefined;
    const length = readUint32(frame, entry.valueStart);
    return cut(frame, entry.valueStart + 4, entry.valueStart + 4 + length);
  };
}

function cut(frame: Uint8Array, start: number, end: number): string {
  return utf8.decode(frame.subarray(start, Math.min(end, start + TEXT_MAX)));
}

function lenient<T>(otherwise: T, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof WireError) return otherwise;
    throw error;
  }
}
