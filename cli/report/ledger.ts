import { MODES } from '../../common/contract.ts';
import type { LedgerClient, LedgerDocument, SeenUsage } from '../../proxy/ledger-document.ts';
import { MEANING_CHANGES, REWRITTEN_METHODS } from '../../proxy/rules/rule.ts';
import { USAGES } from '../../proxy/usage.ts';

/** A ledger that is not as docs/report.md has it. The message says where and what was expected. */
export class Invalid extends Error {
  override name = 'Invalid';
}

/** Gives the value as what it is, or throws {@link Invalid}. @param at where it stands, such as `clients[3].vhost` */
type Check<T> = (value: unknown, at: string) => T;

function expected(at: string, what: string): Invalid {
  return new Invalid(`${at === '' ? 'the document' : at} is not ${what}`);
}

const string: Check<string> = (value, at) => {
  if (typeof value !== 'string') throw expected(at, 'a text');
  return value;
};

const time: Check<string> = (value, at) => {
  if (typeof value !== 'string' || !/^\d{4}-\d\d-\d\dT/.test(value) || Number.isNaN(Date.parse(value)))
    throw expected(at, 'a time such as 2026-11-21T14:00:00Z');
  return value;
};

const count: Check<number> = (value, at) => {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw expected(at, 'a count');
  return value as number;
};

const boolean: Check<boolean> = (value, at) => {
  if (typeof value !== 'boolean') throw expected(at, 'true or false');
  return value;
};

function orNull<T>(check: Check<T>): Check<T | null> {
  return (value, at) => (value === null ? null : check(value, at));
}

function word<const T extends string>(words: readonly T[]): Check<T> {
  return (value, at) => {
    const found = words.find((word) => word === value);
    if (found === undefined) throw expected(at, `one of ${words.join(', ')}`);
    return found;
  };
}

function list<T>(check: Check<T>): Check<T[]> {
  return (value, at) => {
    if (!Array.isArray(value)) throw expected(at, 'a list');
    return value.map((item, index) => check(item, `${at}[${index}]`));
  };
}

function fields(value: unknown, at: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw expected(at, 'an object');
  return value as Readonly<Record<string, unknown>>;
}

/** An object with these fields; others are a newer proxy's and left out. */
function object<T extends object>(checks: { readonly [K in keyof T]: Check<T[K]> }): Check<T> {
  return (value, at) => {
    const given = fields(value, at);
    const names = Object.keys(checks) as (keyof T & string)[];
    return Object.fromEntries(
      names.map((name) => [name, checks[name](given[name], at === '' ? name : `${at}.${name}`)]),
    ) as T;
  };
}

/** An object whose keys are all among these: a usage that is not known has no verdict, and must not be passed over. */
function keyed<K extends string, T>(keys: readonly K[], check: Check<T>): Check<Partial<Record<K, T>>> {
  return (value, at) => {
    const found: Partial<Record<K, T>> = {};
    for (const [name, item] of Object.entries(fields(value, at))) {
      const key = keys.find((key) => key === name);
      if (key === undefined)
        throw new Invalid(
          `${at} has ${JSON.stringify(name)}, which this version does not know: use the proxy's`,
        );
      found[key] = check(item, `${at}.${name}`);
    }
    return found;
  };
}

const usage = object<SeenUsage>({ count, firstSeen: time, lastSeen: time, example: string });

const client = object<LedgerClient>({
  user: orNull(string),
  vhost: string,
  connectionName: orNull(string),
  product: orNull(string),
  version: orNull(string),
  platform: orNull(string),
  address: string,
  needsProxy: boolean,
  connections: object({ now: count, needing: count, total: count }),
  firstSeen: time,
  lastSeen: time,
  lastRewrite: orNull(time),
  rewrites: keyed(REWRITTEN_METHODS, count),
  changes: keyed(MEANING_CHANGES, count),
  usages: keyed(USAGES, usage),
});

const ledger = object<LedgerDocument>({
  mode: word(MODES),
  startedAt: time,
  broker: object({ version: orNull(string) }),
  evicted: count,
  summary: object({
    text: string,
    unneededSince: orNull(time),
    lastRewrite: orNull(time),
    clients: count,
    needing: count,
  }),
  clients: list(client),
});

/** Reads the answer to GET /clients. @throws Invalid when it is no JSON or of another shape */
export function readLedger(text: string): LedgerDocument {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw new Invalid('it is no JSON'); // without the parser's words, which quote what may be a secret
  }
  return ledger(document, '');
}
