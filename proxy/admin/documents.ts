import { ORIGINS } from '../../common/resolve.ts';
import { MODES } from '../../common/contract.ts';
import { DIRECTIONS } from '../faults/fault.ts';
import { RELOAD_RESULTS } from '../reload/stats.ts';
import { type Described, list, mapOf, nullable, object } from './schema.ts';

/** The documents of the admin API: docs/admin.md explains them. Fields are added, never renamed or removed. */

const count = { type: 'integer' } as const;
const text = { type: 'string' } as const;
const textOrNull = { type: ['string', 'null'] } as const;
const time = { type: 'string', description: 'ISO 8601 in UTC' } as const;
const counts = mapOf(count);

/** What a connection waits for, as the session has it. */
export const CONNECTION_STATES = [
  'header',
  'connecting',
  'handshake',
  'open',
  'raw',
  'closing',
  'closed',
] as const;

export const CONNECTION = object({
  id: { type: 'integer', description: 'the number of the connection in the log' },
  address: text,
  port: count,
  tls: { type: 'boolean' },
  state: {
    enum: CONNECTION_STATES,
    description:
      'header: nothing has come yet; connecting: to the backend; handshake: up to connection.open-ok; open; raw: not AMQP 0-9-1; closing, closed',
  },
  user: { type: ['string', 'null'], description: 'as the client says; the broker has let it in when open' },
  vhost: textOrNull,
  name: { type: ['string', 'null'], description: 'connection_name of the client properties' },
  product: textOrNull,
  version: textOrNull,
  platform: textOrNull,
  connectedAt: time,
  channels: { type: 'integer', description: 'that are open' },
  octetsFromClient: count,
  octetsToClient: count,
  buffered: { type: 'integer', description: 'octets that are held for the client' },
  rewrites: { type: 'integer', description: 'frames edited on their way to the broker' },
  paused: { type: 'boolean', description: 'its virtual host is paused' },
});
export type ConnectionDocument = Described<typeof CONNECTION>;

export const CONNECTIONS = object({
  total: { type: 'integer', description: 'connections there are' },
  matching: { type: 'integer', description: 'those that the filter takes' },
  offset: count,
  limit: count,
  connections: list(CONNECTION),
});
export type ConnectionsDocument = Described<typeof CONNECTIONS>;

const UPSTREAM = object({
  name: text,
  state: text,
  channels: count,
  clients: count,
  channelMax: count,
  blockedBy: {
    type: ['string', 'null'],
    description: "the broker's reason, while it has blocked publishing",
  },
});
export type UpstreamDocument = Described<typeof UPSTREAM>;

const GROUP = object({
  user: textOrNull,
  virtualHost: text,
  alive: { type: 'boolean' },
  clients: count,
  waiting: count,
  connections: list(UPSTREAM),
});
export type GroupDocument = Described<typeof GROUP>;

export const POOL = object({
  connections: count,
  maxUpstreamConnections: count,
  logins: count,
  groups: list(GROUP),
});
export type PoolDocument = Described<typeof POOL>;

export const PAUSE = object({
  vhost: text,
  until: { type: 'string', description: 'when it is resumed by itself: ISO 8601 in UTC' },
  connections: { type: 'integer', description: 'open connections that are held' },
});
export type PauseDocument = Described<typeof PAUSE>;

export const DELAY = object({
  milliseconds: count,
  direction: { enum: ['both', ...DIRECTIONS] },
  user: { type: ['string', 'null'], description: 'null: of all users' },
  vhost: { type: ['string', 'null'], description: 'null: of all virtual hosts' },
  until: { type: 'string', description: 'when it ends by itself: ISO 8601 in UTC' },
  connections: { type: 'integer', description: 'open connections that are meant' },
});
export type DelayDocument = Described<typeof DELAY>;

export const FAULTS = object({
  enabled: { type: 'boolean', description: 'by --fault-injection' },
  injected: { ...counts, description: 'by fault, since the start' },
  delays: { ...list(DELAY), description: 'that run' },
});
export type FaultsDocument = Described<typeof FAULTS>;

export const SEVERED = object({
  clients: { type: 'integer', description: "clients' connections that were reset" },
  broker: { type: 'integer', description: 'connections to the broker that were reset' },
});
export type SeveredDocument = Described<typeof SEVERED>;

export const FAULTS_ENDED = object({ ended: count });

