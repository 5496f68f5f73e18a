// What goes wrong between the reconciler and a management API; that it goes right is shown against real brokers.
import { once } from 'node:events';
import { type IncomingMessage, type RequestListener, type ServerResponse, createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { makeCa, makeServingCertificate } from '../../../certs/certificates.ts';
import { importDefinitions } from '../../../reconciler/broker/import.ts';
import { inventoryOf } from '../../../reconciler/broker/inventory.ts';
import {
  type Management,
  type ManagementAccess,
  connectManagement,
} from '../../../reconciler/broker/management.ts';

const PASSWORD = 'the-password';
const { signal } = new AbortController();

const servers: AsyncDisposable[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server[Symbol.asyncDispose]();
});

/** Serves on loopback and gives the URL. */
async function serve(listener: RequestListener, tls?: { cert: string; key: string }): Promise<string> {
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  servers.push({
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  });
  const { port } = server.address() as AddressInfo;
  return `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
}

function connect(urls: readonly string[], more: Partial<ManagementAccess> = {}): Management {
  return connectManagement({
    endpoints: urls.map((url, at) => ({ pod: `rabbit-server-${at}`, url })),
    credentials: { username: 'default_user', password: PASSWORD },
    credentialsFrom: 'Secret openstack/rabbit-default-user',
    timeoutMs: 2000,
    ...more,
  });
}

const answer =
  (status: number, text: string, seen?: string[]) =>
  (request: IncomingMessage, response: ServerResponse): void => {
    seen?.push(request.url ?? '');
    response.statusCode = status;
    response.end(text);
  };

const OVERVIEW = answer(200, '{"rabbitmq_version":"3.10.8"}');

/** A port where nobody listens. */
async function closedUrl(): Promise<string> {
  const url = await serve(OVERVIEW);
  await servers.pop()![Symbol.asyncDispose]();
  return url;
}

async function failureOf(promise: Promise<unknown>): Promise<string> {
  const message = await promise.then(
    () => 'no failure',
    (error: Error) => error.message,
  );
  expect(message).not.toContain(PASSWORD);
  expect(message).not.toContain(Buffer.from(`default_user:${PASSWORD}`).toString('base64'));
  return message.replaceAll(/:\d{4,5}\b/g, ':PORT');
}

describe('the management API of pods', () => {
  it('is asked at the next pod where one does not answer or starts, and then there first', async () => {
    const seen: string[] = [];
    const starting = await serve(answer(503, '', seen));
    const management = connect([await closedUrl(), starting, await serve(OVERVIEW)]);
    expect(await management.overview(signal)).toEqual({ version: '3.10.8' });
    expect(await management.overview(signal)).toEqual({ version: '3.10.8' });
    expect(seen).toEqual(['/api/overview']);
  });

  it('says of every pod why there is no answer', async () => {
    const starting = await serve(answer(503, ''));
    expect(await failureOf(connect([await closedUrl(), starting]).overview(signal))).toBe(
      'the management API of pod rabbit-server-0 (http://127.0.0.1:PORT): connection refused: RabbitMQ has to run there with the plugin rabbitmq_management enabled; ' +
        'the management API of pod rabbit-server-1 (http://127.0.0.1:PORT) answered 503 to GET /api/overview',
    );
    expect(await failureOf(connect([]).overview(signal))).toBe('no pod of RabbitMQ has an address yet');
  });

  it.each([
    [
      401,
      '{"error":"not_authorised","reason":"Login failed"}',
      'the credentials of Secret openstack/rabbit-default-user are not accepted: put those of a user with the tag administrator there',
    ],
    [
      401,
      '{"error":"not_authorised","reason":"Not administrator user"}',
      'the user of Secret openstack/rabbit-default-user has to have the tag administrator',
    ],
    [404, 'Not Found', 'the plugin rabbitmq_management has to be enabled, without a path prefix'],
    [500, '{"error":"x","reason":"it &lt;broke&gt;"}', 'it <broke>'],
  ])('says what to do about %d', async (status, text, advice) => {
    const url = await serve(answer(status, text));
    expect(await failureOf(connect([url]).overview(signal))).toBe(
      `the management API of pod rabbit-server-0 (http://127.0.0.1:PORT) answered ${status} to GET /api/overview: ${advice}`,
    );
  });

  it('ends in time, and with its signal', async () => {
    const url = await serve((_, response) => void response.write('{'));
    expect(await failureOf(connect([url], { timeoutMs: 50 }).overview(signal))).toBe(
      'the management API of pod rabbit-server-0 (http://127.0.0.1:PORT) did not answer within 0.05 s',
    );
    const controller = new AbortController();
    const asked = failureOf(connect([url]).overview(controller.signal));
    controller.abort();
    expect(await asked).toBe(
      'asking the management API of pod rabbit-server-0 (http://127.0.0.1:PORT) was given up',
    );
  });

  it('is read up to a limit', async () => {
    const url = await serve((_, response) => {
      const block = Buffer.alloc(2 ** 20, 0x20);
      const more = (): void => {
        while (!response.destroyed && response.write(block));
      };
      response.on('drain', more);
      more();
    });
    expect(await failureOf(connect([url], { timeoutMs: 20_000 }).overview(signal))).toBe(
      'the management API of pod rabbit-server-0 (http://127.0.0.1:PORT): its answer has more than 16 MiB',
    );
  });

  it.each([
    ['{"rabbitmq_version"', 'its answer to GET /api/overview is not valid JSON'],
    ['[]', 'the management API answered GET /api/overview with something else'],
  ])('is held to what it should answer: %s', async (text, says) => {
    expect(await failureOf(connect([await serve(answer(200, text))]).overview(signal))).toContain(says);
  });

  it('speaks TLS with the cluster’s own authority and name, and with no other', async () => {
    const ca = await makeCa({ commonName: 'cluster', days: 1 });
    const tls = await makeServingCertificate({ ca, dnsNames: ['rabbit.openstack.svc'], ips: [], days: 1 });
    const url = await serve(OVERVIEW, tls);
    const named = (serverName: string, authority: string | undefined = ca.cert) =>
      connect([url], { tls: { ca: authority, serverName } }).overview(signal);
    expect(await named('rabbit.openstack.svc')).toEqual({ version: '3.10.8' });
    const says = 'its certificate is not accepted (';
    expect(await failureOf(named('other.openstack.svc'))).toContain(`${says}ERR_TLS_CERT_ALTNAME_INVALID)`);
    const other = await makeCa({ commonName: 'other', days: 1 });
    expect(await failureOf(named('rabbit.openstack.svc', other.cert))).toContain(says);
  });

  it('lists queues of all pages, again where they moved, and gives up where they never rest', async () => {
    const pages: Record<string, unknown>[] = [];
    const queue = (name: string) => ({ vhost: '/', name, type: 'classic', durable: true });
    const page = (names: string[], filtered: number) =>
      pages.push({ page_count: 2, filtered_count: filtered, items: names.map(queue) });
    const url = await serve((_, response) => {
      response.end(JSON.stringify(pages.length > 1 ? pages.shift() : pages[0]));
    });
    page(['a', 'b'], 4);
    page(['b', 'c'], 4);
    page(['a', 'b'], 4);
    page(['c', 'd'], 4);
    page(['same'], 2);
    const management = connect([url]);
    expect((await management.queues(signal)).map(({ name }) => name)).toEqual(['a', 'b', 'c', 'd']);
    expect(await failureOf(management.queues(signal))).toBe(
      'queues come and go faster than the management API can list them',
    );
  });
});

