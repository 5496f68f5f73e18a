import { CONNECTION_STATES, type ConnectionDocument, type ConnectionsDocument } from './documents.ts';
import type { Parameter, Values } from './parameters.ts';

/** By what connections can be sorted; a minus in front: the largest first. */
const SORTS = [
  'id',
  'user',
  'vhost',
  'name',
  'address',
  'state',
  'channels',
  'octetsFromClient',
  'octetsToClient',
  'buffered',
  'rewrites',
] as const satisfies readonly (keyof ConnectionDocument)[];
type Sort = (typeof SORTS)[number];

const CHOICES: readonly (Sort | `-${Sort}`)[] = SORTS.flatMap((sort) => [sort, `-${sort}`] as const);

export const CONNECTION_PARAMETERS = [
  { name: 'user', type: 'string', description: 'connections of this user' },
  { name: 'vhost', type: 'string', description: 'connections of this virtual host' },
  { name: 'address', type: 'string', description: 'connections from this IP address' },
  {
    name: 'name',
    type: 'string',
    description: 'connections whose connection_name, product or platform contains this, in any case',
  },
  {
    name: 'state',
    type: 'choice',
    choices: ['any', ...CONNECTION_STATES],
    default: 'any',
    description: 'connections in this state',
  },
  {
    name: 'sort',
    type: 'choice',
    choices: CHOICES,
    default: 'id',
    description: 'what they are sorted by; with a minus in front the largest are first',
  },
  {
    name: 'limit',
    type: 'integer',
    minimum: 1,
    maximum: 1000,
    default: 100,
    description: 'how many are in the answer at most',
  },
  {
    name: 'offset',
    type: 'integer',
    minimum: 0,
    maximum: 1_000_000,
    default: 0,
    description: 'how many are left out before',
  },
] as const satisfies readonly Parameter[];

export type ConnectionQuery = Values<typeof CONNECTION_PARAMETERS>;

function takes(query: ConnectionQuery, connection: ConnectionDocument): boolean {
  const { user, vhost, address, name, state } = query;
  if (user !== undefined && connection.user !== user) return false;
  if (vhost !== undefined && connection.vhost !== vhost) return false;
  if (address !== undefined && connection.address !== address) return false;
  if (state !== 'any' && connection.state !== state) return false;
  if (name === undefined) return true;
  const wanted = name.toLowerCase();
  return [connection.name, connection.product, connection.platform].some(
    (text) => text?.toLowerCase().includes(wanted) === true,
  );
}

/** What isn't known comes behind what is. */
function compare(a: ConnectionDocument, b: ConnectionDocument, sort: Sort): number {
  const [left, right] = [a[sort], b[sort]];
  if (left === right) return 0;
  if (left === null) return 1;
  if (right === null) return -1;
  return left < right ? -1 : 1;
}

/** Those of all connections that are asked for. */
export function pageOf(all: readonly ConnectionDocument[], query: ConnectionQuery): ConnectionsDocument {
  const { limit, offset } = query;
  const matching = all.filter((connection) => takes(query, connection));
  const down = query.sort.startsWith('-');
  const sort = (down ? query.sort.slice(1) : query.sort) as Sort;
  matching.sort((a, b) => (down ? compare(b, a, sort) : compare(a, b, sort)) || a.id - b.id);
  const connections = matching.slice(offset, offset + limit);
  return { total: all.length, matching: matching.length, offset, limit, connections };
}
