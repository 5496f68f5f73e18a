// RabbitMQ's management API: one node after the other is asked, every request ends in time, every answer is bounded.
import { type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { messageOf } from '../../common/errors.ts';
import { isObject, objectsAt, textAt, valueAt } from '../../common/kube/json.ts';
import type { Json, JsonObject } from '../../common/kube/types.ts';
import { parseExact } from './exact-json.ts';

/** Where one node answers. */
export interface ManagementEndpoint {
  /** The pod, for people. */
  readonly pod: string;
  /** Such as `http://10.0.0.7:15672`, without a trailing slash. */
  readonly url: string;
}

export interface ManagementAccess {
  /** Asked in this order: the next where one doesn't answer. */
  readonly endpoints: readonly ManagementEndpoint[];
  /** For https: the authority (PEM; Node's own list without one) and the name that the certificate must have. */
  readonly tls?: { readonly ca: string | undefined; readonly serverName: string };
  readonly credentials: { readonly username: string; readonly password: string };
  /** Where the credentials are from, for people: `Secret openstack/rabbitmq-default-user`. */
  readonly credentialsFrom: string;
  /** How long one request to one node may take, in milliseconds; an import may take ten times as long. */
  readonly timeoutMs: number;
}

/** Why the management API gave no result; the message is fit for conditions and logs and has no secrets. */
export class ManagementFailure extends Error {
  override readonly name = 'ManagementFailure';
  /** The HTTP status that was answered; undefined when there was no answer that could be read. */
  readonly code: number | undefined;

  constructor(message: string, code?: number) {
    super(message);
    this.code = code;
  }
}

/** A queue as the broker lists it; the figures are absent until it has counted, or where it doesn't at all. */
export interface ListedQueue {
  readonly vhost: string;
  readonly name: string;
  readonly type: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly exclusive: boolean;
  readonly arguments: JsonObject;
  readonly messages: number | undefined;
  readonly persistent: number | undefined;
}

/** Every method rejects with ManagementFailure and ends when the signal does. */
export interface Management {
  overview(signal: AbortSignal): Promise<{ version: string }>;
  /** Nodes of the cluster, and those of them that run. */
  nodes(signal: AbortSignal): Promise<{ known: number; running: number }>;
  /** The user that asks. */
  whoami(signal: AbortSignal): Promise<{ name: string; isAdministrator: boolean }>;
  /** The definitions of all virtual hosts, numbers exact. */
  definitions(signal: AbortSignal): Promise<JsonObject>;
  /** Brings definitions in; resolves to what the broker says against them (400): then others of them may be in. */
  importDefinitions(definitions: JsonObject, signal: AbortSignal): Promise<string | undefined>;
  queues(signal: AbortSignal): Promise<ListedQueue[]>;
  /** All of a list that is not paged: vhosts, users, exchanges, bindings, policies, permissions, … */
  list(path: string, signal: AbortSignal): Promise<JsonObject[]>;
}

const DEFINITIONS_MAX = 64 * 2 ** 20;
const ANSWER_MAX = 16 * 2 ** 20;
/** More the API gives in no page. */
const PAGE = 500;
/** Queues that come and go move between pages. */
const LISTINGS_MAX = 5;
/** Of what a broker says when it refuses, in characters. */
const SAID_MAX = 400;

interface Asked {
  readonly method: 'GET' | 'POST';
  /** Behind /api/, encoded. */
  readonly path: string;
  readonly body?: JsonObject;
  readonly maxBytes?: number;
  readonly timeoutMs?: number;
}

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly from: ManagementEndpoint;
}

