// Stands in for RabbitMQ's management API, in memory: what an upgrade asks of a broker, let in by users with passwords.
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { json } from 'node:stream/consumers';

export type Definition = Record<string, unknown>;
export type Definitions = Record<string, Definition[]>;

/** The fields that tell one object of a kind from the others, in the order in which a broker takes the kinds in. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  users: ['name'],
  vhosts: ['name'],
  permissions: ['vhost', 'user'],
  topic_permissions: ['vhost', 'user', 'exchange'],
  parameters: ['vhost', 'component', 'name'],
  global_parameters: ['name'],
  policies: ['vhost', 'name'],
  queues: ['vhost', 'name'],
  exchanges: ['vhost', 'name'],
  bindings: ['vhost', 'source', 'destination_type', 'destination', 'routing_key'],
};

/** What a node keeps on its volume. */
export type PlayedStorage = Map<string, Definition>;

export interface PlayedSettings {
  /** An address of this machine; the port is 15672, as with RabbitMQ. */
  host: string;
  /** With a patch, such as 3.10.8. */
  version: string;
  /** Empty for a new node: it then gets its default user. */
  storage: PlayedStorage;
  defaultUser: { username: string; password: string };
  /** Told of each request, before it is answered. */
  onRequest?: (method: string, path: string) => void;
}

/** As RabbitMQ keeps passwords (rabbit_password_hashing_sha256): salt and hash in base64. */
export function passwordHash(password: string, salt = randomBytes(4)): string {
  const hash = createHash('sha256').update(salt).update(password).digest();
  return Buffer.concat([salt, hash]).toString('base64');
}

/** Brings definitions in over what is there. */
export function putDefinitions(storage: PlayedStorage, definitions: Definitions): void {
  for (const [kind, keys] of Object.entries(KINDS)) {
    for (const object of definitions[kind] ?? [])
      storage.set(JSON.stringify([kind, ...keys.map((key) => object[key] ?? null)]), object);
  }
}

function objectsOf(storage: PlayedStorage, kind: string): Definition[] {
  return [...storage].flatMap(([id, object]) => ((JSON.parse(id) as string[])[0] === kind ? [object] : []));
}

/** All that a node has. */
export function definitionsIn(storage: PlayedStorage): Definitions {
  return Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, objectsOf(storage, kind)]));
}

/** One node that answers until it is stopped. */
export class PlayedBroker {
  readonly #settings: PlayedSettings;
  readonly #server: Server;

  private constructor(settings: PlayedSettings) {
    this.#settings = settings;
    this.#server = createServer((incoming, outgoing) => {
      void this.#answer(incoming, outgoing).catch(() => outgoing.destroy());
    });
  }

  static async start(settings: PlayedSettings): Promise<PlayedBroker> {
    const { storage, defaultUser } = settings;
    if (storage.size === 0) {
      const name = defaultUser.username;
      putDefinitions(storage, {
        users: [{ name, password_hash: passwordHash(defaultUser.password), tags: ['administrator'] }],
        vhosts: [{ name: '/' }],
        permissions: [{ user: name, vhost: '/', configure: '.*', write: '.*', read: '.*' }],
      });
    }
    const broker = new PlayedBroker(settings);
    await new Promise<void>((resolve, reject) => {
      broker.#server.once('error', reject);
      broker.#server.listen(15_672, settings.host, resolve);
    });
    return broker;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }

  async #answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const method = incoming.method ?? '';
    const path = (incoming.url ?? '').replace(/^\/api\//, '').split('?')[0]!;
    this.#settings.onRequest?.(method, path);
    const user = this.#user(incoming.headers.authorization);
    if (user === undefined) return send(outgoing, 401, { error: 'not_authorised', reason: 'Login failed' });
    if (method === 'POST' && path === 'definitions') return this.#import(incoming, outgoing);
    const found = this.#read(path, user);
    return found === undefined
      ? send(outgoing, 404, { error: 'Object Not Found' })
      : send(outgoing, 200, found);
  }

  #user(authorization = ''): Definition | undefined {
    const [name, ...rest] = Buffer.from(authorization.replace(/^Basic /, ''), 'base64')
      .toString()
      .split(':');
    return objectsOf(this.#settings.storage, 'users').find((user) => {
      const hash = String(user['password_hash']);
      const salt = Buffer.from(hash, 'base64').subarray(0, 4);
      return user['name'] === name && passwordHash(rest.join(':'), salt) === hash;
    });
  }

  #read(path: string, { name, tags }: Definition): unknown {
    const { storage, version } = this.#settings;
    if (path === 'overview') return { rabbitmq_version: version };
    if (path === 'nodes') return [{ name: 'rabbit@localhost', running: true }];
    if (path === 'whoami') return { name, tags };
    if (path === 'definitions') return { rabbitmq_version: version, ...definitionsIn(storage) };
    const [, kind, vhost] = /^(exchanges|bindings)\/(.+)$/.exec(path) ?? [];
    if (kind !== undefined && vhost !== undefined)
      return objectsOf(storage, kind).filter((object) => object['vhost'] === decodeURIComponent(vhost));
    if (!Object.hasOwn(KINDS, path)) return undefined;
    const objects = objectsOf(storage, path);
    if (path !== 'queues') return objects;
    const items = objects.map((queue) => ({ messages: 0, messages_persistent: 0, ...queue }));
    return { items, filtered_count: items.length, page_count: 1 };
  }

  async #import(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const definitions = (await json(incoming)) as Definitions;
    const mirrors = definitions['policies']?.some(({ definition }) => 'ha-mode' in (definition as object));
    if (mirrors === true && !this.#settings.version.startsWith('3.'))
      return send(outgoing, 400, {
        error: 'bad_request',
        reason: 'ha-mode are not recognised policy settings',
      });
    putDefinitions(this.#settings.storage, definitions);
    outgoing.writeHead(204).end();
  }
}

function send(outgoing: ServerResponse, status: number, body: unknown): void {
  outgoing.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