const SUMMARY = object({
  text,
  unneededSince: textOrNull,
  lastRewrite: textOrNull,
  clients: count,
  needing: count,
});

const LIMITS = object({
  action: { enum: ['enforce', 'alarm'] },
  limits: { ...counts, description: 'by option; 0 is no limit' },
  hits: { ...counts, description: 'how often each was reached' },
});

export type LimitsDocument = Described<typeof LIMITS>;

const BREAKER = object({
  state: { enum: ['closed', 'half-open', 'open'] },
  why: { type: ['string', 'null'], description: 'why it is not closed' },
  opened: count,
  refused: { type: 'integer', description: 'connections that it refused' },
});
export type BreakerDocument = Described<typeof BREAKER>;

export const STATS = object({
  mode: { enum: MODES },
  startedAt: time,
  uptimeSeconds: { type: 'number' },
  draining: { type: 'boolean' },
  backend: text,
  connections: object({ active: count, total: count }),
  octets: object({ fromClients: count, fromBackend: count }),
  frames: object({ fromClients: count, fromBackend: count }),
  rewrites: counts,
  meaningChanges: counts,
  queuesDeleted: count,
  errors: counts,
  ledger: SUMMARY,
  limits: LIMITS,
  breaker: BREAKER,
  paused: list(PAUSE),
  faults: FAULTS,
  process: object({ residentOctets: count, heapOctets: count, cpuSeconds: { type: 'number' } }),
});
export type StatsDocument = Described<typeof STATS>;

/** A client of the ledger, as short as the page needs it. */
const NEEDING = object({
  user: textOrNull,
  vhost: text,
  name: textOrNull,
  address: text,
  open: { type: 'integer', description: 'connections that are open' },
  rewrites: counts,
  lastRewrite: textOrNull,
});

export const STATE = object({
  stats: STATS,
  pool: nullable(POOL),
  connections: CONNECTIONS,
  needing: list(NEEDING),
});
export type StateDocument = Described<typeof STATE>;

/** As options are written: several texts where they are repeatable, none where there is no value. */
const texts = list(text);

const CHANGE = object({
  option: text,
  before: texts,
  after: { ...texts, description: 'as before where what a file holds has changed' },
  effect: { enum: ['applied', 'restart'], description: 'restart: from the next start on' },
});
export type ChangeDocument = Described<typeof CHANGE>;

export const RELOAD = object({
  result: { enum: RELOAD_RESULTS },
  changes: list(CHANGE),
  problems: { ...texts, description: 'why it was refused, line by line' },
});
export type ReloadDocument = Described<typeof RELOAD>;

export const CONFIGURATION = object({
  file: { type: ['string', 'null'], description: 'the configuration file' },
  loadedAt: time,
  problems: { ...texts, description: 'why what was read last is not in effect' },
  options: list(
    object({
      option: text,
      value: texts,
      origin: { enum: ORIGINS },
      where: {
        type: ['string', 'null'],
        description: 'the flag, the variable or the key with its place in the file',
      },
      afterRestart: nullable(texts),
    }),
  ),
});
export type ConfigurationDocument = Described<typeof CONFIGURATION>;

export const CLOSING = object({ id: count, closing: { type: 'boolean' } });

export const RESUMED = object({ vhost: text, connections: count });

export const HEAP = object({
  residentOctets: count,
  heap: counts,
  spaces: list(object({ name: text, size: count, used: count, available: count })),
});
export type HeapDocument = Described<typeof HEAP>;

const SEEN = object({ count, firstSeen: time, lastSeen: time, example: text });

const LEDGER_CLIENT = object({
  user: textOrNull,
  vhost: text,
  connectionName: textOrNull,
  product: textOrNull,
  version: textOrNull,
  platform: textOrNull,
  address: text,
  needsProxy: { type: 'boolean' },
  connections: object({ now: count, needing: count, total: count }),
  firstSeen: time,
  lastSeen: time,
  lastRewrite: textOrNull,
  rewrites: counts,
  changes: counts,
  usages: mapOf(SEEN),
});

/** GET /clients; its type is in ledger-document.ts. */
export const LEDGER = object({
  mode: { enum: MODES },
  startedAt: time,
  broker: object({ version: textOrNull }),
  evicted: count,
  summary: SUMMARY,
  clients: list(LEDGER_CLIENT),
});