/** Speaks to the first node that answers, and to that one first from then on. It keeps no connection open. */
export function connectManagement(access: ManagementAccess): Management {
  const { credentials, credentialsFrom, timeoutMs } = access;
  let endpoints = [...access.endpoints];
  const authorization = `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;

  const askOne = async (from: ManagementEndpoint, asked: Asked, signal: AbortSignal): Promise<Answer> => {
    const { method, path, maxBytes = ANSWER_MAX } = asked;
    const milliseconds = asked.timeoutMs ?? timeoutMs;
    const body = asked.body === undefined ? undefined : JSON.stringify(asked.body);
    const headers: Record<string, string | number> = { authorization, accept: 'application/json' };
    if (body !== undefined) {
      headers['content-type'] = 'application/json';
      headers['content-length'] = Buffer.byteLength(body);
    }
    const url = new URL(`${from.url}/api/${path}`);
    const ends = AbortSignal.any([signal, AbortSignal.timeout(milliseconds)]);
    const { tls } = access;
    const options = {
      method,
      headers,
      agent: false,
      signal: ends,
      ...(tls === undefined
        ? {}
        : { servername: tls.serverName, ...(tls.ca === undefined ? {} : { ca: tls.ca }) }),
    };
    try {
      const response = await answerTo(url, options, body);
      const text = await textOf(response, maxBytes);
      return { status: response.statusCode ?? 0, text, from };
    } catch (error) {
      if (signal.aborted) throw new ManagementFailure(`asking ${placeOf(from)} was given up`);
      throw new ManagementFailure(
        ends.aborted
          ? `${placeOf(from)} did not answer within ${milliseconds / 1000} s`
          : `${placeOf(from)}: ${unreachable(error)}`,
      );
    }
  };

  const ask = async (asked: Asked, signal: AbortSignal): Promise<Answer> => {
    const failures: string[] = [];
    for (const from of endpoints) {
      try {
        const answer = await askOne(from, asked, signal);
        // 503 is a node that starts or stops: another one may do better.
        if (answer.status === 503) throw refused(asked, answer, credentialsFrom);
        endpoints = [from, ...endpoints.filter((other) => other !== from)];
        return answer;
      } catch (error) {
        if (signal.aborted) throw error;
        failures.push(messageOf(error));
      }
    }
    throw new ManagementFailure(
      failures.length === 0 ? 'no pod of RabbitMQ has an address yet' : failures.join('; '),
    );
  };

  const done = async (asked: Asked, signal: AbortSignal): Promise<Answer> => {
    const answer = await ask(asked, signal);
    if (answer.status < 200 || answer.status >= 300) throw refused(asked, answer, credentialsFrom);
    return answer;
  };

  const read = async (asked: Asked, signal: AbortSignal): Promise<Json> => {
    const { text, from } = await done(asked, signal);
    try {
      return parseExact(text);
    } catch {
      // The parser quotes what it could not read.
      throw new ManagementFailure(`${placeOf(from)}: its answer to GET /api/${asked.path} is not valid JSON`);
    }
  };

  const get = (path: string, signal: AbortSignal): Promise<Json> => read({ method: 'GET', path }, signal);

  const somethingElse = (path: string): ManagementFailure =>
    new ManagementFailure(`the management API answered GET /api/${path} with something else`);

  const list = async (path: string, signal: AbortSignal): Promise<JsonObject[]> => {
    const answer = await get(path, signal);
    if (!Array.isArray(answer)) throw somethingElse(path);
    return objectsAt({ answer }, 'answer');
  };

  /** undefined where queues came or went meanwhile. */
  const listQueues = async (signal: AbortSignal): Promise<ListedQueue[] | undefined> => {
    const columns =
      'vhost,name,type,durable,auto_delete,exclusive,owner_pid_details,arguments,messages,messages_persistent';
    const found = new Map<string, ListedQueue>();
    for (let page = 1; ; page += 1) {
      const path = `queues?page=${page}&page_size=${PAGE}&sort=name&columns=${columns}`;
      let answer: Json;
      try {
        answer = await get(path, signal);
      } catch (error) {
        // A page that is there no more.
        if (page > 1 && error instanceof ManagementFailure && error.code === 400) return undefined;
        throw error;
      }
      const count = valueAt(answer, 'filtered_count');
      const pages = valueAt(answer, 'page_count');
      if (typeof count !== 'number' || typeof pages !== 'number' || !Array.isArray(valueAt(answer, 'items')))
        throw somethingElse(path);
      for (const item of objectsAt(answer, 'items')) {
        const queue = queueOf(item);
        found.set(JSON.stringify([queue.vhost, queue.name]), queue);
      }
      if (page >= pages) return found.size >= count ? [...found.values()] : undefined;
    }
  };

  return {
    async overview(signal) {
      const path = 'overview';
      const version = textAt(await get(path, signal), 'rabbitmq_version');
      if (version === undefined) throw somethingElse(path);
      return { version };
    },

    async nodes(signal) {
      const nodes = await list('nodes?columns=name,running', signal);
      return { known: nodes.length, running: nodes.filter(({ running }) => running === true).length };
    },

    async whoami(signal) {
      const user = await get('whoami', signal);
      const tags = valueAt(user, 'tags');
      const all = Array.isArray(tags) ? tags : typeof tags === 'string' ? tags.split(',') : [];
      return { name: textAt(user, 'name') ?? '', isAdministrator: all.includes('administrator') };
    },

    async definitions(signal) {
      const path = 'definitions';
      const asked = {
        method: 'GET',
        path,
        maxBytes: DEFINITIONS_MAX,
        timeoutMs: timeoutMs * 10,
      } as const;
      const answer = await read(asked, signal);
      if (!isObject(answer)) throw somethingElse(path);
      return answer;
    },

    async importDefinitions(definitions, signal) {
      const asked = {
        method: 'POST',
        path: 'definitions',
        body: definitions,
        timeoutMs: timeoutMs * 10,
      } as const;
      const answer = await ask(asked, signal);
      if (answer.status === 400) return saidOf(answer.text) ?? 'it gives no reason';
      if (answer.status < 200 || answer.status >= 300) throw refused(asked, answer, credentialsFrom);
      return undefined;
    },

    async queues(signal) {
      for (let listing = 0; listing < LISTINGS_MAX; listing += 1) {
        const queues = await listQueues(signal);
        if (queues !== undefined) return queues;
      }
      throw new ManagementFailure('queues come and go faster than the management API can list them');
    },

    list,
  };
}

function answerTo(url: URL, options: RequestOptions, body: string | undefined): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const sent = (url.protocol === 'https:' ? requestHttps : requestHttp)(url, options, resolve);
    sent.once('error', reject);
    sent.end(body);
  });
}

async function textOf(response: IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBytes) throw new Error(`its answer has more than ${maxBytes / 2 ** 20} MiB`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function placeOf({ pod, url }: ManagementEndpoint): string {
  return `the management API of pod ${pod} (${url})`;
}

function unreachable(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (code === 'ECONNREFUSED') {
    return 'connection refused: RabbitMQ has to run there with the plugin rabbitmq_management enabled';
  }
  const isTls = /^(?:ERR_TLS|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_)/.test(code);
  return isTls
    ? `its certificate is not accepted (${code}): it has to be of the cluster's CA and for the cluster's name`
    : messageOf(error);
}

/** The broker's reason for a refusal; undefined where it gives none. Markup that it puts into texts is undone. */
function saidOf(text: string): string | undefined {
  let answer: Json;
  try {
    answer = JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
  const reason = textAt(answer, 'reason') ?? textAt(answer, 'error');
  return reason
    ?.replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&')
    .replaceAll(/(?:\\n|\s)+/g, ' ')
    .trim()
    .slice(0, SAID_MAX);
}

function refused({ method, path }: Asked, { status, text, from }: Answer, credentialsFrom: string) {
  const what = `${placeOf(from)} answered ${status} to ${method} /api/${path.split('?')[0]}`;
  if (status === 401 || status === 403) {
    const advice = /administrator|monitor|management/i.test(saidOf(text) ?? '')
      ? `the user of ${credentialsFrom} has to have the tag administrator`
      : `the credentials of ${credentialsFrom} are not accepted: put those of a user with the tag administrator there`;
    return new ManagementFailure(`${what}: ${advice}`, status);
  }
  if (status === 404) {
    const advice = 'the plugin rabbitmq_management has to be enabled, without a path prefix';
    return new ManagementFailure(`${what}: ${advice}`, status);
  }
  // What is said about something that was sent may quote it.
  const said = method === 'GET' ? saidOf(text) : undefined;
  return new ManagementFailure(said === undefined ? what : `${what}: ${said}`, status);
}

function queueOf(item: JsonObject): ListedQueue {
  const { messages, messages_persistent: persistent } = item;
  return {
    vhost: textAt(item, 'vhost') ?? '',
    name: textAt(item, 'name') ?? '',
    type: textAt(item, 'type') ?? 'classic',
    durable: item['durable'] === true,
    autoDelete: item['auto_delete'] === true,
    exclusive: item['exclusive'] === true || item['owner_pid_details'] !== undefined,
    arguments: isObject(item['arguments']) ? item['arguments'] : {},
    messages: typeof messages === 'number' ? messages : undefined,
    persistent: typeof persistent === 'number' ? persistent : undefined,
  };
}
