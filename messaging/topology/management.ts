// What RabbitMQ's management API tells of one virtual host. It is only asked, never told.
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { messageOf } from '../../common/errors.ts';
import { type Version, parseVersion } from '../../common/version.ts';
import type { Arguments } from '../config/kinds.ts';
import type { ConnectionConfig } from '../config/types.ts';
import { tlsOptions } from '../connection.ts';
import { BrokerFailure } from '../errors.ts';
import type { BindingDeclaration } from './declarations.ts';
import type { Observed, ObservedQueue } from './observed.ts';

/** A virtual host with more than this is none that a file describes. */
const ANSWER_MAX = 32 * 2 ** 20;

export interface ManagementSettings {
  /** Such as `http://127.0.0.1:15672`. */
  readonly url: string;
  readonly connection: ConnectionConfig;
  /** How long each request may take. */
  readonly timeoutMs: number;
  /** What the broker calls its cluster at the AMQP handshake: another cluster's answers are refused. */
  readonly clusterName: string | undefined;
}

type Item = Readonly<Record<string, unknown>>;

/**
 * Reads a virtual host: exchanges, queues and bindings.
 * @throws BrokerFailure where the API doesn't answer, doesn't let this user in, or is another cluster's
 */
export async function observe(settings: ManagementSettings): Promise<Observed> {
  const overview = (await get(settings, 'overview')) as Item;
  const { clusterName } = settings;
  if (clusterName !== undefined && overview['cluster_name'] !== clusterName) {
    throw new BrokerFailure(
      `${placeOf(settings)} is of cluster ${JSON.stringify(overview['cluster_name'])}, but AMQP reaches ${JSON.stringify(clusterName)}: give the --management of the same broker`,
    );
  }
  const version = parseVersion(/^\d+\.\d+\.\d+/.exec(String(overview['rabbitmq_version']))?.[0]);
  if (version === undefined) throw somethingElse(settings, 'overview');
  const vhost = encodeURIComponent(settings.connection.vhost);
  const list = async (what: string): Promise<Item[]> => {
    const answer = await get(settings, `${what}/${vhost}`);
    if (!Array.isArray(answer)) throw somethingElse(settings, what);
    return answer as Item[];
  };
  const exchanges = await list('exchanges');
  const queues = (await list('queues')).map((item) => ({
    name: String(item['name']),
    type: typeof item['type'] === 'string' ? item['type'] : 'classic',
    durable: item['durable'] === true,
    autoDelete: item['auto_delete'] === true,
    exclusive: item['exclusive'] === true || item['owner_pid_details'] !== undefined,
    arguments: item['arguments'] as Arguments,
  }));
  return observedOf(version, { exchanges, queues, bindings: await list('bindings') });
}

/**
 * What a virtual host has, by what the management API lists.
 * @param listed exchanges and bindings as it writes them
 */
export function observedOf(
  version: Version,
  listed: {
    readonly exchanges: readonly Item[];
    readonly queues: readonly ObservedQueue[];
    readonly bindings: readonly Item[];
  },
): Observed {
  const exchanges = listed.exchanges.map((item) => ({
    name: String(item['name']),
    type: String(item['type']),
    durable: item['durable'] === true,
    autoDelete: item['auto_delete'] === true,
    internal: item['internal'] === true,
    arguments: item['arguments'] as Arguments,
  }));
  const bindings = listed.bindings.filter((item) => item['source'] !== '');
  const toQueues = (item: Item): boolean => item['destination_type'] === 'queue';
  return {
    version,
    exchanges: new Map(exchanges.filter(({ name }) => name !== '').map((one) => [one.name, one])),
    queues: new Map(listed.queues.map((one) => [one.name, one])),
    bindings: bindings.filter(toQueues).map(bindingOf),
    exchangeBindings: bindings.filter((item) => !toQueues(item)).map(bindingOf),
  };
}

function bindingOf(item: Item): BindingDeclaration {
  return {
    kind: 'binding',
    source: String(item['source']),
    destination: String(item['destination']),
    routingKey: String(item['routing_key']),
    arguments: item['arguments'] as Arguments,
  };
}

async function get(settings: ManagementSettings, path: string): Promise<unknown> {
  const { connection, timeoutMs } = settings;
  const { username, password, tls, host } = connection;
  const signal = AbortSignal.timeout(timeoutMs);
  let status: number;
  let text: string;
  try {
    const url = new URL(`${settings.url.replace(/\/$/, '')}/api/${path}`);
    const isTls = url.protocol === 'https:';
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = (isTls ? requestHttps : requestHttp)(
        url,
        {
          agent: false,
          signal,
          headers: { accept: 'application/json' },
          auth: `${username}:${password}`,
          ...(isTls && tls !== undefined ? tlsOptions(tls, host) : {}),
        },
        resolve,
      );
      request.once('error', reject);
      request.end();
    });
    status = response.statusCode ?? 0;
    text = await textOf(response);
  } catch (error) {
    if (error instanceof BrokerFailure) throw error;
    const reason = signal.aborted ? `no answer within ${timeoutMs / 1000} s` : messageOf(error);
    throw new BrokerFailure(`${placeOf(settings)}: ${reason}`);
  }
  if (status === 401 || status === 403)
    throw new BrokerFailure(
      `${placeOf(settings)} does not let user ${username} in (${status}): it needs the tag management or monitoring`,
    );
  if (status !== 200)
    throw new BrokerFailure(
      `${placeOf(settings)} answered ${status} to GET /api/${path}${status === 404 ? ': check the virtual host, and that it is the management API' : ''}`,
    );
  try {
    return JSON.parse(text);
  } catch {
    // The parser quotes what it could not read.
    throw somethingElse(settings, path);
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > ANSWER_MAX) throw new Error(`its answer has more than ${ANSWER_MAX / 2 ** 20} MiB`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function placeOf({ url }: ManagementSettings): string {
  return `the management API at ${url}`;
}

function somethingElse(settings: ManagementSettings, path: string): BrokerFailure {
  return new BrokerFailure(`${placeOf(settings)} answered GET /api/${path} with something else`);
}