describe('definitions that are brought in', () => {
  it('all get in but those that are refused, each of which is found', async () => {
    const taken: string[] = [];
    const url = await serve(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const body = JSON.parse(Buffer.concat(chunks).toString()) as { queues: { name: string }[] };
      const bad = body.queues.find(({ name }) => Number(name) % 37 === 5);
      response.statusCode = bad === undefined ? 204 : 400;
      if (bad === undefined) taken.push(...body.queues.map(({ name }) => name));
      response.end(
        bad && JSON.stringify({ error: 'bad_request', reason: `precondition_failed: ${bad.name}` }),
      );
    });
    const names = Array.from({ length: 250 }, (_, at) => String(at));
    const queues = names.map((name) => ({ vhost: '/', name }));
    const refusals = await importDefinitions(connect([url]), { queues }, signal);
    const bad = names.filter((name) => Number(name) % 37 === 5);
    expect(refusals.map(({ definition, said }) => [definition.object['name'], said])).toEqual(
      bad.map((name) => [name, `precondition_failed: ${name}`]),
    );
    expect(taken).toEqual(names.filter((name) => !bad.includes(name)));
  });

  it('are no matter of the objects where the broker itself fails', async () => {
    const url = await serve(answer(500, '{"reason":"user with hash abc"}'));
    const failing = importDefinitions(
      connect([url]),
      { users: [{ name: 'a', password_hash: 'abc' }] },
      signal,
    );
    expect(await failureOf(failing)).toBe(
      'the management API of pod rabbit-server-0 (http://127.0.0.1:PORT) answered 500 to POST /api/definitions',
    );
  });
});

describe('the inventory of messages', () => {
  const queue = (name: string, more: object) => ({
    vhost: '/',
    name,
    type: 'classic',
    durable: true,
    autoDelete: false,
    exclusive: false,
    arguments: {},
    messages: 5,
    persistent: 3,
    ...more,
  });

  it('is of what a wipe loses and a restart keeps, the fullest queue first', () => {
    const queues = [
      queue('classic', {}),
      queue('empty', { persistent: 0 }),
      queue('stream', { type: 'stream', persistent: undefined }),
      queue('empty stream', { type: 'stream', messages: 0, persistent: undefined }),
      queue('exclusive', { exclusive: true }),
      queue('transient', { durable: false, persistent: undefined }),
    ];
    expect(inventoryOf(queues)).toEqual({
      holding: [
        { vhost: '/', name: 'stream', messages: 5 },
        { vhost: '/', name: 'classic', messages: 3 },
      ],
      messages: 8,
    });
  });

  it('names queues that nobody has counted first: they may hold some', () => {
    const queues = [queue('a', {}), queue('down', { messages: undefined, persistent: undefined })];
    expect(inventoryOf(queues)).toEqual({
      holding: [
        { vhost: '/', name: 'down', messages: undefined },
        { vhost: '/', name: 'a', messages: 3 },
      ],
      messages: 3,
    });
  });
});
