// A small client of an API server for the tests: objects as they are on the wire, and errors that say what it said.
import { Agent, request } from 'node:https';

export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: KubeMetadata;
  [key: string]: unknown;
}

export interface KubeMetadata {
  name?: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: { apiVersion: string; kind: string; name: string; uid: string; controller?: boolean }[];
  [key: string]: unknown;
}

/** What it takes to find an object. */
export interface KubeRef {
  apiVersion: string;
  kind: string;
  metadata: { name?: string | undefined; namespace?: string | undefined };
}

export interface KubeAnswer<T = unknown> {
  status: number;
  body: T;
  /** The texts of the answer's Warning headers, which kubectl prints. */
  warnings: string[];
}

/** An answer of the API server that is no success; `message`, `code` and `reason` are those of its Status. */
export class KubeError extends Error {
  readonly code: number;
  readonly reason: string;

  constructor(what: string, code: number, reason: string, message: string) {
    super(`${what}: ${code} ${message}`);
    this.name = 'KubeError';
    this.code = code;
    this.reason = reason;
  }
}

export interface KubeAccess {
  /** `https://127.0.0.1:PORT` */
  url: string;
  /** PEM. */
  ca: string;
  /** Bearer token. */
  token: string;
  /** Act as this user instead, with these groups and system:authenticated. */
  as?: { user: string; groups?: string[] };
}

const PATCH_TYPES = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
} as const;

export type Query = Record<string, string>;

interface Resource {
  name: string;
  kind: string;
  namespaced: boolean;
}

const REQUEST_TIMEOUT_MS = 30_000;

export class KubeApi {
  readonly #access: KubeAccess;
  readonly #agent: Agent;
  readonly #resources = new Map<string, Resource[]>();

  constructor(access: KubeAccess) {
    this.#access = access;
    this.#agent = new Agent({ keepAlive: true, ca: access.ca });
  }

