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
  /** The sockets' addresses: no two connections have the same. */
  name: string;
  peer_host: string;
  user: string;
  /** Absent until its connection.open. */
  vhost?: string;
  ssl: boolean;
  client_properties?: Record<string, unknown>;
}

/** A channel as `GET /api/channels` has it, as far as it is used here. */
export interface ChannelInfo {
  /** The connection's name and the number. */
  name: string;
  number: number;
  vhost: string;
  connection_details: { name: string };
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

  async channels(): Promise<ChannelInfo[]> {
    return (await this.#get('channels')) as ChannelInfo[];
  }

  /** Makes a virtual host in which this user may do everything. */
  async addVirtualHost(name: string): Promise<void> {
    await this.#put(`vhosts/${encodeURIComponent(name)}`, {});
  }

  /** Makes a user or changes the password. */
  async setUser(name: string, password: string): Promise<void> {
    await this.#put(`users/${encodeURIComponent(name)}`, { password, tags: '' });
  }

  /** What the user may do in this virtual host: regular expressions of names. */
  async permit(user: string, allowed: { configure: string; write: string; read: string }): Promise<void> {
    await this.#put(`permissions/${this.#vhost}/${encodeURIComponent(user)}`, allowed);
  }

  get #vhost(): string {
    return encodeURIComponent(this.#access.vhost);
  }

  async #get(path: string): Promise<unknown> {
    return (await this.#ask(path, { method: 'GET' })).json();
  }

  async #put(path: string, body: object): Promise<void> {
    await this.#ask(path, { method: 'PUT', body: JSON.stringify(body) });
  }

  async #ask(path: string, request: { method: string; body?: string }): Promise<Response> {
    const { url, user, password } = this.#access;
    const response = await fetch(`${url}/api/${path}`, {
      ...request,
      headers: { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` },
      signal: AbortSignal.timeout(10_000),
    });
    if (!response.ok)
      throw new Error(`management API: ${request.method} /api/${path} answered ${response.status}`);
    return response;
  }
}
