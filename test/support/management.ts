// The few calls of RabbitMQ's management API that tests and the demo make.

/** A queue as `GET /api/queues/VHOST/NAME` has it, as far as it is used here. */
export interface QueueInfo {
  name: string;
  type: string;
  durable: boolean;
  auto_delete: boolean;
  exclusive: boolean;
  arguments: Record<string, unknown>;
  /** Absent until the broker's statistics have counted. */
  messages?: number;
}

/** An exchange as `GET /api/exchanges/VHOST/NAME` has it, as far as it is used here. */
export interface ExchangeInfo {
  name: string;
  type: string;
  durable: boolean;
  auto_delete: boolean;
  internal: boolean;
}

/** A client connection as `GET /api/connections` has it, as far as it is used here. */
export interface ConnectionInfo {
  name: string;
  peer_host: string;
  user: string;
  client_properties?: Record<string, unknown>;
}

export interface ManagementAccess {
  /** Such as `http://127.0.0.1:15672`, without a trailing slash. */
  url: string;
  user: string;
  password: string;
  vhost: string;
}

export class ManagementClient {
  readonly #access: ManagementAccess;

  constructor(access: ManagementAccess) {
    this.#access = access;
  }

  /** The broker's version, such as `4.3.6`. */
  async version(): Promise<string> {
    return ((await this.#get('overview')) as { rabbitmq_version: string }).rabbitmq_version;
  }

  async queue(name: string): Promise<QueueInfo> {
    return (await this.#get(`queues/${this.#vhost}/${encodeURIComponent(name)}`)) as QueueInfo;
  }

  async queues(): Promise<QueueInfo[]> {
    return (await this.#get(`queues/${this.#vhost}`)) as QueueInfo[];
  }

  async exchange(name: string): Promise<ExchangeInfo> {
    return (await this.#get(`exchanges/${this.#vhost}/${encodeURIComponent(name)}`)) as ExchangeInfo;
  }

  async connections(): Promise<ConnectionInfo[]> {
    return (await this.#get('connections')) as ConnectionInfo[];
  }

  get #vhost(): string {
    return encodeURIComponent(this.#access.vhost);
  }

  async #get(path: string): Promise<unknown> {
    const { url, user, password } = this.#access;
    const response = await fetch(`${url}/api/${path}`, {
      headers: { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` },
      signal: AbortSignal.timeout(10_000),
    });
    if (!response.ok) throw new Error(`management API: GET /api/${path} answered ${response.status}`);
    return response.json();
  }
}