  /** The same API server, asked as another user by impersonation. */
  as(user: string, groups: string[] = []): KubeApi {
    return new KubeApi({ ...this.#access, as: { user, groups } });
  }

  /** Creates the object; `{dryRun: 'All'}` is kubectl's --dry-run=server. */
  async create<T extends KubeObject>(object: T, query: Query = {}): Promise<T> {
    return (await this.createVerbosely(object, query)).body;
  }

  /** The same, and the warnings with it. */
  async createVerbosely<T extends KubeObject>(object: T, query: Query = {}): Promise<KubeAnswer<T>> {
    return this.call<T>('POST', await this.path(object, { collection: true }), { body: object, query });
  }

  async read<T extends KubeObject>(ref: KubeRef): Promise<T> {
    return (await this.call<T>('GET', await this.path(ref))).body;
  }

  /** The object, or undefined when there is none of that name. */
  async find<T extends KubeObject>(ref: KubeRef): Promise<T | undefined> {
    return this.read<T>(ref).catch((error: unknown) => {
      if (error instanceof KubeError && error.code === 404) return undefined;
      throw error;
    });
  }

  /** All of one kind, in one namespace or in all; `query` may have a labelSelector. */
  async list<T extends KubeObject>(
    apiVersion: string,
    kind: string,
    namespace?: string,
    query: Query = {},
  ): Promise<T[]> {
    const path = await this.path({ apiVersion, kind, metadata: { namespace } }, { collection: true });
    const { items } = (await this.call<{ items: T[] }>('GET', path, { query })).body;
    return items.map((item) => ({ ...item, apiVersion, kind })); // which the items of a list don't say
  }

  /** Replaces the object (PUT), which has to carry the resourceVersion that it was read with. */
  async replace<T extends KubeObject>(object: T, query: Query = {}): Promise<T> {
    return (await this.call<T>('PUT', await this.path(object), { body: object, query })).body;
  }

  async patch<T extends KubeObject>(
    ref: KubeRef,
    patch: unknown,
    { type = 'merge', subresource = '', query = {} }: PatchSettings = {},
  ): Promise<T> {
    const path = await this.path(ref, { subresource });
    return (await this.call<T>('PATCH', path, { body: patch, type: PATCH_TYPES[type], query })).body;
  }

  /** Server-side apply by the named field manager. */
  async apply<T extends KubeObject>(object: T, manager: string, query: Query = {}): Promise<T> {
    const settings = {
      body: object,
      type: 'application/apply-patch+yaml',
      query: { fieldManager: manager, ...query },
    };
    return (await this.call<T>('PATCH', await this.path(object), settings)).body;
  }

  /** Deletes the object; `options` are DeleteOptions. */
  async remove(ref: KubeRef, options: Record<string, unknown> = {}): Promise<void> {
    await this.call('DELETE', await this.path(ref), { body: options });
  }

  /** One request; rejects with KubeError for any answer but 2xx. `path` begins with a slash. */
  async call<T = unknown>(method: string, path: string, settings: CallSettings = {}): Promise<KubeAnswer<T>> {
    const answer = await this.#send(method, path, settings);
    const body = parse(answer.text);
    if (answer.status >= 200 && answer.status < 300)
      return { status: answer.status, body: body as T, warnings: answer.warnings };
    const { reason = '', message = answer.text } = body as { reason?: string; message?: string };
    throw new KubeError(`${method} ${path}`, answer.status, reason, message);
  }

  /** The path of an object, or of the collection that it belongs to. Asks for the group's resources once. */
  async path(ref: KubeRef, { collection = false, subresource = '' }: PathSettings = {}): Promise<string> {
    const { apiVersion, kind, metadata } = ref;
    const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const resource = await this.#resource(root, kind);
    const { namespace, name } = metadata;
    const parts = [root];
    if (resource.namespaced && namespace !== undefined) parts.push('namespaces', namespace);
    parts.push(resource.name);
    if (!collection) {
      if (name === undefined) throw new Error(`a ${kind} without a name has no path`);
      parts.push(name);
    }
    if (subresource !== '') parts.push(subresource);
    return parts.join('/');
  }

  /** Ends the idle connections. */
  close(): void {
    this.#agent.destroy();
  }

  async #resource(root: string, kind: string): Promise<Resource> {
    const known = this.#resources.get(root)?.find((one) => one.kind === kind);
    if (known !== undefined) return known;
    const { resources } = (await this.call<{ resources: Resource[] }>('GET', root)).body;
    const plain = resources.filter((one) => !one.name.includes('/'));
    this.#resources.set(root, plain);
    const found = plain.find((one) => one.kind === kind);
    if (found === undefined) throw new Error(`${root} has no kind ${kind}`);
    return found;
  }

  #send(
    method: string,
    path: string,
    { body, type = 'application/json', query = {} }: CallSettings,
  ): Promise<Sent> {
    const { url, token, as } = this.#access;
    const target = new URL(path, url);
    for (const [key, value] of Object.entries(query)) target.searchParams.set(key, value);
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers: Record<string, string | string[]> = {
      accept: 'application/json',
      authorization: `Bearer ${token}`,
    };
    if (text !== undefined) {
      headers['content-type'] = type;
      headers['content-length'] = String(Buffer.byteLength(text));
    }
    if (as !== undefined) {
      headers['impersonate-user'] = as.user;
      headers['impersonate-group'] = [...(as.groups ?? []), 'system:authenticated'];
    }
    return new Promise((resolve, reject) => {
      const outgoing = request(target, { method, headers, agent: this.#agent, timeout: REQUEST_TIMEOUT_MS });
      outgoing.on('timeout', () =>
        outgoing.destroy(new Error(`${method} ${path}: no answer within ${REQUEST_TIMEOUT_MS / 1000} s`)),
      );
      outgoing.on('error', reject);
      outgoing.on('response', (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('error', reject);
        incoming.on('end', () => {
          const warnings = incoming.headersDistinct['warning'] ?? [];
          resolve({
            status: incoming.statusCode ?? 0,
            text: Buffer.concat(chunks).toString('utf8'),
            warnings: warnings.map(warningText),
          });
        });
      });
      outgoing.end(text);
    });
  }
}

export interface CallSettings {
  body?: unknown;
  /** Content type of the body. */
  type?: string;
  query?: Query;
}

export interface PatchSettings {
  type?: keyof typeof PATCH_TYPES;
  /** Such as `status`. */
  subresource?: string;
  query?: Query;
}

interface PathSettings {
  collection?: boolean;
  subresource?: string;
}

interface Sent {
  status: number;
  text: string;
  warnings: string[];
}

/** Health endpoints answer in plain text. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** `299 - "text"` (RFC 7234 5.5), with backslashes before quotes and backslashes. */
function warningText(header: string): string {
  const quoted = /^299 \S+ "(.*)"$/s.exec(header)?.[1];
  return quoted === undefined ? header : quoted.replaceAll(/\\(.)/g, '$1');
}

/** Asks again until `ask` gives a value; rejects with what it said last when that takes too long. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T | undefined | false>,
  timeoutMs = 30_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    let last = 'the answer was no';
    try {
      const value = await ask();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      last = String(error);
    }
    if (Date.now() >= deadline) throw new Error(`${what}: not within ${timeoutMs / 1000} s: ${last}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
