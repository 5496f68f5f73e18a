import { WireError } from './error.ts';
import { type EntrySpan, entries, hasKey } from './table.ts';

/**
 * The responses of the SASL mechanisms that have a user and a password: PLAIN (RFC 4616) and AMQPLAIN, which is a field
 * table without its length. They are read to decide who somebody is, so that what could be read in two ways is nobody.
 */
export interface PasswordLogin {
  readonly user: string;
  /** A copy of its octets. */
  readonly password: Uint8Array;
}

const exactUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const toUtf8 = new TextEncoder();

const LONGSTR = 0x53;

/** Octets of a user's name that are taken: as many as a short string has. */
const USER_MAX = 255;

/** A response of PLAIN; undefined where it is none, or is on behalf of another user. */
export function readPlain(response: Uint8Array): PasswordLogin | undefined {
  const first = response.indexOf(0);
  const second = response.indexOf(0, first + 1);
  if (first < 0 || second < 0 || response.indexOf(0, second + 1) >= 0) return undefined;
  const login = loginOf(response, [first + 1, second], [second + 1, response.length]);
  return first === 0 || textOf(response, 0, first) === login?.user ? login : undefined;
}

/** A response of AMQPLAIN; undefined where it is none. */
export function readAmqplain(response: Uint8Array): PasswordLogin | undefined {
  const table = new Uint8Array(4 + response.length);
  new DataView(table.buffer).setUint32(0, response.length);
  table.set(response, 4);
  const user = longstrOf(table, 'LOGIN');
  const password = longstrOf(table, 'PASSWORD');
  return user === undefined || password === undefined ? undefined : loginOf(table, user, password);
}

/** A response of PLAIN. Neither may hold an octet 0. */
export function encodePlain(user: string, password: string): Uint8Array {
  return toUtf8.encode(`\0${user}\0${password}`);
}

type Span = readonly [start: number, end: number];

/** Where the only entry with this key has its text; undefined where there is none, or more than one. */
function longstrOf(table: Uint8Array, key: string): Span | undefined {
  let found: EntrySpan[];
  try {
    found = entries(table, 0, table.length).filter((entry) => hasKey(table, entry, key));
  } catch (error) {
    if (error instanceof WireError) return undefined;
    throw error;
  }
  const [entry] = found;
  if (entry === undefined || found.length > 1 || entry.tag !== LONGSTR) return undefined;
  return [entry.valueStart + 4, entry.end];
}

function loginOf(octets: Uint8Array, [start, end]: Span, password: Span): PasswordLogin | undefined {
  const user = end - start > USER_MAX ? undefined : textOf(octets, start, end);
  if (user === undefined) return undefined;
  return { user, password: new Uint8Array(octets.subarray(...password)) };
}

function textOf(octets: Uint8Array, start: number, end: number): string | undefined {
  try {
    return exactUtf8.decode(octets.subarray(start, end));
  } catch {
    return undefined;
  }
}
