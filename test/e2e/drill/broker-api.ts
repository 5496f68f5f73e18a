// The drill's administrator: what it asks and tells a broker by the management API.

export interface Definitions {
  [category: string]: Record<string, unknown>[];
}

/** The categories that the drill looks at, and what names one of their entries. */
const NAMED_BY: Record<string, string[]> = {
  users: ['name'],
  vhosts: ['name'],
  permissions: ['vhost', 'user'],
  parameters: ['vhost', 'component', 'name'],
  policies: ['vhost', 'name'],
  exchanges: ['vhost', 'name'],
  queues: ['vhost', 'name'],
  bindings: ['vhost', 'source', 'destination', 'routing_key'],
};

export class BrokerApi {
  readonly #url: string;
  readonly #authorization: string;

  /** @param host of a pod; its management listener has the usual port */
  constructor(host: string, user: string, password: string) {
    this.#url = `http://${host}:15672/api/`;
    this.#authorization = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
  }

  async call<T = unknown>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(this.#url + path, {
      method,
      headers: { authorization: this.#authorization, 'content-type': 'application/json' },
      signal: AbortSignal.timeout(20_000),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok)
      throw new Error(`management API: ${method} /api/${path} answered ${response.status}: ${text}`);
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  async version(): Promise<string> {
    return (await this.call<{ rabbitmq_version: string }>('GET', 'overview')).rabbitmq_version;
  }

  definitions(): Promise<Definitions> {
    return this.call('GET', 'definitions');
  }
}

/** How one entry fared. */
export interface Change {
  category: string;
  name: string;
  change: 'changed' | 'dropped' | 'new';
  /** What of a changed one is not the same, such as `durable` or `arguments.x-queue-type`. */
  fields: string[];
}

/** For each category how many there were and are, and what is not the same. */
export function compare(
  before: Definitions,
  after: Definitions,
): { counts: { category: string; before: number; after: number; same: number }[]; changes: Change[] } {
  const changes: Change[] = [];
  const counts = Object.entries(NAMED_BY).map(([category, keys]) => {
    const byName = (all: Definitions) =>
      new Map(
        (all[category] ?? []).map((entry) => [keys.map((key) => String(entry[key])).join(' '), flat(entry)]),
      );
    const [old, now] = [byName(before), byName(after)];
    let same = 0;
    for (const [name, entry] of old) {
      const current = now.get(name);
      const all = new Set([...entry.keys(), ...(current?.keys() ?? [])]);
      const fields = [...all].filter((key) => entry.get(key) !== current?.get(key));
      if (fields.length === 0) same += 1;
      else if (current === undefined) changes.push({ category, name, change: 'dropped', fields: [] });
      else changes.push({ category, name, change: 'changed', fields });
    }
    for (const name of now.keys())
      if (!old.has(name)) changes.push({ category, name, change: 'new', fields: [] });
    return { category, before: old.size, after: now.size, same };
  });
  return { counts, changes };
}

/** Values as JSON by their paths. */
function flat(entry: object, path = ''): Map<string, string> {
  return new Map(
    Object.entries(entry).flatMap(([key, value]: [string, unknown]) =>
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? [...flat(value, `${path}${key}.`)]
        : [[path + key, JSON.stringify(value)] as const],
    ),
  );
}
