import { once } from 'node:events';
import { mkdtempDisposable, readFile } from 'node:fs/promises';
import { type IncomingHttpHeaders, request as httpRequest } from 'node:http';
import { type RequestOptions, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { createLogger } from '../../../common/log.ts';
import { type HostPort } from '../../../common/options.ts';
import { resolveOptions } from '../../../common/resolve.ts';
import type { ReviewAnswer } from '../../../webhook/answer.ts';
import { type RunningWebhook, startWebhook } from '../../../webhook/main.ts';
import { webhookOptions } from '../../../webhook/options.ts';

/** A log whose lines can be read. */
export function readableLog(level: 'info' | 'debug' = 'info') {
  const lines: Record<string, unknown>[] = [];
  const destination = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  return { lines, log: createLogger({ name: 'test', level, destination }) };
}

export type LogLines = ReturnType<typeof readableLog>['lines'];

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  /** The body as JSON, or as text where it is none. */
  body: unknown;
}

/** One HTTPS request on a connection of its own (or `agent`'s), with the certificate verified against `ca`. */
export async function https(
  address: HostPort,
  ca: string | Buffer,
  options: RequestOptions & { body?: string | Buffer } = {},
): Promise<Answer> {
  const { body, ...rest } = options;
  const outgoing = request({ ...address, ca, path: '/mutate', method: 'POST', agent: false, ...rest });
  const answered = once(outgoing, 'response');
  outgoing.end(body);
  const [response] = await answered;
  // With the answer here, it does not matter whether the server read the whole request.
  outgoing.on('error', () => {});
  const read = await text(response);
  let parsed: unknown = read;
  try {
    parsed = JSON.parse(read);
  } catch {
    // Not JSON: tests compare the text.
  }
  return { status: response.statusCode, headers: response.headers, body: parsed };
}

/** One plain HTTP GET. */
export async function httpGet(
  { host, port }: HostPort,
  path: string,
): Promise<{ status: number; body: string }> {
  const outgoing = httpRequest({ host, port, path, agent: false }).end();
  const [response] = await once(outgoing, 'response');
  return { status: response.statusCode, body: await text(response) };
}

export interface TestWebhook extends AsyncDisposable {
  readonly running: RunningWebhook;
  readonly ca: Buffer;
  readonly caFile: string;
  readonly lines: LogLines;
  /** POST /mutate of a JSON value (or of the very text or bytes) with Content-Type application/json. */
  post(body: unknown, options?: RequestOptions): Promise<Answer>;
  /** As `post`, for what must be answered with a review. */
  review(body: unknown): Promise<ReviewAnswer['response']>;
}

/** The values that the command line would give to `startWebhook`. */
export function webhookValues(flags: Record<string, string | string[] | boolean>) {
  const defaults = { listen: '127.0.0.1:0', adminListen: '127.0.0.1:0', shutdownDelay: '0', noCluster: true };
  return resolveOptions(webhookOptions, { flags: { ...defaults, ...flags }, env: {} }).values;
}

/** Starts the webhook as its command does: on a free port of 127.0.0.1, self-signed, without a cluster. */
export async function startTestWebhook(
  flags: Record<string, string | string[] | boolean> = {},
): Promise<TestWebhook> {
  const folder = await mkdtempDisposable(join(tmpdir(), 'webhook-test-'));
  const caFile = join(folder.path, 'ca.crt');
  const { lines, log } = readableLog();
  const values = webhookValues({ selfSigned: true, caOut: caFile, ...flags });
  const running = await startWebhook(values, log);
  const ca = await readFile(caFile);
  const post = (body: unknown, options: RequestOptions = {}): Promise<Answer> =>
    https(running.address, ca, {
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
      ...options,
    });
  return {
    running,
    ca,
    caFile,
    lines,
    post,
    async review(body) {
      const answer = await post(body);
      if (answer.status !== 200) throw new Error(`HTTP ${answer.status}: ${JSON.stringify(answer.body)}`);
      return (answer.body as ReviewAnswer).response;
    },
    async [Symbol.asyncDispose]() {
      await running.close();
      await folder.remove();
    },
  };
}

type Overrides = Record<string, unknown>;

/** A RabbitmqCluster as a user applies it. */
export function rabbitmqCluster(overrides: { metadata?: Overrides; spec?: Overrides } = {}) {
  return {
    apiVersion: 'rabbitmq.com/v1beta1',
    kind: 'RabbitmqCluster',
    metadata: { name: 'rabbitmq', namespace: 'openstack', ...overrides.metadata },
    spec: { replicas: 3, image: 'rabbitmq:4.3-management', ...overrides.spec },
  };
}

/** An AdmissionReview as an API server sends it, with all that it sends. */
export function admissionReview(object: unknown, overrides: Overrides = {}) {
  return {
    kind: 'AdmissionReview',
    apiVersion: 'admission.k8s.io/v1',
    request: {
      uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
      kind: { group: 'rabbitmq.com', version: 'v1beta1', kind: 'RabbitmqCluster' },
      resource: { group: 'rabbitmq.com', version: 'v1beta1', resource: 'rabbitmqclusters' },
      requestKind: { group: 'rabbitmq.com', version: 'v1beta1', kind: 'RabbitmqCluster' },
      requestResource: { group: 'rabbitmq.com', version: 'v1beta1', resource: 'rabbitmqclusters' },
      name: 'rabbitmq',
      namespace: 'openstack',
      operation: 'CREATE',
      userInfo: { username: 'kubernetes-admin', groups: ['system:masters', 'system:authenticated'] },
      object,
      oldObject: null,
      dryRun: false,
      options: { kind: 'CreateOptions', apiVersion: 'meta.k8s.io/v1' },
      ...overrides,
    },
  };
}
